//! Records that come back from quarantine.

use std::sync::Arc;

use super::lab::*;
use crate::config::{Feed, FeedKind};
use crate::record::{Batch, Settled, TopicId};
use crate::warehouse::{Replay, Replayed, Settlement};

on_each_warehouse! {
    replays_each_record_once
    replays_nothing_behind_what_was_seen
    lets_no_older_record_come_back_behind_a_newer
    waits_for_what_is_read_again
    keeps_what_is_refused_again
    settles_what_is_to_stay_out
}

fn replay(batch: Batch, seen: i64) -> Replay {
    Replay {
        source: batch.source.clone(),
        topic_id: TopicId::UNKNOWN,
        batch: Arc::new(batch),
        shaped: false,
        seen,
        came_back: None,
        by: "local:ada".to_owned(),
    }
}

/// Three rows and two rejects behind them, which are offsets 3 and 4.
async fn quarantined(lab: &Lab, feed: &Feed) {
    let claim = lab.claimed(feed, 0).await;
    let rows = batch(feed, 0, 0, &[put("a", "ann", 1), put("b", "bob", 2), put("c", "cat", 3)]);
    assert_eq!(lab.write(feed, &[part(claim, vec![with_rejects(rows, 2)])]).await, [DURABLE]);
}

const LANDED: Replayed = Replayed::Landed { refused: Vec::new() };

const FATES: &str = "SELECT record_offset, settled, settled_by, settled_why FROM tidegate.quarantine \
                     ORDER BY 1";

async fn replays_each_record_once(lab: Lab) {
    for kind in [FeedKind::Stream, FeedKind::Table] {
        let mut feed = accounts(kind);
        feed.name = format!("f{kind:?}").to_lowercase().into();
        feed.warehouse.as_mut().unwrap().table = Some(format!("t{kind:?}").to_lowercase());
        quarantined(&lab, &feed).await;
        let back = replay(batch(&feed, 0, 3, &[put("d", "dan", 4), put("e", "eve", 5)]), 5);
        let both =
            tokio::join!(lab.warehouse.replay(&feed, &back), lab.warehouse.replay(&feed, &back));
        let both = [both.0.unwrap(), both.1.unwrap()];
        assert!(both.contains(&LANDED) && both.contains(&Replayed::Moved), "{both:?}");
        assert_eq!(lab.warehouse.replay(&feed, &back).await.unwrap(), Replayed::Moved);
        // One of them is a row by now: so is the other, or neither would be.
        let one = replay(batch(&feed, 0, 4, &[put("e", "eve", 5)]), 5);
        assert_eq!(lab.warehouse.replay(&feed, &one).await.unwrap(), Replayed::Moved);
        let rows = format!("SELECT id, _offset FROM {} ORDER BY 2", feed.table().1);
        assert_eq!(lab.ask(&rows).await, ["a|0", "b|1", "c|2", "d|3", "e|4"]);
        let progress = lab.warehouse.progress(&feed.name).await.unwrap();
        assert_eq!(progress[&source(0)].next_offset, 5, "which no replay moves");
    }
    let fates = lab.ask(FATES).await;
    assert_eq!(fates.len(), 4);
    assert!(fates.iter().all(|fate| fate.ends_with("|replayed|local:ada|-")), "{fates:?}");
}

async fn replays_nothing_behind_what_was_seen(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    quarantined(&lab, &feed).await;
    let back = |seen| replay(batch(&feed, 0, 3, &[put("a", "old", 4)]), seen);
    // The partition has gone on to 5, and a newer `a` may have come.
    assert_eq!(lab.warehouse.replay(&feed, &back(4)).await.unwrap(), Replayed::Moved);
    // One that is in no quarantine.
    let other = replay(batch(&feed, 0, 2, &[put("c", "x", 4)]), 5);
    assert_eq!(lab.warehouse.replay(&feed, &other).await.unwrap(), Replayed::Moved);
    assert_eq!(lab.ask("SELECT owner FROM accounts ORDER BY id").await, ["ann", "bob", "cat"]);
    assert_eq!(lab.warehouse.replay(&feed, &back(5)).await.unwrap(), LANDED);
    assert_eq!(lab.ask("SELECT owner FROM accounts ORDER BY id").await, ["old", "bob", "cat"]);
    let delete = replay(batch(&feed, 0, 4, &[gone("b")]), 5);
    assert_eq!(lab.warehouse.replay(&feed, &delete).await.unwrap(), LANDED);
    assert_eq!(lab.ask("SELECT owner FROM accounts ORDER BY id").await, ["old", "cat"]);
}

/// Two commands that chose different records of one key, and looked before either had landed.
async fn lets_no_older_record_come_back_behind_a_newer(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    quarantined(&lab, &feed).await;
    let back = |offset, owner, came_back| {
        let rows = batch(&feed, 0, offset, &[put("a", owner, 4)]);
        Replay { came_back: Some(came_back), ..replay(rows, 5) }
    };
    let newer = back(4, "new", 0);
    assert_eq!(lab.warehouse.replay(&feed, &newer).await.unwrap(), LANDED);
    assert_eq!(lab.warehouse.replay(&feed, &back(3, "old", 0)).await.unwrap(), Replayed::Moved);
    assert_eq!(lab.ask("SELECT owner FROM accounts ORDER BY id").await, ["new", "bob", "cat"]);
    // Whoever has looked since may land what he has found to be right.
    assert_eq!(lab.warehouse.replay(&feed, &back(3, "old", 1)).await.unwrap(), LANDED);
}

async fn waits_for_what_is_read_again(lab: Lab) {
    let feed = accounts(FeedKind::Stream);
    quarantined(&lab, &feed).await;
    lab.warehouse.reset("accounts", &source(0), TopicId::UNKNOWN, 4).await.unwrap();
    assert_eq!(lab.ask(FATES).await, ["3|-|-|-", "4|read_again|-|-"]);
    let back = |offset| replay(batch(&feed, 0, offset, &[put("d", "dan", 4)]), i64::MAX);
    assert_eq!(lab.warehouse.replay(&feed, &back(4)).await.unwrap(), Replayed::Moved);
    // Not passed any more, whatever its state.
    lab.ask("UPDATE tidegate.quarantine SET settled = NULL").await;
    assert_eq!(lab.warehouse.replay(&feed, &back(4)).await.unwrap(), Replayed::Moved);
    lab.ask("UPDATE tidegate.quarantine SET settled = 'read_again' WHERE record_offset = 4").await;
    // Rejected once more, it is open once more.
    let claim = lab.claimed(&feed, 0).await;
    let again = with_rejects(batch(&feed, 0, 4, &[]), 1);
    assert_eq!(lab.write(&feed, &[part(claim, vec![again])]).await, [DURABLE]);
    assert_eq!(lab.ask(FATES).await, ["3|-|-|-", "4|-|-|-"]);
    assert_eq!(lab.warehouse.replay(&feed, &back(4)).await.unwrap(), LANDED);
}

async fn keeps_what_is_refused_again(lab: Lab) {
    lab.ask(super::CHECKED).await;
    let feed = accounts(FeedKind::Table);
    quarantined(&lab, &feed).await;
    let back = replay(batch(&feed, 0, 3, &[put("d", "dan", -4), put("e", "eve", 5)]), 5);
    match lab.warehouse.replay(&feed, &back).await.unwrap() {
        Replayed::Landed { refused } => {
            assert_eq!(refused.iter().map(|it| it.0).collect::<Vec<_>>(), [3], "{refused:?}");
        }
        moved => panic!("{moved:?}"),
    }
    assert_eq!(lab.ask("SELECT id FROM accounts ORDER BY id").await, ["a", "b", "c", "e"]);
    assert_eq!(lab.ask(FATES).await, ["3|-|-|-", "4|replayed|local:ada|-"]);
}

async fn settles_what_is_to_stay_out(lab: Lab) {
    let feed = accounts(FeedKind::Stream);
    quarantined(&lab, &feed).await;
    let discard = |offsets: &[i64]| Settlement {
        source: source(0),
        topic_id: TopicId::UNKNOWN,
        offsets: offsets.to_vec(),
        settled: Settled::Discarded,
        by: "local:ada".to_owned(),
        why: Some("test data".to_owned()),
    };
    assert_eq!(lab.warehouse.settle("accounts", &discard(&[4, 7])).await.unwrap(), 1);
    assert_eq!(lab.ask(FATES).await, ["3|-|-|-", "4|discarded|local:ada|test data"]);
    // It may come back all the same; then it is a row, and not to be discarded any more.
    let back = replay(batch(&feed, 0, 4, &[put("e", "eve", 5)]), i64::MAX);
    assert_eq!(lab.warehouse.replay(&feed, &back).await.unwrap(), LANDED);
    assert_eq!(lab.warehouse.settle("accounts", &discard(&[3, 4])).await.unwrap(), 1);
    assert_eq!(lab.ask(FATES).await, ["3|discarded|local:ada|test data", "4|replayed|local:ada|-"]);
}
