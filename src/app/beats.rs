//! What the node tells of itself to all who ask, every few seconds, for as long as it runs.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use chrono::Utc;
use tokio::sync::Mutex;
use tracing::warn;
use uuid::Uuid;

use crate::actors::message::Status;
use crate::actors::{Io, Supervisor};
use crate::beats::Beats;
use crate::grants::node_name;
use crate::record::SinkError;
use crate::status::{NodeTold, PartitionTold, Progress};
use crate::telemetry::metrics;
use crate::telemetry::pulse::Pulse;

/// One that takes longer is left out: the next tells more.
const WITHIN: Duration = Duration::from_secs(10);
/// A node that ends does not wait longer for its leave.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// A node among those that tell of themselves.
#[derive(Clone)]
pub struct Presence {
    instance: Uuid,
    group: String,
    started_ms: i64,
    beats: Beats,
    pulse: Arc<Pulse>,
    io: Io,
    /// Whether it has left. Held while others are told, so that nothing is told behind its leave.
    left: Arc<Mutex<bool>>,
}

impl Presence {
    pub fn new(beats: Beats, group: String, pulse: Arc<Pulse>, io: Io) -> Self {
        let (instance, started_ms) = (Uuid::new_v4(), Utc::now().timestamp_millis());
        Self { instance, group, started_ms, beats, pulse, io, left: Arc::default() }
    }

    /// Tells until it has left. Called on an actix system.
    pub async fn tell(self, supervisor: Addr<Supervisor>) {
        let mut before: Option<Progress> = None;
        while let Ok(status) = supervisor.send(Status).await {
            let partitions: Vec<PartitionTold> = status.into_iter().map(|it| it.told).collect();
            let at_ms = Utc::now().timestamp_millis();
            let progress = Progress::of(at_ms, &partitions);
            let told = self.told(at_ms).of_partitions(partitions, before.as_ref());
            before = Some(progress);
            let (beats, instance) = (self.beats.clone(), self.instance);
            let left = self.left.clone();
            let telling = async move {
                let left = left.lock().await;
                if *left { Ok(()) } else { beats.tell(instance, &told).await }
            };
            if let Err(error) = self.within(WITHIN, telling).await {
                warn!(target: "tidegate::app", %error, "others cannot be told of this node: to them it is silent");
            }
            tokio::time::sleep(self.beats.every()).await;
        }
    }

    /// It is no part of the cluster any more.
    pub async fn leave(&self) {
        let (beats, instance, left) = (self.beats.clone(), self.instance, self.left.clone());
        let leaving = async move {
            *left.lock().await = true;
            beats.leave(instance).await
        };
        // Else it is forgotten after a while.
        drop(self.within(LEAVE_WITHIN, leaving).await);
    }

    async fn within(
        &self,
        time: Duration,
        work: impl Future<Output = Result<(), SinkError>> + Send + 'static,
    ) -> Result<(), SinkError> {
        let done = self.io.spawn(async move { tokio::time::timeout(time, work).await });
        match done.await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(SinkError::passing(format!("no answer in {time:?}"))),
            Err(error) => Err(SinkError::passing(error)),
        }
    }

    fn told(&self, at_ms: i64) -> NodeTold {
        let (memory_used, memory_limit) = self.pulse.memory();
        NodeTold {
            node: node_name(),
            group: self.group.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started_ms,
            at_ms,
            draining: self.pulse.is_draining(),
            memory_used,
            memory_limit,
            janitor: metrics::JANITOR.is_set(),
            ..NodeTold::default()
        }
    }
}
