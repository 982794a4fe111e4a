//! The `tidegate` command.

/// One allocator for everything in the process, librdkafka included: a message is allocated by one
/// thread and freed by another all day long, which the C library's allocator answers by growing.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Few arenas, so that batches of all threads share what is free, and what is free for a moment
/// goes back to the system: what a node holds stays near its budget.
#[cfg(target_os = "linux")]
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &[u8] =
    b"narenas:2,background_thread:true,dirty_decay_ms:200,muzzy_decay_ms:0\0";

fn main() {
    std::process::exit(tidegate::cli::main() as i32);
}
