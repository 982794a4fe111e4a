//! One partition's way into one sink: which offsets it still needs, and from which stream.
//!
//! A lane is *attached* while the group's consumer feeds it. When its sink fails or holds too much,
//! it is *detached*: the main stream goes on without it, and a catch-up stream reads from the sink's
//! watermark. When the catch-up comes near, the lane *joins*: main batches are held until the
//! catch-up has reached the first of them.

use std::collections::VecDeque;

use crate::record::{Claim, OffsetRange};

#[derive(Debug)]
pub struct Lane<B> {
    state: State<B>,
    /// Delivered and not yet answered, oldest first: the ends of their ranges and their bytes.
    in_flight: VecDeque<(i64, usize)>,
    /// Everything below is durable in the sink.
    durable: i64,
}

#[derive(Debug)]
enum State<B> {
    Attached {
        claim: Claim,
        next: i64,
    },
    /// Without a claim it waits for one; with one, the catch-up stream feeds it.
    Detached {
        caught_up: Option<(Claim, i64)>,
        held: VecDeque<(OffsetRange, usize, B)>,
    },
}

/// What a lane asks of a range that one of the streams offers.
#[derive(Debug, PartialEq, Eq)]
pub enum Wants {
    /// Nothing of it.
    Nothing,
    /// All of it from this offset on.
    From(i64),
    /// It begins after the offset the lane needs next: records are missing between.
    Missing { next: i64 },
}

/// How far behind the main stream a catch-up may be for the lane to begin holding, in records.
const NEAR: i64 = 20_000;

impl<B> Lane<B> {
    pub fn attached(claim: Claim, next: i64) -> Self {
        Self { state: State::Attached { claim, next }, in_flight: VecDeque::new(), durable: next }
    }

    pub fn detached(durable: i64) -> Self {
        let state = State::Detached { caught_up: None, held: VecDeque::new() };
        Self { state, in_flight: VecDeque::new(), durable }
    }

    pub fn is_attached(&self) -> bool {
        matches!(self.state, State::Attached { .. })
    }

    /// Waits for a claim, or is being caught up.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Detached { caught_up: None, .. })
    }

    pub fn claim(&self) -> Option<Claim> {
        match self.state {
            State::Attached { claim, .. } => Some(claim),
            State::Detached { caught_up, .. } => caught_up.map(|(claim, _)| claim),
        }
    }

    /// Where the catch-up stream is to go on, while there is one.
    pub fn catch_up_next(&self) -> Option<i64> {
        match self.state {
            State::Detached { caught_up, .. } => caught_up.map(|(_, next)| next),
            State::Attached { .. } => None,
        }
    }

    pub fn durable(&self) -> i64 {
        self.durable
    }

    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight.iter().map(|(_, bytes)| bytes).sum()
    }

    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// What the lane needs of a main-stream range.
    pub fn wants_main(&self, range: OffsetRange) -> Wants {
        match self.state {
            State::Attached { next, .. } => wants(next, range),
            State::Detached { .. } => Wants::Nothing,
        }
    }

    /// What the lane needs of a catch-up range.
    pub fn wants_catch_up(&self, range: OffsetRange) -> Wants {
        match self.state {
            State::Detached { caught_up: Some((_, next)), .. } => wants(next, range),
            _ => Wants::Nothing,
        }
    }

    /// Whether a main batch should be held for the lane, because its catch-up is near.
    pub fn holds(&self, range: OffsetRange) -> bool {
        match &self.state {
            State::Detached { caught_up: Some((_, next)), held } => {
                !held.is_empty() || range.start - next <= NEAR
            }
            _ => false,
        }
    }

    pub fn hold(&mut self, range: OffsetRange, bytes: usize, batch: B) {
        if let State::Detached { held, .. } = &mut self.state {
            held.push_back((range, bytes, batch));
        }
    }

    pub fn held_bytes(&self) -> usize {
        match &self.state {
            State::Detached { held, .. } => held.iter().map(|(_, bytes, _)| bytes).sum(),
            State::Attached { .. } => 0,
        }
    }

    /// Lets go of what is held: the catch-up turned out too slow and must come near again.
    pub fn stop_holding(&mut self) {
        if let State::Detached { held, .. } = &mut self.state {
            held.clear();
        }
    }

    /// Notes that everything up to `end` was handed to the sink.
    pub fn delivered(&mut self, end: i64, bytes: usize) {
        match &mut self.state {
            State::Attached { next, .. } | State::Detached { caught_up: Some((_, next)), .. } => {
                *next = end;
            }
            State::Detached { caught_up: None, .. } => return,
        }
        self.in_flight.push_back((end, bytes));
    }

    /// Attaches the lane if its catch-up has reached the main stream, which stands at `main_next`.
    /// Answers the batches held, to be delivered now in order, or none if it is not there yet.
    pub fn join(&mut self, main_next: i64) -> Option<VecDeque<(OffsetRange, usize, B)>> {
        let State::Detached { caught_up: Some((claim, next)), held } = &mut self.state else {
            return None;
        };
        let meets = held.front().map_or(main_next, |(range, _, _)| range.start);
        if *next < meets {
            return None;
        }
        let held = std::mem::take(held);
        self.state = State::Attached { claim: *claim, next: *next };
        Some(held)
    }

    /// A receipt: everything up to `end` is durable. Stale claims are ignored.
    pub fn settle(&mut self, claim: Claim, end: i64) -> bool {
        if self.claim() != Some(claim) {
            return false;
        }
        while self.in_flight.front().is_some_and(|(until, _)| *until <= end) {
            self.in_flight.pop_front();
        }
        self.durable = self.durable.max(end);
        true
    }

    /// The sink refused or gave up: what is in flight is dropped, and the lane waits for a claim.
    pub fn detach(&mut self) {
        self.in_flight.clear();
        self.state = State::Detached { caught_up: None, held: VecDeque::new() };
    }

    /// A claim was granted at `watermark`: the catch-up stream begins there.
    pub fn begin_catch_up(&mut self, claim: Claim, watermark: i64) {
        self.in_flight.clear();
        self.durable = watermark;
        self.state = State::Detached { caught_up: Some((claim, watermark)), held: VecDeque::new() };
    }
}

fn wants(next: i64, range: OffsetRange) -> Wants {
    if range.start > next {
        Wants::Missing { next }
    } else if range.end <= next {
        Wants::Nothing
    } else {
        Wants::From(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: i64, end: i64) -> OffsetRange {
        OffsetRange::new(start, end)
    }

    #[test]
    fn an_attached_lane_cuts_overlaps_and_names_gaps() {
        let mut lane: Lane<()> = Lane::attached(Claim::random(), 10);
        assert_eq!(lane.wants_main(range(0, 10)), Wants::Nothing);
        assert_eq!(lane.wants_main(range(5, 15)), Wants::From(10));
        assert_eq!(lane.wants_main(range(11, 15)), Wants::Missing { next: 10 });
        lane.delivered(15, 1);
        assert_eq!(lane.wants_main(range(15, 20)), Wants::From(15));
    }

    #[test]
    fn receipts_of_another_claim_change_nothing() {
        let claim = Claim::random();
        let mut lane: Lane<()> = Lane::attached(claim, 0);
        lane.delivered(5, 7);
        assert!(!lane.settle(Claim::random(), 5));
        assert_eq!((lane.durable(), lane.in_flight_bytes()), (0, 7));
        assert!(lane.settle(claim, 5));
        assert_eq!((lane.durable(), lane.is_idle()), (5, true));
    }

    #[test]
    fn a_detached_lane_is_caught_up_and_joins_without_gap_or_overlap() {
        let mut lane: Lane<&str> = Lane::attached(Claim::random(), 0);
        lane.detach();
        assert!(lane.is_waiting());
        assert_eq!(lane.wants_main(range(100, 200)), Wants::Nothing);
        let claim = Claim::random();
        lane.begin_catch_up(claim, 50);
        assert!(lane.holds(range(200, 300)), "near enough");
        lane.hold(range(200, 300), 1, "main");
        assert!(lane.join(300).is_none());
        assert_eq!(lane.wants_catch_up(range(50, 180)), Wants::From(50));
        lane.delivered(180, 1);
        assert!(lane.join(300).is_none(), "180..200 is still missing");
        lane.delivered(250, 1);
        let held = lane.join(300).unwrap();
        assert_eq!(held.len(), 1);
        assert!(lane.is_attached());
        // The held batch overlaps what the catch-up delivered; the lane cuts it.
        assert_eq!(lane.wants_main(held[0].0), Wants::From(250));
    }

    #[test]
    fn a_far_catch_up_holds_nothing() {
        let mut lane: Lane<()> = Lane::detached(0);
        lane.begin_catch_up(Claim::random(), 0);
        assert!(!lane.holds(range(NEAR + 1, NEAR + 2)));
        lane.delivered(NEAR + 2, 0);
        assert!(lane.join(NEAR + 2).is_some(), "caught up with the main stream itself");
    }
}
