//! Kafka Connect's envelope around JSON: `{"schema": …, "payload": …}`.

use super::fault::{Fault, Outcome};
use super::json::Cursor;

/// The payload's text. The schema is not looked at: a feed's columns say what the fields are.
pub(super) fn payload(text: &str) -> Outcome<&str> {
    let mut cursor = Cursor::new(text);
    cursor.space();
    if !cursor.eat(b'{') {
        return Err(missing());
    }
    cursor.space();
    let mut payload = None;
    let mut scratch = String::new();
    if !cursor.eat(b'}') {
        loop {
            let is_payload = cursor.text(&mut scratch)? == "payload";
            cursor.colon()?;
            let start = cursor.at();
            cursor.skip()?;
            if is_payload && payload.replace(cursor.since(start)).is_some() {
                return Err(Fault::malformed("the field payload stands twice"));
            }
            if !cursor.more_members()? {
                break;
            }
        }
    }
    cursor.end()?;
    payload.ok_or_else(missing)
}

fn missing() -> Box<Fault> {
    Fault::malformed(
        "no object with the field payload, as Kafka Connect's JSON converter writes it",
    )
}
