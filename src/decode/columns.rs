//! The columns of a batch together: every record adds one value to each.

use arrow::array::ArrayRef;

use super::column::Slot;
use super::fault::Outcome;
use super::fields::{NewFields, Noticed};
use super::json::Cursor;
use super::nested::escaped;

/// The columns of a batch, filled record by record.
pub(super) struct Columns {
    slots: Vec<Slot>,
    /// Values appended for the present record.
    filled: usize,
    /// Rows complete.
    rows: usize,
    scratch: String,
    rest: Option<Rest>,
    noticed: Option<Noticed>,
}

/// The members that no column takes.
enum Rest {
    /// On their way into a column of this number: an object without its last brace, empty while there
    /// is no member.
    Column(usize, String),
    /// Of the columns of a struct: paths from there and values, for the columns around it.
    Inside(Vec<(String, String)>),
}

impl Columns {
    /// `rest`: the number of the column for what no other takes.
    pub fn new(slots: Vec<Slot>, rest: Option<usize>) -> Self {
        let rest = rest.map(|column| Rest::Column(column, String::new()));
        Self { slots, filled: 0, rows: 0, scratch: String::new(), rest, noticed: None }
    }

    /// The columns of a struct.
    pub fn inside(slots: Vec<Slot>, rest: bool) -> Self {
        let rest = rest.then(|| Rest::Inside(Vec::new()));
        Self { rest, ..Self::new(slots, None) }
    }

    /// Makes ready for about `rows` rows out of `payload` bytes.
    pub fn begin(&mut self, rows: usize, payload: usize) {
        (self.filled, self.rows) = (0, 0);
        let row_bytes: usize = self.slots.iter().map(Slot::row_bytes).sum();
        for slot in &mut self.slots {
            // The last batch may have held few and huge rows, and this one many: what all columns
            // reserve together stays below what came in.
            let share = payload / row_bytes.max(1) * slot.row_bytes();
            slot.begin(rows, share.min(rows.saturating_mul(slot.row_bytes())));
        }
    }

    #[inline]
    pub fn read(&mut self, column: usize, cursor: &mut Cursor<'_>) -> Outcome<()> {
        self.filled += 1;
        self.slots[column].read(cursor, &mut self.scratch)?;
        if self.rest.is_some() {
            self.keep_inside(column);
        }
        Ok(())
    }

    /// Keeps what a nested value held beyond its type.
    fn keep_inside(&mut self, column: usize) {
        let slot = &mut self.slots[column];
        let members = slot.take_rest();
        if members.is_empty() {
            return;
        }
        // From the message's own root: a place inside a struct begins with the struct's.
        let place = match &self.rest {
            Some(Rest::Inside(_)) => slot.place().rsplit('.').next().unwrap_or_default(),
            _ => slot.place(),
        };
        let place = escaped(place);
        for (path, value) in members {
            match &mut self.rest {
                Some(Rest::Column(_, text)) => {
                    let name = format!("\"{place}{path}\"");
                    add(text, "", &name, &value);
                }
                Some(Rest::Inside(outer)) => outer.push((format!(".{place}{path}"), value)),
                None => {}
            }
        }
    }

    /// Takes what the columns of a struct left over.
    pub fn take_rest(&mut self) -> Vec<(String, String)> {
        match &mut self.rest {
            Some(Rest::Inside(members)) => std::mem::take(members),
            _ => Vec::new(),
        }
    }

    pub fn read_text(&mut self, column: usize, text: &str) -> Outcome<()> {
        self.filled += 1;
        self.slots[column].read_text(text)
    }

    pub fn read_long(&mut self, column: usize, number: i64) -> Outcome<()> {
        self.filled += 1;
        self.slots[column].read_long(number)
    }

    pub fn read_double(&mut self, column: usize, number: f64) -> Outcome<()> {
        self.filled += 1;
        self.slots[column].read_double(number)
    }

    pub fn read_bytes(&mut self, column: usize, bytes: &[u8]) -> Outcome<()> {
        self.filled += 1;
        self.slots[column].read_bytes(bytes)
    }

    /// Notices fields that no column takes.
    pub fn notice(&mut self, noticed: Noticed) {
        self.noticed = Some(noticed);
    }

    /// What was noticed since it was last asked.
    pub fn new_fields(&mut self) -> Option<NewFields> {
        let new = self.noticed.as_mut()?.take();
        let wider: Vec<_> = self.slots.iter_mut().filter_map(Slot::take_wider).collect();
        match (new, wider.is_empty()) {
            (new, true) => new,
            (new, false) => Some(NewFields { wider, ..new.unwrap_or_default() }),
        }
    }

    /// Ends a record that failed: what it wished for counts if the rest of it is as it should be.
    #[cold]
    pub fn end_failed(&mut self, is_whole: impl FnOnce() -> bool) {
        if self.slots.iter().any(Slot::wishes) {
            let whole = is_whole();
            self.slots.iter_mut().for_each(|slot| slot.end_wish(whole));
        }
    }

    /// Whether anything is done with members that no column takes.
    pub fn looks_at_rest(&self) -> bool {
        self.rest.is_some() || self.noticed.is_some()
    }

    /// Keeps a member that no column takes, or notices it. `prefix` is the path of the object around
    /// it with a point behind, if it has one; `object` the same as JSON text, without its closing quote
    /// and point; `name` is JSON text in its quotes.
    pub fn keep(&mut self, prefix: &str, object: &str, name: &str, value: &str) {
        if let Some(noticed) = &mut self.noticed {
            noticed.add(prefix, name, value);
        }
        match &mut self.rest {
            Some(Rest::Column(_, text)) => add(text, object, name, value),
            // A struct has no objects of other structs inside: the path is the name.
            Some(Rest::Inside(members)) => {
                members.push((format!(".{}", &name[1..name.len() - 1]), value.to_owned()));
            }
            None => {}
        }
    }

    /// Where a member's name with escapes is resolved.
    pub fn scratch(&mut self) -> &mut String {
        &mut self.scratch
    }

    /// Ends a row: what no field has given is null.
    #[inline]
    pub fn end_row(&mut self) -> Outcome<()> {
        if let Some(Rest::Column(column, text)) = &mut self.rest
            && !text.is_empty()
        {
            text.push('}');
            self.slots[*column].append_json(text);
            self.filled += 1;
        }
        if self.filled < self.slots.len() {
            for slot in &mut self.slots {
                if slot.len() == self.rows {
                    slot.null()?;
                }
            }
        }
        self.next_row();
        Ok(())
    }

    /// Ends a tombstone's row: it has its key and nothing else.
    pub fn end_tombstone(&mut self, key_columns: usize) -> Outcome<()> {
        for slot in &mut self.slots[..key_columns] {
            if slot.len() == self.rows {
                slot.null()?;
            }
        }
        self.pad_row();
        Ok(())
    }

    /// Ends a row of whatever completeness.
    pub fn pad_row(&mut self) {
        for slot in &mut self.slots {
            if slot.len() == self.rows {
                slot.pad();
            }
        }
        self.next_row();
    }

    fn next_row(&mut self) {
        self.filled = 0;
        self.rows += 1;
        match &mut self.rest {
            Some(Rest::Column(_, text)) => text.clear(),
            Some(Rest::Inside(members)) => members.clear(),
            None => {}
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn finish(&mut self) -> Vec<ArrayRef> {
        self.slots.iter_mut().map(Slot::finish).collect()
    }
}

/// Adds a member to an object without its last brace.
fn add(text: &mut String, object: &str, name: &str, value: &str) {
    text.push(if text.is_empty() { '{' } else { ',' });
    if !object.is_empty() {
        text.push_str(object);
        text.push('.');
    }
    text.push_str(if object.is_empty() { name } else { &name[1..] });
    text.push(':');
    text.push_str(value);
}
