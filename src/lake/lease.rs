//! A lease in the lake, for clusters without a database: numbered documents, each made once, of which the last
//! counts. Its holder writes it again to renew it. Nodes' clocks decide, so they must agree within the
//! lease's time; what it guards must be safe without it.

use std::sync::Arc;
use std::time::Duration;

use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};

use super::LakeStore;
use super::log::{judged, judged_write};
use super::numbered::{name, numbers};
use crate::record::SinkError;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    holder: String,
    until_ms: i64,
}

pub struct LakeLease(Arc<dyn ObjectStore>);

impl LakeLease {
    pub fn new(lake: &LakeStore, name: &str) -> Self {
        Self(lake.below(&format!("_tidegate/leases/{name}")))
    }

    /// Takes the lease, or renews it, and answers its token; or who has it.
    pub async fn hold(
        &self,
        holder: &str,
        time: Duration,
        now_ms: i64,
    ) -> Result<Result<i64, String>, SinkError> {
        let there = numbers(self.0.as_ref()).await?;
        let last = there.last().copied().unwrap_or(0);
        let until_ms = now_ms + time.as_millis() as i64;
        // One that reaches beyond was written by a clock that was ahead.
        let far_ms = now_ms + 4 * time.as_millis() as i64;
        let body = |holder: &str| {
            let document = Document { holder: holder.to_owned(), until_ms };
            serde_json::to_vec(&document).map_err(SinkError::lasting)
        };
        match self.read(last).await? {
            Some(held) if held.holder == holder => {
                let written = self.0.put(&name(last), body(holder)?.into()).await;
                written.map_err(|error| judged_write(&error).context("renewing a lease"))?;
                // Another may have taken it while this one slept before its writing.
                let newest = self.newest().await?.unwrap_or(last);
                if newest > last {
                    return Ok(Err(self
                        .read(newest)
                        .await?
                        .map_or_else(String::new, |it| it.holder)));
                }
                return Ok(Ok(last as i64));
            }
            Some(held) if held.until_ms > now_ms && held.until_ms < far_ms => {
                return Ok(Err(held.holder));
            }
            _ => {}
        }
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.0.put_opts(&name(last + 1), body(holder)?.into(), create).await {
            Ok(_) => {}
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                let by = self.read(last + 1).await?;
                return Ok(Err(by.map_or_else(String::new, |it| it.holder)));
            }
            Err(error) => return Err(judged_write(&error).context("taking a lease")),
        }
        // One that slept before its writing may have come behind a newer one.
        if self.newest().await?.is_some_and(|newest| newest > last + 1) {
            return Ok(Err(String::new()));
        }
        for old in there.into_iter().filter(|old| *old < last) {
            match self.0.delete(&name(old)).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(judged(&error)),
            }
        }
        Ok(Ok(last as i64 + 1))
    }

    /// Ends the lease if this is its holder.
    pub async fn release(&self, holder: &str) -> Result<(), SinkError> {
        let Some(last) = self.newest().await? else { return Ok(()) };
        if self.read(last).await?.is_none_or(|held| held.holder != holder) {
            return Ok(());
        }
        let over = Document { holder: holder.to_owned(), until_ms: 0 };
        let body = serde_json::to_vec(&over).map_err(SinkError::lasting)?;
        let written = self.0.put(&name(last), body.into()).await;
        written.map(drop).map_err(|error| judged_write(&error).context("ending a lease"))
    }

    async fn newest(&self) -> Result<Option<u64>, SinkError> {
        Ok(numbers(self.0.as_ref()).await?.last().copied())
    }

    /// One that is damaged counts as over.
    async fn read(&self, number: u64) -> Result<Option<Document>, SinkError> {
        let failed = |error: Error| judged(&error).context("reading a lease");
        match self.0.get(&name(number)).await {
            Ok(got) => Ok(serde_json::from_slice(&got.bytes().await.map_err(failed)?).ok()),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::tests::Lab;

    #[tokio::test(flavor = "multi_thread")]
    async fn one_holds_it_until_it_is_over() {
        let lab = Lab::new();
        let lease = LakeLease::new(&lab.store(), "janitor");
        let time = Duration::from_secs(1);
        assert_eq!(lease.hold("a", time, 0).await.unwrap(), Ok(1));
        assert_eq!(lease.hold("b", time, 500).await.unwrap(), Err("a".to_owned()));
        assert_eq!(lease.hold("a", time, 600).await.unwrap(), Ok(1), "renewed");
        assert_eq!(lease.hold("b", time, 1200).await.unwrap(), Err("a".to_owned()));
        assert_eq!(lease.hold("b", time, 1600).await.unwrap(), Ok(2));
        assert_eq!(lease.hold("a", time, 1700).await.unwrap(), Err("b".to_owned()));
        assert_eq!(lease.hold("c", time, 9000).await.unwrap(), Ok(3));
        assert_eq!(lease.hold("d", time, 0).await.unwrap(), Ok(4), "it was a clock that was ahead");
        assert_eq!(lease.hold("c", time, 9000).await.unwrap(), Ok(5));
        lease.release("b").await.unwrap();
        assert_eq!(lease.hold("d", time, 9001).await.unwrap(), Err("c".to_owned()));
        lease.release("c").await.unwrap();
        assert_eq!(lease.hold("d", time, 9002).await.unwrap(), Ok(6));
        assert_eq!(LakeLease::new(&lab.store(), "other").hold("a", time, 0).await.unwrap(), Ok(1));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_many_at_once_one_gets_it() {
        let lab = Lab::new();
        let leases: Vec<_> = (0..8).map(|_| LakeLease::new(&lab.store(), "janitor")).collect();
        let names: Vec<String> = (0..8).map(|number| number.to_string()).collect();
        let mut asking = Vec::new();
        for (lease, name) in leases.iter().zip(&names) {
            asking.push(lease.hold(name, Duration::from_secs(9), 0));
        }
        let answers = futures::future::join_all(asking).await;
        assert_eq!(answers.iter().filter(|it| matches!(it, Ok(Ok(1)))).count(), 1, "{answers:?}");
    }
}
