use super::{OffsetRange, TopicPartition};

/// The records of one partition as they came from Kafka, copied once into one buffer.
#[derive(Debug)]
pub struct RawBatch {
    pub source: TopicPartition,
    pub range: OffsetRange,
    arena: Vec<u8>,
    records: Vec<Entry>,
    /// Which of them are traced. Noted while their headers are copied: to look for it later costs more.
    traced: Vec<u32>,
}

/// One record of a [`RawBatch`].
#[derive(Debug, Clone, Copy)]
pub struct RawRecord<'a> {
    pub offset: i64,
    /// Milliseconds since the epoch; -1 where the record has none.
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: i64,
    timestamp_ms: i64,
    key: Slot,
    value: Slot,
    headers: Slot,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    start: usize,
    /// `u32::MAX` stands for null.
    len: u32,
}

const NULL: u32 = u32::MAX;

impl RawBatch {
    pub fn new(source: TopicPartition, start: i64) -> Self {
        Self {
            source,
            range: OffsetRange::new(start, start),
            arena: Vec::new(),
            records: Vec::new(),
            traced: Vec::new(),
        }
    }

    /// Appends one record and moves the end of the range past it.
    pub fn push<'h>(
        &mut self,
        offset: i64,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) {
        let key = self.store(key);
        let value = self.store(value);
        let start = self.arena.len();
        let mut traced = false;
        for (name, content) in headers {
            traced |= is_kept_trace(name, content);
            self.put_length(Some(name.len()));
            self.arena.extend_from_slice(name.as_bytes());
            self.put_length(content.map(<[u8]>::len));
            self.arena.extend_from_slice(content.unwrap_or_default());
        }
        let headers = Slot { start, len: (self.arena.len() - start) as u32 };
        if traced {
            self.traced.push(self.records.len() as u32);
        }
        self.records.push(Entry { offset, timestamp_ms, key, value, headers });
        self.range.end = offset + 1;
    }

    fn store(&mut self, bytes: Option<&[u8]>) -> Slot {
        let start = self.arena.len();
        match bytes {
            Some(bytes) => {
                self.arena.extend_from_slice(bytes);
                Slot { start, len: bytes.len() as u32 }
            }
            None => Slot { start, len: NULL },
        }
    }

    fn put_length(&mut self, len: Option<usize>) {
        let len = len.map_or(NULL, |len| len as u32);
        self.arena.extend_from_slice(&len.to_le_bytes());
    }

    fn bytes(&self, slot: Slot) -> Option<&[u8]> {
        (slot.len != NULL).then(|| &self.arena[slot.start..slot.start + slot.len as usize])
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The memory the batch holds, in bytes.
    pub fn size(&self) -> usize {
        self.arena.capacity()
            + self.records.capacity() * size_of::<Entry>()
            + self.traced.capacity() * size_of::<u32>()
    }

    /// Key, value and header bytes held.
    pub fn payload_bytes(&self) -> usize {
        self.arena.len()
    }

    pub fn get(&self, index: usize) -> RawRecord<'_> {
        let entry = self.records[index];
        RawRecord {
            offset: entry.offset,
            timestamp_ms: entry.timestamp_ms,
            key: self.bytes(entry.key),
            value: self.bytes(entry.value),
            headers: Headers(self.bytes(entry.headers).unwrap_or_default()),
        }
    }

    /// Records at or after `from`, in offset order.
    pub fn iter_from(&self, from: i64) -> impl Iterator<Item = RawRecord<'_>> {
        let first = self.records.partition_point(|entry| entry.offset < from);
        (first..self.records.len()).map(|index| self.get(index))
    }

    /// Those whose producers trace them and keep the trace, as far as a quick look tells.
    pub fn traced(&self) -> impl Iterator<Item = RawRecord<'_>> {
        self.traced.iter().map(|index| self.get(*index as usize))
    }
}

/// `traceparent`, which is `00-<32>-<16>-<flags>`: the last bit of the flags says whether it is kept.
fn is_kept_trace(name: &str, content: Option<&[u8]>) -> bool {
    const NAME: &str = "traceparent";
    const FLAGS: usize = 54;
    let flags = || content.and_then(|content| content.get(FLAGS));
    name.len() == NAME.len()
        && name.eq_ignore_ascii_case(NAME)
        && flags().and_then(|it| char::from(*it).to_digit(16)).is_some_and(|it| it & 1 == 1)
}

/// The headers of one record, in order, duplicates kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a>(&'a [u8]);

impl<'a> Headers<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the last header of this name says, in whatever case the name is written. Cheaper than to go through
    /// them.
    pub fn named(&self, name: &str) -> Option<&'a [u8]> {
        let (mut rest, mut found) = (self.0, None);
        while !rest.is_empty() {
            let is_it = take(&mut rest)?.eq_ignore_ascii_case(name.as_bytes());
            let content = take(&mut rest);
            if is_it {
                found = content;
            }
        }
        found
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let name = take(&mut self.0)?;
        let content = take(&mut self.0);
        // Written from a `str` in `RawBatch::push`.
        Some((std::str::from_utf8(name).unwrap_or_default(), content))
    }
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, after) = rest.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len);
    if len == NULL {
        *rest = after;
        return None;
    }
    let (bytes, after) = after.split_at(len as usize);
    *rest = after;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_was_pushed() {
        let mut batch = RawBatch::new(TopicPartition::new("t", 0), 5);
        batch.push(5, 10, Some(b"k"), None, []);
        batch.push(
            7,
            11,
            None,
            Some(b"v"),
            [("a", Some(&b"1"[..])), ("b", None), ("a", Some(b""))],
        );
        assert_eq!(batch.range, OffsetRange::new(5, 8));
        let first = batch.get(0);
        assert_eq!((first.key, first.value), (Some(&b"k"[..]), None));
        let second = batch.get(1);
        assert_eq!((second.offset, second.key, second.value), (7, None, Some(&b"v"[..])));
        let headers: Vec<_> = second.headers.collect();
        assert_eq!(headers, [("a", Some(&b"1"[..])), ("b", None), ("a", Some(&b""[..]))]);
        let of = |name| second.headers.named(name);
        assert_eq!((of("A"), of("b"), of("c")), (Some(&b""[..]), None, None));
        assert_eq!(batch.iter_from(6).map(|record| record.offset).collect::<Vec<_>>(), [7]);
    }
}
