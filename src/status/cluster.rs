//! The cluster, put together from what its nodes told.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Beat, FeedTold, PartitionTold, SILENT_MS};

/// A cluster at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    pub members: Vec<Member>,
    /// By feed and sink, those with the oldest waiting record first.
    pub feeds: Vec<FeedLine>,
    /// What somebody should look at.
    pub problems: Vec<Problem>,
    /// One by one, by feed, topic and number, with who has it.
    pub partitions: Vec<Owned>,
    /// Partitions that are summed up in `feeds` only.
    pub left_out: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    pub node: String,
    pub instance: String,
    pub group: String,
    pub version: String,
    pub up_ms: i64,
    /// Since it told of itself.
    pub age_ms: i64,
    pub silent: bool,
    pub draining: bool,
    pub janitor: bool,
    pub partitions: usize,
    pub memory_used: u64,
    pub memory_limit: u64,
}

/// A feed in a sink, of all nodes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FeedLine {
    #[serde(flatten)]
    pub sum: FeedTold,
    /// Records in quarantine that nobody has settled. None: not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Owned {
    pub node: String,
    #[serde(flatten)]
    pub told: PartitionTold,
}

/// A partition that a feed has in the broker, and one of the sinks it should go to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    pub feed: String,
    pub topic: String,
    pub partition: i32,
    pub sink: String,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The node, or the partition of a feed.
    pub about: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feed: Option<String>,
    pub says: String,
}

impl Cluster {
    /// `expected` is what somebody should have, by the feeds and the broker.
    pub fn of(mut beats: Vec<Beat>, expected: &[Wanted]) -> Self {
        beats.sort_by(|a, b| (&a.told.node, a.instance).cmp(&(&b.told.node, b.instance)));
        // A node that was killed and is back is one.
        let back = |beat: &Beat| {
            let (node, group) = (&beat.told.node, &beat.told.group);
            beats.iter().any(|other| {
                (&other.told.node, &other.told.group) == (node, group)
                    && other.age_ms <= SILENT_MS
                    && other.told.started_ms >= beat.told.at_ms
            })
        };
        let gone: BTreeSet<Uuid> = beats
            .iter()
            .filter(|beat| beat.age_ms > SILENT_MS && back(beat))
            .map(|beat| beat.instance)
            .collect();
        beats.retain(|beat| !gone.contains(&beat.instance));
        let mut cluster = Self::default();
        let mut feeds: BTreeMap<(String, String), FeedLine> = BTreeMap::new();
        let mut owned = BTreeSet::new();
        for Beat { instance, told, age_ms } in beats {
            let silent = age_ms > SILENT_MS;
            let partitions = told.partitions.len() + told.left_out;
            cluster.members.push(Member {
                node: told.node.clone(),
                instance: instance.to_string(),
                group: told.group,
                version: told.version,
                up_ms: told.at_ms - told.started_ms + age_ms,
                age_ms,
                silent,
                draining: told.draining,
                janitor: told.janitor,
                partitions,
                memory_used: told.memory_used,
                memory_limit: told.memory_limit,
            });
            // Its partitions are others' by now, who tell of them themselves.
            if silent {
                let says = format!("has not been heard of for {} s", age_ms / 1000);
                cluster.problems.push(Problem { about: told.node, feed: None, says });
                continue;
            }
            cluster.left_out += told.left_out;
            for feed in told.feeds {
                let key = (feed.feed.clone(), feed.sink.clone());
                feeds.entry(key).or_default().sum.add(feed);
            }
            for partition in told.partitions {
                for sink in &partition.sinks {
                    owned.insert(Wanted {
                        feed: partition.feed.clone(),
                        topic: partition.topic.clone(),
                        partition: partition.partition,
                        sink: sink.sink.clone(),
                    });
                }
                cluster.partitions.push(Owned { node: told.node.clone(), told: partition });
            }
        }
        cluster.feeds = feeds.into_values().collect();
        cluster.feeds.sort_by_key(|it| Reverse((it.sum.age_ms, it.sum.lag)));
        let key = |it: &Owned| (it.told.feed.clone(), it.told.topic.clone(), it.told.partition);
        cluster.partitions.sort_by_key(key);
        for partition in &cluster.partitions {
            cluster.problems.extend(partition.problem());
        }
        cluster.problems.extend(match cluster.left_out {
            0 => missing(expected.iter().filter(|it| !owned.contains(*it))),
            // One by one nobody knows who has them.
            _ => too_few(expected, &cluster.feeds),
        });
        cluster
    }

    /// What is of these feeds only; why something is not well is told of those that `tells` says.
    pub fn only(mut self, shows: impl Fn(&str) -> bool, tells: impl Fn(&str) -> bool) -> Self {
        self.feeds.retain(|line| shows(&line.sum.feed));
        self.partitions.retain(|it| shows(&it.told.feed));
        self.problems.retain(|it| it.feed.as_deref().is_none_or(&shows));
        for partition in self.partitions.iter_mut().filter(|it| !tells(&it.told.feed)) {
            (partition.told.reason, partition.told.error) = (None, None);
        }
        for problem in &mut self.problems {
            if problem.feed.as_deref().is_some_and(|feed| !tells(feed)) {
                let short = problem.says.split_once(": ").map(|(short, _)| short.to_owned());
                problem.says = short.unwrap_or(std::mem::take(&mut problem.says));
            }
        }
        self
    }
}

/// Partitions that nobody has, or not for all of their sinks.
fn missing<'w>(wanted: impl Iterator<Item = &'w Wanted>) -> Vec<Problem> {
    let mut sinks: BTreeMap<(&str, &str, i32), Vec<&str>> = BTreeMap::new();
    for Wanted { feed, topic, partition, sink } in wanted {
        sinks.entry((feed, topic, *partition)).or_default().push(sink);
    }
    let problem = |((feed, topic, partition), sinks): ((&str, &str, i32), Vec<&str>)| Problem {
        about: format!("{topic}-{partition} of {feed}"),
        feed: Some(feed.to_owned()),
        says: format!("no node has it for the {}", sinks.join(" and the ")),
    };
    sinks.into_iter().map(problem).collect()
}

/// The same in numbers.
fn too_few(expected: &[Wanted], feeds: &[FeedLine]) -> Vec<Problem> {
    let mut wanted: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for Wanted { feed, sink, .. } in expected {
        *wanted.entry((feed, sink)).or_default() += 1;
    }
    let problem = |((feed, sink), wanted): ((&str, &str), usize)| {
        let line = feeds.iter().find(|line| line.sum.feed == feed && line.sum.sink == sink);
        let lacks = wanted.checked_sub(line.map_or(0, |line| line.sum.partitions))?;
        (lacks > 0).then(|| Problem {
            about: feed.to_owned(),
            feed: Some(feed.to_owned()),
            says: format!("no node has {lacks} of its {wanted} partitions for the {sink}"),
        })
    };
    wanted.into_iter().filter_map(problem).collect()
}

impl Owned {
    fn problem(&self) -> Option<Problem> {
        let Self { node, told } = self;
        let because = |text: Option<&str>| text.map(|it| format!(": {it}")).unwrap_or_default();
        let reason = because(told.reason.as_deref());
        let says = match told.state.as_str() {
            "running" => {
                let sinks: Vec<&str> =
                    told.sinks.iter().filter(|it| !it.attached).map(|it| &*it.sink).collect();
                if sinks.is_empty() {
                    return None;
                }
                let why = because(told.error.as_ref().map(|error| error.says.as_str()));
                format!("on {node} the {} is detached{why}", sinks.join(" and the "))
            }
            "claiming" => return None,
            state => format!("{state} on {node}{reason}"),
        };
        let about = format!("{}-{} of {}", told.topic, told.partition, told.feed);
        Some(Problem { about, feed: Some(told.feed.clone()), says })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ErrorTold, NodeTold, SinkTold};
    use super::*;

    fn told(feed: &str, number: i32, state: &str, attached: bool) -> PartitionTold {
        let sink = |sink: &str, attached| SinkTold {
            sink: sink.to_owned(),
            attached,
            next: Some(5),
            lag: Some(2),
            age_ms: i64::from(number) * 1000,
            ..SinkTold::default()
        };
        let says = "it is away".to_owned();
        PartitionTold {
            feed: feed.to_owned(),
            topic: "t".to_owned(),
            partition: number,
            state: state.to_owned(),
            reason: (state != "running").then(|| "of a reason".to_owned()),
            error: (!attached).then_some(ErrorTold { at_ms: 1, says }),
            end: 7,
            sinks: vec![sink("lake", true), sink("warehouse", attached)],
        }
    }

    fn beat(node: &str, age_ms: i64, partitions: Vec<PartitionTold>) -> Beat {
        let told = NodeTold { node: node.to_owned(), ..NodeTold::default() };
        Beat { instance: Uuid::new_v4(), told: told.of_partitions(partitions, None), age_ms }
    }

    #[test]
    fn a_cluster_is_what_its_nodes_tell_of_themselves() {
        let expected = wanted(4);
        let cluster = Cluster::of(
            vec![
                beat("b", 1_000, vec![told("f", 1, "parked", true)]),
                beat("a", 0, vec![told("f", 0, "running", false)]),
                // Gone: what it had is another's.
                beat("c", SILENT_MS + 1, vec![told("f", 1, "running", true)]),
            ],
            &expected,
        );
        let members: Vec<&str> = cluster.members.iter().map(|it| &*it.node).collect();
        assert_eq!(members, ["a", "b", "c"]);
        let sum = |sink: &str| {
            let line = cluster.feeds.iter().find(|it| it.sum.sink == sink);
            line.unwrap().sum.clone()
        };
        let lake = sum("lake");
        assert_eq!((lake.partitions, lake.lag, lake.age_ms), (2, 4, 1000));
        assert_eq!(sum("warehouse").detached, 1);
        let problems: Vec<String> =
            cluster.problems.iter().map(|it| format!("{}: {}", it.about, it.says)).collect();
        assert_eq!(
            problems,
            [
                "c: has not been heard of for 30 s",
                "t-0 of f: on a the warehouse is detached: it is away",
                "t-1 of f: parked on b: of a reason",
                "t-2 of f: no node has it for the lake and the warehouse",
                "t-3 of f: no node has it for the lake and the warehouse",
            ]
        );
    }

    /// The partitions of one feed, for both sinks.
    fn wanted(partitions: i32) -> Vec<Wanted> {
        let one = |partition, sink: &str| Wanted {
            feed: "f".to_owned(),
            topic: "t".to_owned(),
            partition,
            sink: sink.to_owned(),
        };
        (0..partitions).flat_map(|it| [one(it, "lake"), one(it, "warehouse")]).collect()
    }

    #[test]
    fn nodes_of_one_sink_alone_leave_the_other_to_nobody() {
        let mut half = told("f", 0, "running", true);
        half.sinks.truncate(1);
        let cluster = Cluster::of(vec![beat("a", 0, vec![half])], &wanted(1));
        assert_eq!(cluster.problems[0].says, "no node has it for the warehouse");
    }

    #[test]
    fn of_very_many_partitions_it_is_told_how_many_nobody_has() {
        let many = (0..1500).map(|number| told("f", number, "running", true)).collect();
        let cluster = Cluster::of(vec![beat("a", 0, many)], &wanted(1510));
        let says: Vec<&str> = cluster.problems.iter().map(|it| &*it.says).collect();
        assert_eq!(
            says,
            [
                "no node has 10 of its 1510 partitions for the lake",
                "no node has 10 of its 1510 partitions for the warehouse",
            ]
        );
    }

    #[test]
    fn a_node_that_was_killed_and_is_back_is_one() {
        let mut killed = beat("a", SILENT_MS + 1, Vec::new());
        (killed.told.started_ms, killed.told.at_ms) = (1, 10);
        let mut back = beat("a", 0, vec![told("f", 0, "running", true)]);
        (back.told.started_ms, back.told.at_ms) = (20, 30);
        let beside = beat("b", SILENT_MS + 1, Vec::new());
        let cluster = Cluster::of(vec![killed, back, beside], &[]);
        let members: Vec<(&str, bool)> =
            cluster.members.iter().map(|it| (&*it.node, it.silent)).collect();
        assert_eq!(members, [("a", false), ("b", true)]);
    }

    #[test]
    fn nobody_is_told_of_feeds_that_are_not_for_him() {
        let beats =
            vec![beat("a", 0, vec![told("f", 0, "parked", true), told("g", 0, "parked", true)])];
        let cluster = Cluster::of(beats, &[]);
        let seen = cluster.clone().only(|feed| feed == "f", |_| false);
        let text = serde_json::to_string(&seen).unwrap();
        assert!(text.contains("\"f\"") && !text.contains("\"g\"") && !text.contains("of a reason"));
        assert_eq!(seen.problems[0].says, "parked on a");
        let seen = cluster.only(|_| true, |feed| feed == "g");
        assert_eq!(seen.problems[1].says, "parked on a: of a reason");
        assert_eq!(seen.partitions[0].told.reason, None);
    }
}
