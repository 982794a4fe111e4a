//! A value as bytes that tell whether they are whole: a kind and a version, a length, SHA-256, bincode.

use bincode::config::{self, Configuration};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// "tide" and the room's own letter.
const MAGIC: [u8; 4] = *b"tdgV";
const CHECKSUM: usize = 32;
/// Magic, kind, version, length.
const HEADER: usize = 4 + 1 + 2 + 4;

/// What a value is, and in which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub letter: u8,
    /// Counted up whenever the form changes: another release's is not read.
    pub version: u16,
}

fn form() -> Configuration {
    config::standard()
}

pub(super) fn seal(kind: Kind, value: &impl Serialize) -> Result<Vec<u8>, String> {
    let value = bincode::serde::encode_to_vec(value, form()).map_err(|error| error.to_string())?;
    let length = u32::try_from(value.len()).map_err(|_| "too long to be kept".to_owned())?;
    let mut sealed = Vec::with_capacity(HEADER + CHECKSUM + value.len());
    sealed.extend(MAGIC);
    sealed.push(kind.letter);
    sealed.extend(kind.version.to_be_bytes());
    sealed.extend(length.to_be_bytes());
    let checksum = Sha256::new().chain_update(&sealed).chain_update(&value).finalize();
    sealed.extend(checksum);
    sealed.extend(value);
    Ok(sealed)
}

/// Why there is no value at the start of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// They end before it does: it was never written whole.
    Cut,
    /// Of another kind or form, or not what was written.
    Bad,
}

/// The value at the start of the bytes, and how many of them it takes.
pub(super) fn open<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<(T, usize), Broken> {
    let header = bytes.get(..HEADER).ok_or(Broken::Cut)?;
    let right = header.starts_with(&MAGIC)
        && header[4] == kind.letter
        && header[5..7] == kind.version.to_be_bytes();
    if !right {
        return Err(Broken::Bad);
    }
    let length = header.last_chunk().map_or(0, |length| u32::from_be_bytes(*length)) as usize;
    let checksum = bytes.get(HEADER..HEADER + CHECKSUM).ok_or(Broken::Cut)?;
    let end = (HEADER + CHECKSUM).checked_add(length).ok_or(Broken::Bad)?;
    let value = bytes.get(HEADER + CHECKSUM..end).ok_or(Broken::Cut)?;
    let found = Sha256::new().chain_update(header).chain_update(value).finalize();
    if found[..] != *checksum {
        return Err(Broken::Bad);
    }
    let decoded = bincode::serde::decode_from_slice(value, form()).map_err(|_| Broken::Bad)?;
    let (value, read) = decoded;
    if read == length { Ok((value, end)) } else { Err(Broken::Bad) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { letter: b'x', version: 3 };

    #[test]
    fn what_is_not_whole_is_not_read() {
        let value = (7_u64, vec!["a".to_owned(), String::new()], Some(-1_i64));
        let sealed = seal(KIND, &value).unwrap();
        let read = |bytes: &[u8]| open::<(u64, Vec<String>, Option<i64>)>(KIND, bytes);
        assert_eq!(read(&sealed), Ok((value, sealed.len())));
        let longer = [sealed.as_slice(), b"more"].concat();
        assert_eq!(read(&longer).map(|(_, end)| end), Ok(sealed.len()));
        for end in 0..sealed.len() {
            assert_eq!(read(&sealed[..end]), Err(Broken::Cut), "cut at {end}");
        }
        for at in 0..sealed.len() {
            let mut broken = sealed.clone();
            broken[at] ^= 0x10;
            assert!(read(&broken).is_err(), "broken at {at}");
        }
    }

    #[test]
    fn another_kind_or_form_is_not_read() {
        let sealed = seal(KIND, &1_u8).unwrap();
        for kind in [Kind { letter: b'y', ..KIND }, Kind { version: 4, ..KIND }] {
            assert_eq!(open::<u8>(kind, &sealed), Err(Broken::Bad));
        }
        // The same kind of another type has other bytes, or too few.
        assert_eq!(open::<(u8, u8)>(KIND, &sealed), Err(Broken::Bad));
    }
}
