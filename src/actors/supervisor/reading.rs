//! Streams that a partition consumer has halted for a while: while it waits, nothing is read for it,
//! and the budget is there for the others.

use actix::prelude::*;
use tracing::debug;

use super::super::message::{Reading, Stream};
use super::partitions::route;
use super::{Key, Supervisor};
use crate::source::Command;

impl Handler<Reading> for Supervisor {
    type Result = ();

    fn handle(&mut self, reading: Reading, _: &mut Self::Context) {
        let Reading { feed, source, consumer, stream, from } = reading;
        let key: Key = (feed, source);
        let Some(owned) = self.owned.get(&key) else { return };
        // One that was replaced meanwhile says nothing for its successor.
        if self.stopping || owned.consumer() != Some(&consumer) {
            return;
        }
        debug!(target: "tidegate::supervisor", feed = %key.0, source = %key.1, ?stream, ?from, "reading halted, or begun again");
        let route = route(&owned.feed, &consumer, stream);
        let (feed, source) = key;
        let command = match from {
            None => Command::Halt { source, feed },
            Some(offset) => Command::Start { source, offset, route },
        };
        match stream {
            Stream::Main => self.tell_main(command),
            Stream::CatchUp(sink) => {
                if let Some(catch_up) = self.catch_up.get(&sink) {
                    catch_up.tell(command);
                }
            }
        }
    }
}
