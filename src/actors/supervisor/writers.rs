//! Writers: one set per feed and sink, built when first needed and again when dead.

use std::sync::Arc;

use actix::prelude::*;
use tracing::warn;

use super::super::lake_committer::LakeCommitter;
use super::super::lake_writer::LakeWriter;
use super::super::message::{Abandon, Beat, Deliver, Detach, Flush, Loss};
use super::super::warehouse_writer::WarehouseWriter;
use super::Supervisor;
use crate::config::Feed;
use crate::record::SinkKind;
use crate::telemetry::metrics;

/// The actors of one feed's way into one sink.
pub struct WriterSet {
    pub deliver: Recipient<Deliver>,
    pub flush: Recipient<Flush>,
    pub abandon: Recipient<Abandon>,
    pub beats: Vec<Recipient<Beat>>,
}

impl Supervisor {
    /// The feed's writer for a sink; none while the sink was never reached.
    pub fn writer(&mut self, feed: &Arc<Feed>, sink: SinkKind) -> Option<Recipient<Deliver>> {
        let key = (feed.name.clone(), sink);
        if let Some(writers) = self.writers.get(&key) {
            return Some(writers.deliver.clone());
        }
        let writers = match sink {
            SinkKind::Lake => self.build_lake(feed),
            SinkKind::Warehouse => self.build_warehouse(feed),
        }?;
        let deliver = writers.deliver.clone();
        self.writers.insert(key, writers);
        Some(deliver)
    }

    fn build_warehouse(&mut self, feed: &Arc<Feed>) -> Option<WriterSet> {
        let warehouse = self.setup.edges.warehouse.clone()?;
        let options = feed.warehouse.clone()?;
        let (feed, io) = (feed.clone(), self.setup.io.clone());
        let patience = self.setup.node.detach_after.get();
        let arbiter = self.arbiter();
        let writer = WarehouseWriter::start_in_arbiter(&arbiter, move |_| {
            WarehouseWriter::build(feed, &options, warehouse, io, patience)
        });
        Some(WriterSet {
            deliver: writer.clone().recipient(),
            flush: writer.clone().recipient(),
            abandon: writer.clone().recipient(),
            beats: vec![writer.recipient()],
        })
    }

    fn build_lake(&mut self, feed: &Arc<Feed>) -> Option<WriterSet> {
        let table = self.setup.edges.opened_table(feed)?;
        let options = feed.lake.clone()?;
        let (io, budget) = (self.setup.io.clone(), self.setup.budget.clone());
        let patience = self.setup.node.detach_after.get();
        let arbiter = self.arbiter();
        let committer = {
            let (name, table, io) = (feed.name.clone(), table.clone(), io.clone());
            LakeCommitter::start_in_arbiter(&arbiter, move |_| {
                LakeCommitter::build(name, table, io, patience)
            })
        };
        let writer = {
            let (feed, committer) = (feed.clone(), committer.clone());
            LakeWriter::start_in_arbiter(&arbiter, move |_| {
                LakeWriter::build(&feed, &options, table, committer, io, budget, patience)
            })
        };
        Some(WriterSet {
            deliver: writer.clone().recipient(),
            flush: writer.clone().recipient(),
            abandon: writer.clone().recipient(),
            beats: vec![writer.recipient(), committer.recipient()],
        })
    }

    /// A writer died: its lanes are lost, and the next claim builds another.
    pub fn writer_died(&mut self, feed: &Arc<str>, sink: SinkKind) {
        if self.writers.remove(&(feed.clone(), sink)).is_none() {
            return;
        }
        warn!(target: "tidegate::supervisor", %feed, %sink, "a writer died; it is built anew");
        metrics::ACTOR_RESTARTS.add(["writer"], 1);
        for ((of, _), owned) in &self.owned {
            if let (true, Some(consumer)) = (of == feed, owned.consumer()) {
                drop(consumer.try_send(Detach { sink, loss: Loss::WriterDied }));
            }
        }
    }
}
