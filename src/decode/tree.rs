//! The declared fields as a tree of objects, and the walk through a message that follows it.
//!
//! Producers write their fields in one order, so each field remembers which one followed it last
//! time; as long as that holds, a name costs one comparison and no search.

use super::columns::Columns;
use super::fault::{Fault, Outcome, excerpt};
use super::json::Cursor;
use crate::config::Column;
use crate::record::RejectClass;

pub(super) struct Tree {
    /// The root is the first; children stand after their parents.
    objects: Vec<Object>,
    /// Counts the messages read, to tell a field's first sight in this one.
    turn: u64,
}

struct Object {
    /// How reasons call it.
    place: String,
    /// Its path as JSON text without the closing quote; empty for the message itself.
    path: String,
    /// Its path with a point behind it; empty for the message itself.
    prefix: String,
    children: Vec<Child>,
    /// Indexes of `children`, by length of name and then name.
    by_name: Vec<usize>,
    /// The child that came first last time.
    first: usize,
}

struct Child {
    name: String,
    /// The name in quotes as a producer writes it; for one that needs escapes, never matched.
    quoted: Vec<u8>,
    columns: Vec<usize>,
    object: Option<usize>,
    /// The turn in which the field was last seen.
    seen: u64,
    /// The child that came next last time.
    next: usize,
}

impl Tree {
    /// `columns` with their numbers; `place` names the message in reasons.
    pub fn new<'c>(place: &str, columns: impl Iterator<Item = (usize, &'c Column)>) -> Self {
        let mut tree =
            Self { objects: vec![Object::new(place.to_owned(), String::new())], turn: 0 };
        for (number, column) in columns {
            let mut object = 0;
            let mut names = column.path().split('.').peekable();
            while let Some(name) = names.next() {
                let child = tree.objects[object].child(name);
                if names.peek().is_none() {
                    tree.objects[object].children[child].columns.push(number);
                } else {
                    object = tree.inner_object(object, child);
                }
            }
        }
        tree.objects.iter_mut().for_each(Object::index);
        tree
    }

    fn inner_object(&mut self, parent: usize, child: usize) -> usize {
        if let Some(object) = self.objects[parent].children[child].object {
            return object;
        }
        let name = &self.objects[parent].children[child].name;
        let place = match parent {
            0 => name.clone(),
            _ => format!("{}.{name}", self.objects[parent].place),
        };
        let object = self.objects.len();
        let mut path = serde_json::Value::from(place.as_str()).to_string();
        path.pop();
        self.objects.push(Object::new(place, path));
        self.objects[parent].children[child].object = Some(object);
        object
    }

    /// Reads one message, an object under the cursor, into its columns.
    pub fn read(&mut self, cursor: &mut Cursor<'_>, columns: &mut Columns) -> Outcome<()> {
        self.turn += 1;
        self.object(0, cursor, columns)
    }

    /// Recurses as deep as the declared paths, whatever the message.
    fn object(&mut self, id: usize, cursor: &mut Cursor<'_>, columns: &mut Columns) -> Outcome<()> {
        if !cursor.eat(b'{') {
            return Err(self.objects[id].not_an_object(cursor));
        }
        cursor.space();
        if cursor.eat(b'}') {
            return Ok(());
        }
        let mut previous = None;
        loop {
            let object = &mut self.objects[id];
            let at = cursor.at();
            match object.next_child(previous, cursor, columns)? {
                None if columns.looks_at_rest() => {
                    let name = cursor.since(at);
                    cursor.colon()?;
                    let start = cursor.at();
                    cursor.skip()?;
                    columns.keep(&object.prefix, &object.path, name, cursor.since(start));
                }
                None => {
                    cursor.colon()?;
                    cursor.skip()?;
                }
                Some(index) => {
                    previous = Some(index);
                    cursor.colon()?;
                    self.child(id, index, cursor, columns)?;
                }
            }
            if !cursor.more_members()? {
                return Ok(());
            }
        }
    }

    #[inline]
    fn child(
        &mut self,
        id: usize,
        index: usize,
        cursor: &mut Cursor<'_>,
        columns: &mut Columns,
    ) -> Outcome<()> {
        let object = &mut self.objects[id];
        let child = &mut object.children[index];
        if child.seen == self.turn {
            return Err(object.duplicate(index));
        }
        child.seen = self.turn;
        if let ([column], None) = (&child.columns[..], child.object) {
            return columns.read(*column, cursor);
        }
        // A field that several columns read, or a column and the columns inside it.
        let start = cursor.at();
        for column in &child.columns {
            cursor.rewind(start);
            columns.read(*column, cursor)?;
        }
        let Some(inner) = child.object else { return Ok(()) };
        cursor.rewind(start);
        if cursor.eat_all(b"null") { Ok(()) } else { self.object(inner, cursor, columns) }
    }
}

impl Object {
    fn new(place: String, path: String) -> Self {
        let prefix = if path.is_empty() { String::new() } else { format!("{place}.") };
        Self { place, path, prefix, children: Vec::new(), by_name: Vec::new(), first: 0 }
    }

    /// The child of that name, made if need be.
    fn child(&mut self, name: &str) -> usize {
        let known = self.children.iter().position(|child| child.name == name);
        known.unwrap_or_else(|| {
            let next = self.children.len() + 1;
            let plain = !name.contains(|c: char| c.is_control() || c == '"' || c == '\\');
            self.children.push(Child {
                name: name.to_owned(),
                // A control character stands nowhere in JSON text.
                quoted: if plain { format!("\"{name}\"").into_bytes() } else { vec![0] },
                columns: Vec::new(),
                object: None,
                seen: 0,
                next,
            });
            next - 1
        })
    }

    fn index(&mut self) {
        self.by_name = (0..self.children.len()).collect();
        self.by_name.sort_by_key(|index| order(&self.children[*index].name));
    }

    /// Reads a member's name: the child it declares, or none.
    #[inline]
    fn next_child(
        &mut self,
        previous: Option<usize>,
        cursor: &mut Cursor<'_>,
        columns: &mut Columns,
    ) -> Outcome<Option<usize>> {
        let guess = previous.map_or(self.first, |index| self.children[index].next);
        if let Some(child) = self.children.get(guess)
            && cursor.eat_all(&child.quoted)
        {
            return Ok(Some(guess));
        }
        let name = cursor.text(columns.scratch())?;
        let found = self
            .by_name
            .binary_search_by_key(&order(name), |index| order(&self.children[*index].name))
            .ok()
            .map(|place| self.by_name[place]);
        if let Some(found) = found {
            match previous {
                Some(previous) => self.children[previous].next = found,
                None => self.first = found,
            }
        }
        Ok(found)
    }

    #[cold]
    fn duplicate(&self, index: usize) -> Box<Fault> {
        let reason =
            format!("{}: the field {} stands twice", self.place, self.children[index].name);
        Fault::new(RejectClass::DuplicateField, reason)
    }

    #[cold]
    fn not_an_object(&self, cursor: &mut Cursor<'_>) -> Box<Fault> {
        let start = cursor.at();
        if let Err(malformed) = cursor.skip() {
            return malformed;
        }
        let found = excerpt(cursor.since(start));
        let reason = format!("{}: found {found}, expected an object", self.place);
        Fault::new(RejectClass::WrongType, reason)
    }
}

fn order(name: &str) -> (usize, &str) {
    (name.len(), name)
}
