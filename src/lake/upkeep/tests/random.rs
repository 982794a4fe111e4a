//! Writers, readers of older states and all chores in any order, each chore possibly cut off after some of
//! its changes: no committed row is missing to a reader within the grace time, and none is there twice.

use std::collections::HashSet;

use proptest::prelude::*;

use super::super::super::scan::Pin;
use super::super::super::scan::tests::bench::FORMATS;
use super::dying::Dying;
use super::*;

const GRACE_MS: i64 = 10_000;

#[derive(Debug, Clone)]
enum Step {
    Write {
        partition: i32,
        count: i64,
    },
    /// Somebody opens a reading, and goes on with it later.
    Open,
    Wait {
        ms: i64,
    },
    Compact {
        dies_after: Option<i64>,
    },
    /// Keeps the last so many days that were written.
    Expire {
        days: i64,
        dies_after: Option<i64>,
    },
    Vacuum {
        dies_after: Option<i64>,
    },
    /// Takes the log's entries out up to a checkpoint of now.
    Cut {
        dies_after: Option<i64>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let dies = || prop::option::weighted(0.4, 0..8i64);
    prop_oneof![
        4 => (0..2i32, 1..4i64).prop_map(|(partition, count)| Step::Write { partition, count }),
        2 => Just(Step::Open),
        2 => (1..GRACE_MS).prop_map(|ms| Step::Wait { ms }),
        2 => dies().prop_map(|dies_after| Step::Compact { dies_after }),
        2 => (1..4i64, dies()).prop_map(|(days, dies_after)| Step::Expire { days, dies_after }),
        3 => dies().prop_map(|dies_after| Step::Vacuum { dies_after }),
        2 => dies().prop_map(|dies_after| Step::Cut { dies_after }),
    ]
}

struct Run {
    bench: Bench,
    /// What the table must hold, sorted.
    rows: Vec<String>,
    /// The clock that the chores go by.
    now_ms: i64,
    readers: Vec<(Pin, i64, Vec<String>)>,
    written: [i64; 2],
}

impl Run {
    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Write { partition, count } => {
                self.rows.extend(self.bench.commit(partition, count, &[]).await);
                self.rows.sort();
                self.written[partition as usize] += count;
            }
            Step::Open => {
                let pin = self.bench.scan(At::Latest).await.unwrap().pin().clone();
                self.readers.push((pin, self.now_ms, self.rows.clone()));
            }
            Step::Wait { ms } => self.now_ms += ms,
            Step::Compact { dies_after } => {
                let done = self.upkeep(dies_after).compact(BOUNDS, LATE, Mode::Do).await;
                Self::lives(dies_after, done);
            }
            Step::Vacuum { dies_after } => {
                let upkeep = self.upkeep(dies_after);
                let done = upkeep.vacuum_after(GRACE_MS, self.now_ms, Mode::Do).await;
                Self::lives(dies_after, done);
            }
            Step::Cut { dies_after } => {
                self.forget_readers();
                // As old as what somebody reads still is nothing that goes.
                if self.readers.is_empty() && self.bench.is_delta() {
                    self.bench.checkpoint().await;
                    if let Some(cut) = self.bench.upkeep().cut(0, LATE * 100).await.unwrap() {
                        Self::lives(dies_after, self.upkeep(dies_after).take_out(&cut).await);
                    }
                }
            }
            Step::Expire { days: kept, dies_after } => self.expire(kept, dies_after).await,
        }
        self.now_ms += 1;
    }

    /// Those whose time is over.
    fn forget_readers(&mut self) {
        self.readers.retain(|(_, since, _)| self.now_ms - since < GRACE_MS);
    }

    fn upkeep(&self, dies_after: Option<i64>) -> Upkeep {
        let store = self.bench.lab.store();
        let store = match dies_after {
            Some(changes) => store.over(|inner| Arc::new(Dying::after(inner, changes))),
            None => store,
        };
        self.bench.upkeep_on(&store)
    }

    /// Whoever does not die succeeds.
    fn lives<T>(dies_after: Option<i64>, done: Result<T, SinkError>) {
        if dies_after.is_none() {
            done.unwrap_or_else(|error| panic!("{error}"));
        }
    }

    async fn expire(&mut self, kept: i64, dies_after: Option<i64>) {
        let last = self.written.iter().max().unwrap() / 4;
        // The chore's clock stands still for retention: days are those of 1970.
        let today = last * DAY_MS + DAY_MS / 2;
        let upkeep = self.upkeep(dies_after);
        // A plain table's files are not deleted: that clock is not the one that readers go by.
        let done = upkeep.expire(days(kept as u32), i64::MAX / 4, today, Mode::Do).await;
        Self::lives(dies_after, done);
        let first = last - kept;
        let is_over = |row: &String| day_of(row) < first;
        let found = self.bench.rows(At::Latest).await;
        let there: HashSet<&String> = found.iter().collect();
        if dies_after.is_none() {
            self.rows.retain(|row| !is_over(row));
        } else {
            // It may have come so far or not; the rest of the rows is none of its business.
            self.rows.retain(|row| !is_over(row) || there.contains(row));
        }
    }

    async fn check(&mut self) {
        assert_eq!(self.bench.rows(At::Latest).await, self.rows);
        self.forget_readers();
        for (pin, _, expected) in &self.readers {
            assert_eq!(self.bench.rows(At::Pinned(pin.clone())).await, *expected);
        }
    }
}

/// Days since 1970-01-01 of a row's partition, `…|year|month|day`; all are of January to March.
fn day_of(row: &str) -> i64 {
    let mut parts = row.rsplit('|').map(|part| part.parse::<i64>().unwrap());
    let (day, month) = (parts.next().unwrap(), parts.next().unwrap());
    day - 1 + [0, 31, 59][month as usize - 1]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_row_is_missing_or_there_twice(
        format in prop::sample::select(FORMATS.to_vec()),
        steps in prop::collection::vec(step(), 1..28),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new(format).await;
            let now_ms = crate::lake::delta::now_ms() + 3_600_000;
            let mut run = Run { bench, rows: Vec::new(), now_ms, readers: Vec::new(), written: [0; 2] };
            for step in &steps {
                run.take(step).await;
                run.check().await;
            }
        });
    }
}
