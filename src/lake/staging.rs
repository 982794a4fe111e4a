//! Files encoded on the blocking pool, and written while the next ones are made.

use std::future::Future;

use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::StagedFile;
use crate::record::SinkError;

/// Files of one set that are written at the same time.
const PUTS: usize = 8;
/// Files that are encoded and wait for that. However many a set has, no more are in memory.
const AHEAD: usize = 2;

/// Runs `encode`, which hands over one file after the other and ends early when one is not taken, and
/// writes each by `put`. Answers in the order in which they were made.
pub async fn stage<F, P>(
    encode: impl FnOnce(&mut dyn FnMut(F) -> bool) -> Result<(), ArrowError> + Send + 'static,
    put: impl Fn(F) -> P,
) -> Result<Vec<StagedFile>, SinkError>
where
    F: Send + 'static,
    P: Future<Output = Result<StagedFile, SinkError>>,
{
    let (ready, files) = mpsc::channel(AHEAD);
    let encoding =
        tokio::task::spawn_blocking(move || encode(&mut |file| ready.blocking_send(file).is_ok()));
    let files = stream::unfold(files, |mut files| async {
        let file = files.recv().await?;
        Some((file, files))
    });
    // A write that fails drops the receiver, and with it ends the encoding.
    let staged = files.map(put).buffered(PUTS).try_collect().await?;
    encoding
        .await
        .map_err(|error| SinkError::passing(format!("encoding: {error}")))?
        .map_err(|error| SinkError::lasting(format!("encoding: {error}")))?;
    Ok(staged)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::record::TopicId;

    fn file(number: usize) -> StagedFile {
        StagedFile {
            path: number.to_string(),
            size: 0,
            rows: 0,
            partition_values: Vec::new(),
            stats: String::new(),
            time: String::new(),
            by: String::new(),
            part: None,
            topic: TopicId::UNKNOWN,
            written_ms: None,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn few_files_are_in_memory_however_many_there_are() {
        let (made, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let written = AtomicUsize::new(0);
        let making = made.clone();
        let staged = stage(
            move |take| {
                for number in 0..1000 {
                    making.fetch_add(1, Ordering::SeqCst);
                    assert!(take(number));
                }
                Ok(())
            },
            |number| {
                let (made, most, written) = (&made, &most, &written);
                async move {
                    tokio::task::yield_now().await;
                    let held = made.load(Ordering::SeqCst) - written.fetch_add(1, Ordering::SeqCst);
                    most.fetch_max(held, Ordering::SeqCst);
                    Ok(file(number))
                }
            },
        );
        let staged = staged.await.unwrap();
        assert!(staged.iter().enumerate().all(|(number, file)| file.path == number.to_string()));
        assert_eq!(staged.len(), 1000);
        let most = most.load(Ordering::SeqCst);
        // One more is in the encoder's hands.
        assert!(most <= PUTS + AHEAD + 1, "{most} files at once");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_write_that_fails_ends_the_encoding() {
        let outcome = stage(
            |take| {
                while take(0) {}
                Ok(())
            },
            |_| async { Err(SinkError::passing("away")) },
        );
        assert_eq!(outcome.await.unwrap_err().to_string(), SinkError::passing("away").to_string());
    }
}
