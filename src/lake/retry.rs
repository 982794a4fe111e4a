//! How often a commit that others came before is tried again, and how long it waits in between.

use std::time::Duration;

use crate::flow::backoff::Backoff;
use crate::record::SinkError;

/// Attempts at one commit.
pub const ATTEMPTS: u32 = 10;
const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

/// Waits after a lost `attempt`, counted from 0, if there was one before it: the first conflict is
/// ordinary, as somebody else's commit came first.
pub async fn pause(attempt: u32) {
    if let Some(lost_before) = attempt.checked_sub(1) {
        tokio::time::sleep(RETRY.wait(lost_before, rand::random())).await;
    }
}

/// What is said when all attempts are lost.
pub fn lost() -> SinkError {
    SinkError::passing(format!("no commit in {ATTEMPTS} attempts"))
}
