//! One partition: claimed, continued at the warehouse's watermark, written until the lake's.

use std::sync::Arc;
use std::time::Duration;

use super::Loaded;
use super::read::Index;
use super::rows::{Rows, slices};
use crate::config::{Feed, WarehouseOptions};
use crate::record::{
    Blame, Claim, GapReason, OffsetRange, Part, Reject, SinkError, TopicPartition, Verdict,
};
use crate::verify::{LakeGap, LakeMark};
use crate::warehouse::{ClaimRequest, Warehouse};

/// How often a passing error is tried again, and a claim that a waiting node took is taken back.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Loading<'a> {
    pub feed: &'a Feed,
    pub options: &'a WarehouseOptions,
    pub warehouse: &'a dyn Warehouse,
    pub source: &'a TopicPartition,
    pub mark: &'a LakeMark,
    pub gaps: Vec<LakeGap>,
    pub rows: &'a Index,
    pub rejects: &'a Index,
    pub allow_missing: bool,
}

/// What came of one write.
enum Step {
    Done { refused: u64 },
    Stopped(String),
}

impl Loading<'_> {
    pub async fn run(&self) -> Result<Loaded, String> {
        let start = self.start()?;
        let mut claim = Claim::random();
        let mut next = self.claim(claim, start).await?;
        let end = self.mark.next_offset;
        let mut loaded = Loaded {
            source: self.source.clone(),
            range: OffsetRange::new(next, next),
            rows: 0,
            rejects: 0,
            refused: 0,
            stopped: None,
        };
        if next < start && !self.allow_missing {
            loaded.stopped = Some(format!(
                "the warehouse stands at {next}, and the lake begins at {start}: what is between is \
                 not in the lake; `tidegate resolve --feed {} --sink warehouse --partition {} \
                 --to-offset {start}` records it as a gap",
                self.feed.name, self.source.partition
            ));
            return Ok(loaded);
        }
        while next < end && loaded.stopped.is_none() {
            if let Some(gap) = self.gaps.iter().find(|gap| gap.range.contains(next)) {
                let gap = OffsetRange::new(next, gap.range.end.min(end));
                match self.record_gap(claim, gap).await? {
                    Step::Done { .. } => next = gap.end,
                    Step::Stopped(why) => loaded.stopped = Some(why),
                }
                continue;
            }
            let until = self.gaps.iter().map(|gap| gap.range.start).filter(|gap| *gap > next);
            let until = until.min().unwrap_or(end).min(end);
            let most = self.options.max_records.max(1);
            let range = self.rows.window(self.source, next, until, most);
            let range = self.rejects.window(self.source, next, range.end, most);
            let rows = self.rows.rows(self.feed, self.source, range).await?;
            let mut rejects = self.rejects.rejects(self.source, range).await?;
            // What came back from quarantine is a row.
            let offsets = rows.offsets.values();
            rejects.retain(|reject| offsets.binary_search(&reject.offset).is_err());
            for (range, rows, rejects) in slices(range, rows, rejects, self.options) {
                let counts = (rows.offsets.len() as u64, rejects.len() as u64);
                match self.write(&mut claim, range, rows, rejects).await? {
                    Step::Done { refused } => {
                        loaded.rows += counts.0;
                        loaded.rejects += counts.1;
                        loaded.refused += refused;
                        next = range.end;
                    }
                    Step::Stopped(why) => {
                        loaded.stopped = Some(why);
                        break;
                    }
                }
            }
        }
        loaded.range.end = next.max(loaded.range.start);
        Ok(loaded)
    }

    /// Where the lake's rows begin.
    fn start(&self) -> Result<i64, String> {
        match self.mark.start {
            Some(start) => Ok(start),
            None if self.allow_missing => Ok(self.rows.first(self.source).unwrap_or(0)),
            None => Err(format!(
                "{}: the first entries of the lake's log are gone, so it cannot tell where its rows \
                 begin and whether some were taken away; to load what is there, say --allow-missing",
                self.source
            )),
        }
    }

    async fn claim(&self, claim: Claim, start: i64) -> Result<i64, String> {
        let (source, topic_id) = (self.source.clone(), self.mark.topic_id);
        let request = ClaimRequest { source, topic_id, claim, start: Some(start) };
        let claimed = self.warehouse.claim(self.feed, &[request]).await;
        let claimed = claimed.map_err(|error| error.to_string())?;
        let Some(progress) = claimed.get(self.source) else {
            return Err(format!("{}: the warehouse gave no answer to a claim", self.source));
        };
        if !progress.topic_id.agrees(topic_id) {
            return Err(format!(
                "{}: the warehouse is at a topic with another id ({}) than the lake's ({topic_id}): \
                 the topic was made again in between; `tidegate resolve` settles the one that is \
                 behind",
                self.source, progress.topic_id
            ));
        }
        Ok(progress.next_offset)
    }

    async fn write(
        &self,
        claim: &mut Claim,
        range: OffsetRange,
        rows: Rows,
        rejects: Vec<Reject>,
    ) -> Result<Step, String> {
        let batch = Arc::new(rows.into_batch(self.source.clone(), range, rejects));
        let mut tries = 0;
        loop {
            let part = Part {
                source: self.source.clone(),
                topic_id: self.mark.topic_id,
                claim: *claim,
                batches: vec![batch.clone()],
            };
            let written = self.warehouse.write(self.feed, &[part]).await;
            tries += 1;
            let again = tries < TRIES;
            match written.map(|verdicts| verdicts.into_iter().next()) {
                Ok(Some(Verdict::Durable { quarantined })) => {
                    return Ok(Step::Done { refused: quarantined });
                }
                // Its answer was lost before.
                Ok(Some(Verdict::Fenced { found: Some(found) }))
                    if found == range.end && tries > 1 =>
                {
                    return Ok(Step::Done { refused: 0 });
                }
                // Somebody claimed and wrote nothing: a node that is parked before expired records.
                Ok(Some(Verdict::Fenced { found: Some(found) }))
                    if found == range.start && again =>
                {
                    *claim = Claim::random();
                    self.claim(*claim, range.start).await?;
                }
                Ok(Some(Verdict::Fenced { found })) => {
                    return Ok(Step::Stopped(taken_over(found)));
                }
                Ok(Some(Verdict::TooManyRejects { rejected, rows, reason })) => {
                    return Err(format!(
                        "{}: {rejected} of {rows} records in {range} were refused, the first \
                         because: {reason}; if they are to go to quarantine, raise the feed's \
                         `quarantine.park_above`",
                        self.source
                    ));
                }
                Ok(None) => return Err(format!("{}: the warehouse gave no answer", self.source)),
                Err(error) => wait_if_passing(error, again).await?,
            }
        }
    }

    async fn record_gap(&self, claim: Claim, gap: OffsetRange) -> Result<Step, String> {
        let reason = GapReason::SkippedGap;
        let mut tries = 0;
        loop {
            tries += 1;
            let (source, feed) = (self.source, self.feed);
            match self.warehouse.record_gap(feed, source, claim, gap, reason).await {
                Ok(Verdict::Fenced { found }) if tries == 1 || found != Some(gap.end) => {
                    return Ok(Step::Stopped(taken_over(found)));
                }
                Ok(_) => return Ok(Step::Done { refused: 0 }),
                Err(error) => wait_if_passing(error, tries < TRIES).await?,
            }
        }
    }
}

async fn wait_if_passing(error: SinkError, again: bool) -> Result<(), String> {
    if error.blame != Blame::Passing || !again {
        return Err(error.to_string());
    }
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

fn taken_over(found: Option<i64>) -> String {
    match found {
        Some(found) => format!(
            "a node owns it and went on to {found}; what is left is that node's, or this command's \
             again once it is stopped"
        ),
        None => "its progress was removed meanwhile; run this command again".to_owned(),
    }
}
