//! Before a batch is decoded, the schemas of its records are asked for, as far as nobody has yet.
//!
//! Until they are there the batch waits, and what its stream brings behind it, in order. If the answer
//! is long in coming, the stream is halted and what waited is let go of, so that the budget is there
//! for feeds that wait for nothing; with the answer it is read again from where it stood. The lanes
//! stay as they are: what is in flight becomes durable, and a drain has nothing to wait for.

use std::collections::BTreeSet;
use std::time::Duration;

use actix::prelude::*;

use super::PartitionConsumer;
use crate::actors::message::{Reading, Stream};
use crate::actors::waiting::Waiting;
use crate::avro::Known;
use crate::flow::backoff::Backoff;
use crate::flow::lane::Wants;
use crate::record::{OffsetRange, RawBatch};
use crate::registry::Away;
use crate::telemetry::metrics;

/// How long batches are held for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));

/// What is asked of the registry now, or again after a while.
#[derive(Default)]
pub struct Asking {
    ids: Option<BTreeSet<u32>>,
    /// Failures in a row.
    failed: u32,
    /// Counts questions.
    number: u64,
}

impl PartitionConsumer {
    pub(super) fn waiting_in(&mut self, stream: Stream) -> &mut Waiting {
        let known = self.waiting.iter().position(|waiting| waiting.stream == stream);
        let index = known.unwrap_or_else(|| {
            self.waiting.push(Waiting::new(stream));
            self.waiting.len() - 1
        });
        &mut self.waiting[index]
    }

    /// Takes what waits, as far as it can be decoded, and asks for what is lacking.
    pub(super) fn go_on(&mut self, ctx: &mut Context<Self>) {
        let mut lacking = BTreeSet::new();
        let mut index = 0;
        while let (false, Some(waiting)) = (self.stopped, self.waiting.get(index)) {
            let stream = waiting.stream;
            let Some(read) = waiting.first().cloned() else {
                index += 1;
                continue;
            };
            let unknown = self.unknown_schemas(&read.raw, stream);
            if !unknown.is_empty() {
                lacking.extend(unknown);
                index += 1;
                continue;
            }
            self.waiting[index].pop();
            match stream {
                Stream::Main => self.on_main(&read, ctx),
                Stream::CatchUp(sink) => self.on_catch_up(sink, &read, ctx),
            }
        }
        if self.stopped {
            self.waiting.clear();
        } else if !lacking.is_empty() && self.asking.ids.is_none() {
            self.ask(lacking, ctx);
        }
    }

    /// The schemas that a batch cannot be decoded without and that are not at hand.
    fn unknown_schemas(&mut self, raw: &RawBatch, stream: Stream) -> BTreeSet<u32> {
        let (Some(registry), Some(from)) = (&self.registry, self.wanted(raw.range, stream)) else {
            return BTreeSet::new();
        };
        let mut unknown = self.decoder.unknown_schemas(raw, from);
        unknown.retain(|id| match registry.cached(*id) {
            Some(known) => {
                self.decoder.learn(*id, known);
                false
            }
            None => true,
        });
        unknown
    }

    /// From where on a range would be decoded, if at all.
    fn wanted(&self, range: OffsetRange, stream: Stream) -> Option<i64> {
        let from = |wants| match wants {
            Wants::From(next) => Some(next),
            Wants::Nothing | Wants::Missing { .. } => None,
        };
        match stream {
            Stream::CatchUp(sink) => from(self.lanes[self.index(sink)?].lane.wants_catch_up(range)),
            Stream::Main => {
                let lanes = self.lanes.iter().map(|lane| &lane.lane);
                let wanted = lanes.filter_map(|lane| match lane.holds(range) {
                    true => Some(range.start),
                    false => from(lane.wants_main(range)),
                });
                wanted.min()
            }
        }
    }

    fn ask(&mut self, ids: BTreeSet<u32>, ctx: &mut Context<Self>) {
        let Some(registry) = self.registry.clone() else { return };
        self.asking.ids = Some(ids.clone());
        self.asking.number += 1;
        let number = self.asking.number;
        let answer = self.io.spawn(async move { registry.schemas(ids).await });
        ctx.spawn(answer.into_actor(self).map(|answer, consumer, ctx| match answer {
            Ok(Ok(found)) => consumer.answered(found, ctx),
            Ok(Err(away)) => consumer.unanswered(&away, ctx),
            Err(error) => consumer.unanswered(&Away::new(error.to_string()), ctx),
        }));
        ctx.run_later(PATIENCE, move |consumer, ctx| {
            if consumer.asking.number == number && consumer.asking.ids.is_some() {
                consumer.halt_streams(ctx);
            }
        });
    }

    fn answered(&mut self, found: Vec<(u32, Known)>, ctx: &mut Context<Self>) {
        (self.asking.ids, self.asking.failed) = (None, 0);
        if self.stopped {
            return;
        }
        for (id, known) in found {
            self.decoder.learn(id, known);
        }
        for index in 0..self.waiting.len() {
            if self.waiting[index].is_halted() {
                self.read_again(index, ctx);
            }
        }
        self.go_on(ctx);
    }

    /// However often: what cannot be read now is not lost, and no decision could mend it here.
    fn unanswered(&mut self, away: &Away, ctx: &mut Context<Self>) {
        let Some(ids) = self.asking.ids.clone().filter(|_| !self.stopped) else { return };
        tracing::debug!(target: "tidegate::partition", feed = %self.feed.name, source = %self.source, reason = %away, ?ids, "waiting for schemas");
        metrics::REGISTRY_WAITS.add([&self.feed.name], 1);
        self.halt_streams(ctx);
        let wait = RETRY.wait(self.asking.failed, rand::random());
        self.asking.failed += 1;
        ctx.run_later(wait, move |consumer, ctx| {
            if !consumer.stopped {
                consumer.ask(ids, ctx);
            }
        });
    }

    fn halt_streams(&mut self, ctx: &Context<Self>) {
        for index in 0..self.waiting.len() {
            if self.waiting[index].halt() {
                self.tell_reading(index, None, ctx);
            }
        }
    }

    fn read_again(&mut self, index: usize, ctx: &Context<Self>) {
        let from = match self.waiting[index].stream {
            Stream::Main => Some(self.main_next),
            Stream::CatchUp(sink) => {
                self.index(sink).and_then(|lane| self.lanes[lane].lane.catch_up_next())
            }
        };
        match from {
            Some(from) => {
                self.waiting[index].go_back(from);
                self.tell_reading(index, Some(from), ctx);
            }
            // The lane has another way by now.
            None => self.waiting[index].forget(),
        }
    }

    fn tell_reading(&self, index: usize, from: Option<i64>, ctx: &Context<Self>) {
        let reading = Reading {
            feed: self.feed.name.clone(),
            source: self.source.clone(),
            consumer: ctx.address(),
            stream: self.waiting[index].stream,
            from,
        };
        if let Err(SendError::Full(reading)) = self.reading.try_send(reading) {
            let supervisor = self.reading.clone();
            actix::spawn(async move {
                let _ = supervisor.send(reading).await;
            });
        }
    }
}
