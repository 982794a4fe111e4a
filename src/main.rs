fn main() {
    std::process::exit(tidegate::cli::main() as i32);
}
