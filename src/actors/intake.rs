//! What waits in a writer: deliveries in order, and when they are due.

use std::time::{Duration, Instant};

use opentelemetry::trace::SpanContext;

use crate::flow::gather::{Bounds, Gathered};
use crate::record::{Claim, Part, TopicPartition};

use super::message::{Deliver, Loss, Outcome, Receipt};
use crate::record::SinkKind;

pub struct Intake {
    sink: SinkKind,
    bounds: Bounds,
    waiting: Vec<Deliver>,
    gathered: Gathered,
}

/// What leaves a writer together: parts, and whom to answer.
pub struct Load {
    pub parts: Vec<Part>,
    pub receipts: Vec<actix::Recipient<Receipt>>,
    pub records: usize,
    /// The spans of what it carries.
    pub traces: Vec<SpanContext>,
    /// Answers for parts that an older claim left behind.
    pub left_out: Vec<(actix::Recipient<Receipt>, Receipt)>,
}

impl Intake {
    pub fn new(sink: SinkKind, bounds: Bounds) -> Self {
        Self { sink, bounds, waiting: Vec::new(), gathered: Gathered::default() }
    }

    pub fn push(&mut self, deliver: Deliver) {
        let batch = &deliver.batch;
        let records = batch.num_rows() + batch.rejects.len();
        self.gathered.add(records, batch.size(), Instant::now());
        self.waiting.push(deliver);
    }

    /// How long the oldest of what waits may wait.
    pub fn wait(&mut self, linger: Duration) {
        self.bounds.linger = linger;
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn hurry(&mut self) {
        self.gathered.urgent = !self.waiting.is_empty();
    }

    pub fn due_in(&self) -> Option<Duration> {
        self.gathered.due_in(&self.bounds, Instant::now())
    }

    pub fn forget(&mut self, claims: &[Claim]) {
        self.waiting.retain(|deliver| !claims.contains(&deliver.claim));
        self.recount();
    }

    fn recount(&mut self) {
        let (since, urgent) = (self.gathered.since, self.gathered.urgent);
        self.gathered = Gathered::default();
        for deliver in &self.waiting {
            let records = deliver.batch.num_rows() + deliver.batch.rejects.len();
            self.gathered.add(records, deliver.batch.size(), since.unwrap_or_else(Instant::now));
        }
        self.gathered.urgent = urgent && !self.waiting.is_empty();
    }

    /// Takes what is due, at most the bounds' worth, grouped into parts.
    pub fn take(&mut self) -> Load {
        let mut bytes = 0;
        let mut records = 0;
        let mut count = 0;
        for deliver in &self.waiting {
            if count > 0 && (records >= self.bounds.max_records || bytes >= self.bounds.max_bytes) {
                break;
            }
            bytes += deliver.batch.size();
            records += deliver.batch.num_rows() + deliver.batch.rejects.len();
            count += 1;
        }
        let taken: Vec<Deliver> = self.waiting.drain(..count).collect();
        if self.waiting.is_empty() {
            self.gathered = Gathered::default();
        } else {
            self.recount();
        }
        load(self.sink, taken, records)
    }

    /// Everything that waits is given up.
    pub fn fail_all(&mut self, loss: &Loss) -> Vec<(actix::Recipient<Receipt>, Receipt)> {
        self.gathered = Gathered::default();
        self.waiting
            .drain(..)
            .map(|deliver| {
                let outcome = Outcome::Lost(loss.clone());
                (deliver.receipts, Receipt { sink: self.sink, claim: deliver.claim, outcome })
            })
            .collect()
    }
}

fn load(sink: SinkKind, taken: Vec<Deliver>, records: usize) -> Load {
    let mut load = Load {
        parts: Vec::new(),
        receipts: Vec::new(),
        records,
        traces: taken.iter().map(|deliver| deliver.trace.clone()).collect(),
        left_out: Vec::new(),
    };
    let mut index: std::collections::HashMap<(TopicPartition, Claim), usize> = Default::default();
    for deliver in taken {
        let key = (deliver.batch.source.clone(), deliver.claim);
        let at = *index.entry(key).or_insert_with(|| {
            load.parts.push(Part {
                source: deliver.batch.source.clone(),
                topic_id: deliver.topic_id,
                claim: deliver.claim,
                batches: Vec::new(),
            });
            load.receipts.push(deliver.receipts.clone());
            load.parts.len() - 1
        });
        load.parts[at].batches.push(deliver.batch);
    }
    // A partition claimed anew while its former batches still waited: those would be refused, and
    // with them every other part of the same file.
    let mut last: std::collections::HashMap<TopicPartition, Claim> = Default::default();
    for part in &load.parts {
        last.insert(part.source.clone(), part.claim);
    }
    let pairs = load.parts.drain(..).zip(load.receipts.drain(..)).collect::<Vec<_>>();
    for (part, to) in pairs {
        if last.get(&part.source) == Some(&part.claim) {
            load.parts.push(part);
            load.receipts.push(to);
        } else {
            // Whichever of the two claims is alive asks again.
            let outcome = Outcome::Lost(Loss::Fenced { found: None });
            load.left_out.push((to, Receipt { sink, claim: part.claim, outcome }));
        }
    }
    load
}

/// Sends a receipt however full the mailbox is: a lost receipt would leave its lane waiting.
pub async fn answer(receipts: Vec<(actix::Recipient<Receipt>, Receipt)>) {
    for (to, receipt) in receipts {
        // A closed mailbox is a consumer that is gone; its successor claims anew.
        let _ = to.send(receipt).await;
    }
}
