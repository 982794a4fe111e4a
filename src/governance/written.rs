//! Permission rows as a table has them, which anybody may have written.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate};
use serde::de::DeserializeOwned;

use super::parts::Parts;
use super::{Action, Days, Effect, Mask, Predicate, Row, RowId, Target};

/// A row's columns, unread.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    pub id: RowId,
    pub principal: String,
    pub feed: String,
    pub action: String,
    pub effect: String,
    /// JSON: an array of names.
    pub columns: Option<String>,
    /// JSON: an object of names and masks.
    pub masks: Option<String>,
    pub predicate: Option<String>,
    /// `YYYY-MM-DD`.
    pub day_from: Option<String>,
    pub day_to: Option<String>,
    /// RFC 3339; `infinity` for never.
    pub expires_at: Option<String>,
    pub granted_by: String,
    pub reason: String,
}

impl Written {
    /// The row, if it is one, and what is wrong with it. One that allows and is not understood is none; one
    /// that denies then denies more than was meant, and not less.
    pub fn read(self) -> (Vec<Row>, Option<String>) {
        let parts = Parts {
            grantee: self.principal.parse(),
            feeds: self.feed.parse().map(|feed| vec![feed]),
            actions: self.action.parse().map(|action| vec![action]),
            reach: Action::ALL.to_vec(),
            // Whatever is not said to allow denies.
            effect: if self.effect == Effect::Allow.name() { Effect::Allow } else { Effect::Deny },
            target: self.target(),
            expires_at_ms: expiry(self.expires_at.as_deref()),
            fault: None,
            id: self.id,
            granted_by: self.granted_by,
            reason: self.reason,
        };
        parts.rows()
    }

    fn target(&self) -> Result<Target, String> {
        let columns: Option<BTreeSet<String>> =
            json("columns", &self.columns, "a JSON array of names")?;
        let masks: Option<BTreeMap<String, Mask>> =
            json("masks", &self.masks, "a JSON object of names and masks")?;
        let masks = masks.unwrap_or_default();
        let predicate = self.predicate.as_deref().map(str::parse::<Predicate>).transpose();
        let predicate = predicate.map_err(|error| format!("predicate: {error}"))?;
        let day = |day: &Option<String>| {
            let day = day.as_deref().map(str::parse::<NaiveDate>).transpose();
            day.map_err(|error| format!("day: {error}; expected YYYY-MM-DD"))
        };
        let days = Days { from: day(&self.day_from)?, to: day(&self.day_to)? };
        Ok(Target { columns, masks, predicate, days })
    }
}

/// JSON's null is as good as nothing.
fn json<T: DeserializeOwned>(
    name: &str,
    text: &Option<String>,
    expected: &str,
) -> Result<Option<T>, String> {
    let value = text.as_deref().map(serde_json::from_str::<Option<T>>).transpose();
    let value = value.map_err(|error| format!("{name}: {error}; expected {expected}"))?;
    Ok(value.flatten())
}

/// Milliseconds since the epoch; none for never.
pub(super) fn expiry(text: Option<&str>) -> Result<Option<i64>, String> {
    match text {
        None | Some("infinity") => Ok(None),
        Some(text) => match DateTime::parse_from_rfc3339(text) {
            Ok(time) => Ok(Some(time.timestamp_millis())),
            Err(error) => Err(format!("expires: {error}; expected a time as in RFC 3339")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(effect: &str) -> Written {
        Written {
            id: RowId::Own(7),
            principal: "user:ada".to_owned(),
            feed: "sales".to_owned(),
            action: "read".to_owned(),
            effect: effect.to_owned(),
            columns: Some("[\"a\",\"b\"]".to_owned()),
            masks: None,
            predicate: Some("a = 1".to_owned()),
            day_from: None,
            day_to: None,
            expires_at: None,
            granted_by: String::new(),
            reason: String::new(),
        }
    }

    #[test]
    fn rows_are_read() {
        let masks = Some("{\"a\":\"hash\"}".to_owned());
        let (rows, fault) = Written { masks, ..written("allow") }.read();
        assert_eq!((rows.len(), fault), (1, None));
        assert_eq!(rows[0].target.columns.as_ref().map(BTreeSet::len), Some(2));
        assert_eq!(rows[0].target.masks["a"], Mask::Hash);
        assert!(rows[0].target.predicate.is_some());
    }

    #[test]
    fn what_is_not_understood_allows_nothing_and_denies_more() {
        let text = |text: &str| Some(text.to_owned());
        let broken: [&dyn Fn(Written) -> Written; 9] = [
            &|row| Written { principal: "ada".to_owned(), ..row },
            &|row| Written { feed: "../x".to_owned(), ..row },
            &|row| Written { action: "look".to_owned(), ..row },
            &|row| Written { predicate: text("a ~ 1"), ..row },
            &|row| Written { columns: text("a"), ..row },
            &|row| Written { masks: text("{\"a\":\"blur\"}"), ..row },
            &|row| Written { action: "write".to_owned(), ..row },
            &|row| Written { day_from: text("01.01.2026"), ..row },
            &|row| Written { expires_at: text("2020-01-01 00:00:00"), ..row },
        ];
        for (index, broken) in broken.iter().enumerate() {
            let (rows, fault) = broken(written("allow")).read();
            assert!(rows.is_empty() && fault.is_some(), "{index}: {rows:?}");
            for effect in ["deny", "Allow?"] {
                let (rows, fault) = broken(written(effect)).read();
                assert!(fault.is_some() && !rows.is_empty(), "{index}");
                assert!(rows.iter().all(|row| row.effect == Effect::Deny));
                assert!(rows.iter().all(|row| row.expires_at_ms.is_none()), "{index}");
                let narrow = rows.iter().any(|row| !row.target.is_all());
                // What it is about is understood where only its end is not, or whom it is for.
                assert!(!narrow || [0, 1, 2, 8].contains(&index), "{index}");
            }
        }
        let (rows, _) = Written { action: String::new(), ..written("deny") }.read();
        assert_eq!(rows.len(), Action::ALL.len());
    }
}
