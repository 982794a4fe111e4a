//! A feed's rows in a Delta table, and its quarantine in another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use deltalake_core::DeltaTableError;
use futures::TryStreamExt;
use tracing::info;
use uuid::Uuid;

use super::change::Change;
use super::columns::delta_columns;
use super::commit_loop::{Log, State};
use super::encode::encode;
use super::log::{self, Watermarks, judged};
use super::quarantine::{encode_rejects, quarantine_schema};
use super::retry::{self, ATTEMPTS};
use super::{LakeStore, LakeTable, Staged, StagedFile, StagedPart, Staging, lake_schema, staging};
use crate::config::Feed;
use crate::layout::{First, Layout};
use crate::record::{
    GapReason, OffsetRange, Part, Progress, Reject, SinkError, TopicId, TopicPartition, Verdict,
};
use crate::telemetry::trace::Span;

/// One feed's table in the lake, with its quarantine beside it.
pub struct DeltaTable {
    feed: Arc<Feed>,
    rows: Log,
    pub(super) quarantine: Quarantine,
}

/// One feed's quarantine: a Delta table, whatever the format of its rows.
pub struct Quarantine(Log);

impl DeltaTable {
    /// Opens the feed's table, creating it where it is absent, and checks that it can be written.
    pub async fn open(store: &LakeStore, feed: Arc<Feed>) -> Result<Self, SinkError> {
        let layout = Layout::of(&feed).map_err(SinkError::lasting)?;
        refuse_other_format(store, layout.folder(), "_commits", "delta").await?;
        let columns = delta_columns(&lake_schema(&feed), &layout);
        let rows = Log::open(store, layout, columns).await?;
        let quarantine = Quarantine::open(store, &feed.name).await?;
        Ok(Self { feed, rows, quarantine })
    }

    /// Progress recorded for the table in `folder`, if there is one: for reading only.
    pub async fn read_progress(
        store: &LakeStore,
        folder: &str,
    ) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        let store = store.below(folder);
        let mut state = State::default();
        Log::replay(store.as_ref(), &mut state).await?;
        Ok(state.marks.all())
    }
}

impl Quarantine {
    pub async fn open(store: &LakeStore, feed: &str) -> Result<Self, SinkError> {
        let layout = Layout::of_quarantine(feed).map_err(SinkError::lasting)?;
        let columns = delta_columns(&quarantine_schema(), &layout);
        Ok(Self(Log::open(store, layout, columns).await?))
    }

    /// Puts rejects into the quarantine table, each once, whoever else tries.
    pub async fn keep(&self, sets: &[Staged]) -> Result<(), SinkError> {
        let parts: Vec<&StagedPart> = sets
            .iter()
            .flat_map(|set| &set.parts)
            .filter(|part| !part.rejects.is_empty())
            .collect();
        if parts.is_empty() {
            return Ok(());
        }
        let mut state = self.0.state.lock().await;
        for attempt in 0..ATTEMPTS {
            self.0.refresh(&mut state).await?;
            let mut fresh: Vec<(TopicPartition, &[Reject])> = Vec::new();
            let mut topics = Vec::new();
            let mut marks: HashMap<TopicPartition, Progress> = HashMap::new();
            for part in &parts {
                let known = marks.get(&part.source).copied().or(state.marks.get(&part.source));
                // A topic created again begins anew, and so do its offsets.
                let durable = known
                    .filter(|progress| progress.topic_id.agrees(part.topic_id))
                    .map_or(i64::MIN, |progress| progress.next_offset);
                if part.range.end <= durable {
                    continue;
                }
                let first = part.rejects.partition_point(|reject| reject.offset < durable);
                fresh.push((part.source.clone(), &part.rejects[first..]));
                topics.push(part.topic_id);
                let progress = Progress { next_offset: part.range.end, topic_id: part.topic_id };
                marks.insert(part.source.clone(), progress);
            }
            if fresh.is_empty() {
                return Ok(());
            }
            // From before it is there.
            let staged = Staging::now();
            let encoded = encode_rejects(now_ms(), &fresh).map_err(SinkError::lasting)?;
            let mut file = self.0.put(encoded).await?;
            file.topic = one_topic(topics.into_iter());
            staged.refuse_if_old()?;
            if self
                .0
                .try_commit(&mut state, &Change { files: vec![file], marks, ..Change::default() })
                .await?
            {
                return Ok(());
            }
            retry::pause(attempt).await;
        }
        Err(SinkError::passing("the quarantine table is written to by too many at once"))
    }
}

#[async_trait]
impl LakeTable for DeltaTable {
    async fn progress(&self) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        let mut state = self.rows.state.lock().await;
        self.rows.refresh(&mut state).await?;
        state.refuse_after_restore(&self.feed.name)?;
        Ok(state.marks.all())
    }

    async fn begin(&self, starts: &[(TopicPartition, Progress)]) -> Result<(), SinkError> {
        let wanted = |state: &State| {
            let absent = starts.iter().filter(|(source, _)| state.marks.get(source).is_none());
            absent.cloned().collect::<HashMap<_, _>>()
        };
        self.rows.set_progress(&self.feed.name, wanted).await
    }

    async fn stage(&self, parts: Vec<Part>) -> Result<Staged, SinkError> {
        let staged_parts: Vec<StagedPart> = parts.iter().map(StagedPart::of).collect();
        let (feed, layout, now) = (self.feed.clone(), self.rows.layout.clone(), now_ms());
        // From before the first of them.
        let staged = Some(Staging::now());
        let mut files = staging::stage(
            move |take| encode(&feed, &layout, now, &parts, take),
            |file| self.rows.put(file),
        )
        .await?;
        let topic = one_topic(staged_parts.iter().map(|part| part.topic_id));
        files.iter_mut().for_each(|file| file.topic = topic);
        Ok(Staged { id: Uuid::new_v4(), files, parts: staged_parts, gap: None, staged })
    }

    async fn commit(&self, sets: &[Staged]) -> Result<Vec<Vec<Verdict>>, SinkError> {
        self.quarantine.keep(sets).await?;
        let id = Uuid::new_v4();
        let mut state = self.rows.state.lock().await;
        let mut judgement = Judgement::default();
        for attempt in 0..ATTEMPTS {
            let seen = self.rows.refresh(&mut state).await?;
            if seen.contains(&id) {
                info!(target: "tidegate::lake", feed = %self.feed.name, "a commit whose answer was lost had landed");
                return Ok(judgement.verdicts);
            }
            state.refuse_after_restore(&self.feed.name)?;
            judgement = judge(&state.marks, sets);
            if judgement.marks.is_empty() {
                return Ok(judgement.verdicts);
            }
            let mut staged = judgement.held.iter().filter_map(|set| sets[*set].staged);
            staged.try_for_each(|staged| staged.refuse_if_old())?;
            let files: Vec<StagedFile> =
                judgement.held.iter().flat_map(|set| sets[*set].files.iter().cloned()).collect();
            let gap = judgement.held.iter().find_map(|set| {
                let set = &sets[*set];
                let (reason, part) = (set.gap?, set.parts.first()?);
                Some(log::gap(&part.source, part.topic_id, part.range, reason, true))
            });
            let marks = judgement.marks.clone();
            let said = gap.map(|gap| (log::GAP, gap));
            let change = Change { id, files, marks, said, ..Change::default() };
            if self.rows.try_commit(&mut state, &change).await? {
                self.rows.checkpoint_if_due(&state);
                let span = Span::current();
                span.set("tidegate.lake.version", state.version.unwrap_or_default() as i64);
                span.set("tidegate.lake.conflicts", attempt as i64);
                return Ok(judgement.verdicts);
            }
            retry::pause(attempt).await;
        }
        Err(retry::lost())
    }

    async fn open_gap(
        &self,
        source: &TopicPartition,
        topic_id: TopicId,
        gap: OffsetRange,
    ) -> Result<(), SinkError> {
        let said = log::gap(source, topic_id, gap, GapReason::Expired, false);
        let mut state = self.rows.state.lock().await;
        for attempt in 0..ATTEMPTS {
            self.rows.refresh(&mut state).await?;
            state.refuse_after_restore(&self.feed.name)?;
            let stands = state.marks.get(source).is_some_and(|it| it.next_offset == gap.start);
            // How far it reaches is for the log of the topic to say, and may change every minute.
            if !stands || state.open_gaps.get(source) == Some(&gap.start) {
                return Ok(());
            }
            let said = Some((log::GAP, said.clone()));
            if self.rows.try_commit(&mut state, &Change { said, ..Change::default() }).await? {
                return Ok(());
            }
            retry::pause(attempt).await;
        }
        Err(retry::lost())
    }

    async fn record_gap(
        &self,
        source: &TopicPartition,
        topic_id: TopicId,
        gap: OffsetRange,
        reason: GapReason,
    ) -> Result<Verdict, SinkError> {
        let part = StagedPart { source: source.clone(), topic_id, range: gap, rejects: Vec::new() };
        let set = Staged::gap(part, reason);
        let verdicts = self.commit(&[set]).await?;
        let verdict = verdicts.into_iter().flatten().next();
        Ok(verdict.unwrap_or(Verdict::Fenced { found: None }))
    }

    async fn replays(&self, source: &TopicPartition) -> Result<i64, SinkError> {
        let mut state = self.rows.state.lock().await;
        self.rows.refresh(&mut state).await?;
        state.refuse_after_restore(&self.feed.name)?;
        Ok(state.marks.replays(source))
    }

    async fn replay(&self, part: Part, after: i64, by: &str) -> Result<bool, SinkError> {
        let (source, said) = (part.source.clone(), super::replayed(&part, by));
        let topic = part.topic_id;
        let (feed, layout, now) = (self.feed.clone(), self.rows.layout.clone(), now_ms());
        let staged = Staging::now();
        let mut files = staging::stage(
            move |take| encode(&feed, &layout, now, &[part], take),
            |file| {
                let first = First::default();
                let path = self.rows.layout.replayed_file(file.slot, first, Uuid::new_v4());
                self.rows.put_at(path, file)
            },
        )
        .await?;
        files.iter_mut().for_each(|file| file.topic = topic);
        let said = Some((log::REPLAY, said));
        let replayed = Some(source.clone());
        let change = Change { files, said, replayed, ..Change::default() };
        let mut state = self.rows.state.lock().await;
        for attempt in 0..ATTEMPTS {
            if self.rows.refresh(&mut state).await?.contains(&change.id) {
                return Ok(true);
            }
            state.refuse_after_restore(&self.feed.name)?;
            if state.marks.replays(&source) != after {
                return Ok(false);
            }
            staged.refuse_if_old()?;
            if self.rows.try_commit(&mut state, &change).await? {
                return Ok(true);
            }
            retry::pause(attempt).await;
        }
        Err(retry::lost())
    }

    async fn reset(&self, source: &TopicPartition, progress: Progress) -> Result<(), SinkError> {
        let wanted = |_: &State| HashMap::from([(source.clone(), progress)]);
        self.rows.set_progress(&self.feed.name, wanted).await
    }
}

/// The topic of all parts, if it is one.
fn one_topic(mut topics: impl Iterator<Item = TopicId>) -> TopicId {
    let first = topics.next().unwrap_or(TopicId::UNKNOWN);
    if topics.all(|topic| topic.get() == first.get()) { first } else { TopicId::UNKNOWN }
}

#[derive(Default)]
struct Judgement {
    verdicts: Vec<Vec<Verdict>>,
    /// Progress after the sets that hold their fence.
    marks: HashMap<TopicPartition, Progress>,
    /// Indices of those sets.
    held: Vec<usize>,
}

/// Which sets continue exactly where the table stands, one after the other.
fn judge(marks: &Watermarks, sets: &[Staged]) -> Judgement {
    let mut judgement = Judgement::default();
    for (index, set) in sets.iter().enumerate() {
        let found = |source: &TopicPartition| {
            judgement.marks.get(source).copied().or_else(|| marks.get(source))
        };
        let holds = |part: &StagedPart| {
            found(&part.source).is_some_and(|progress| {
                progress.next_offset == part.range.start && progress.topic_id.agrees(part.topic_id)
            })
        };
        if set.parts.iter().all(holds) {
            judgement.held.push(index);
            judgement.verdicts.push(vec![Verdict::Durable { quarantined: 0 }; set.parts.len()]);
            for part in &set.parts {
                let progress = Progress { next_offset: part.range.end, topic_id: part.topic_id };
                judgement.marks.insert(part.source.clone(), progress);
            }
        } else {
            let fenced = |part: &StagedPart| Verdict::Fenced {
                found: found(&part.source).map(|progress| progress.next_offset),
            };
            let verdicts = set.parts.iter().map(fenced).collect();
            judgement.verdicts.push(verdicts);
        }
    }
    judgement
}

/// A table's format is never changed: the other one's rows and progress would stay in the folder.
pub async fn refuse_other_format(
    store: &LakeStore,
    folder: &str,
    marker: &str,
    wanted: &str,
) -> Result<(), SinkError> {
    let table = store.below(folder);
    let mut found = table.list(Some(&object_store::path::Path::from(marker)));
    if found.try_next().await.map_err(|error| judged(&error))?.is_some() {
        return Err(SinkError::lasting(format!(
            "the lake's folder {folder} holds a table of another format than {wanted} ({marker} is \
             in it), and a table's format is never changed: give `lake.layout` another folder"
        )));
    }
    Ok(())
}

pub fn judged_delta(error: DeltaTableError) -> SinkError {
    match &error {
        DeltaTableError::ObjectStore { source } => judged(source),
        DeltaTableError::Generic(_) | DeltaTableError::GenericError { .. } => {
            SinkError::passing(error)
        }
        _ => SinkError::lasting(error),
    }
}

pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}
