//! What commands print. `println!` panics when nobody reads any more, as behind `| head`; and a
//! SIGPIPE left at its default would end connections' writers too, which not all ask to be spared.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// `println!`, but the command goes on, and ends as it would, whether or not anybody reads.
macro_rules! answer {
    ($($words:tt)*) => { $crate::telemetry::print::to_stdout(format_args!($($words)*)) };
}

/// `eprintln!`, likewise.
macro_rules! tell {
    ($($words:tt)*) => { $crate::telemetry::print::to_stderr(format_args!($($words)*)) };
}

pub(crate) use {answer, tell};

static INCOMPLETE: AtomicBool = AtomicBool::new(false);

pub fn to_stdout(words: Arguments<'_>) {
    match writeln!(io::stdout(), "{words}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            INCOMPLETE.store(true, Ordering::Relaxed);
            tell!("error: standard output: {error}");
        }
        _ => {}
    }
}

pub fn to_stderr(words: Arguments<'_>) {
    drop(writeln!(io::stderr(), "{words}"));
}

/// Whether a part of what was printed is in no file and no pipe, though somebody wants it.
pub fn is_incomplete() -> bool {
    INCOMPLETE.load(Ordering::Relaxed)
}
