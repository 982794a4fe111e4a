//! The cluster's actors. A handler calls a pure function or an edge, counts, and replies; whatever
//! waits for the world runs on the I/O runtime and comes back as a message.
//!
//! `do_send` ignores a mailbox's bound, so it is banned here by lint: senders use `send` or
//! `try_send` and handle a full mailbox.

pub mod governor;
mod installation;
mod intake;
pub mod janitor;
pub mod lake_committer;
pub mod lake_writer;
pub mod message;
mod ownership;
pub mod partition_consumer;
mod snapshots;
pub mod supervisor;
#[cfg(test)]
mod tests;
mod waiting;
pub mod warehouse_writer;

use std::convert::Infallible;
use std::future::Future;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tracing::error;

use crate::config::ByteSize;
use crate::flow::backoff::Backoff;
use crate::flow::gather::Bounds;
use crate::record::SinkError;
use crate::telemetry::metrics;

pub use governor::{Governance, Governor};
pub use installation::Installation;
pub use ownership::Edges;
pub use supervisor::Supervisor;

/// Deliveries are bounded by the memory budget; the mailbox only has to outlast a busy moment.
const WRITER_MAILBOX: usize = 1 << 14;

/// Between attempts to write to a sink.
const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// The runtime all I/O runs on: work there outlives a dead actor, hence the claims.
#[derive(Clone)]
pub struct Io {
    handle: Handle,
    cores: usize,
}

impl Io {
    pub fn new(handle: Handle) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self { handle, cores }
    }

    pub fn cores(&self) -> usize {
        self.cores
    }

    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(work)
    }

    /// On a thread that may wait for the disk.
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn_blocking(work)
    }
}

/// Held by an actor for as long as it lives: dropped with it, which is how its death is heard of.
type Alive = oneshot::Sender<Infallible>;

/// Between a death and the next life.
const REBUILD: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));

/// Builds an actor that stands alone on its arbiter, and another one whenever it has died.
async fn tend(what: &str, mut build: impl FnMut(Alive)) {
    // From the beginning, so that the first death is seen as one more.
    metrics::ACTOR_RESTARTS.add([what], 0);
    let mut attempt = 0;
    loop {
        let (alive, death) = oneshot::channel();
        let born = Instant::now();
        build(alive);
        let _ = death.await;
        metrics::ACTOR_RESTARTS.add([what], 1);
        error!(target: "tidegate::actors", "the {what} died and is built anew");
        attempt = if born.elapsed() > Duration::from_secs(60) { 0 } else { attempt + 1 };
        tokio::time::sleep(REBUILD.wait(attempt, rand::random())).await;
    }
}

fn join_error(error: &JoinError) -> SinkError {
    SinkError::passing(format!("the task died: {error}"))
}

fn bounds(max_records: usize, max_bytes: ByteSize, linger: crate::config::Duration) -> Bounds {
    Bounds { max_records, max_bytes: max_bytes.bytes(), linger: linger.get() }
}
