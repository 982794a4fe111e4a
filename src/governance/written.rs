//! Permission rows as a table has them, which anybody may have written.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;

use super::{Action, Days, Effect, Grantee, Mask, Pattern, Predicate, Row, RowId, Target};

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
    pub day_from: Option<NaiveDate>,
    pub day_to: Option<NaiveDate>,
    pub expires_at_ms: Option<i64>,
    pub granted_by: String,
    pub reason: String,
}

impl Written {
    /// The row, if it is one, and what is wrong with it. One that allows and is not understood is none; one
    /// that denies then denies more than was meant, and not less.
    pub fn read(self) -> (Vec<Row>, Option<String>) {
        let Self { id, granted_by, reason, expires_at_ms, .. } = &self;
        let mut faults = Vec::new();
        let mut noted = |fault: String| faults.push(fault);
        let grantee = self.principal.parse::<Grantee>().map_err(&mut noted);
        let feed = self.feed.parse::<Pattern>().map_err(&mut noted);
        let action = self.action.parse::<Action>().map_err(&mut noted);
        let target = self.target().map_err(&mut noted);
        // Whatever is not said to allow denies.
        let effect = if self.effect == Effect::Allow.name() { Effect::Allow } else { Effect::Deny };
        let row = |grantee, feed, action, target| Row {
            id: id.clone(),
            grantee,
            feed,
            action,
            effect,
            target,
            expires_at_ms: *expires_at_ms,
            granted_by: granted_by.clone(),
            reason: reason.clone(),
        };
        let rows = match (grantee, feed, action, target, effect) {
            (Ok(grantee), Ok(feed), Ok(action), Ok(target), _) => {
                vec![row(grantee, feed, action, target)]
            }
            (_, _, _, _, Effect::Allow) => Vec::new(),
            (grantee, feed, action, _, Effect::Deny) => {
                let grantee = grantee.unwrap_or(Grantee::Everybody);
                let feed = feed.unwrap_or_else(|()| Pattern::all());
                let actions = action.map_or(Action::ALL.to_vec(), |action| vec![action]);
                let one = |action| row(grantee.clone(), feed.clone(), action, Target::default());
                actions.into_iter().map(one).collect()
            }
        };
        let senseless = rows.iter().find_map(Row::fault);
        let fault =
            faults.into_iter().chain(senseless.clone()).reduce(|all, one| format!("{all}; {one}"));
        let rows = match (senseless, effect) {
            (None, _) => rows,
            (Some(_), Effect::Allow) => Vec::new(),
            (Some(_), Effect::Deny) => {
                rows.into_iter().map(|row| Row { target: Target::default(), ..row }).collect()
            }
        };
        (rows, fault)
    }

    fn target(&self) -> Result<Target, String> {
        let columns: Option<BTreeSet<String>> = self
            .columns
            .as_deref()
            .map(serde_json::from_str::<Option<_>>)
            .transpose()
            .map_err(|error| format!("columns: {error}; expected a JSON array of names"))?
            .flatten();
        let masks: BTreeMap<String, Mask> = self
            .masks
            .as_deref()
            .map(serde_json::from_str::<Option<_>>)
            .transpose()
            .map_err(|error| format!("masks: {error}; expected a JSON object of names and masks"))?
            .flatten()
            .unwrap_or_default();
        let predicate = self.predicate.as_deref().map(str::parse::<Predicate>).transpose();
        let predicate = predicate.map_err(|error| format!("predicate: {error}"))?;
        Ok(Target {
            columns,
            masks,
            predicate,
            days: Days { from: self.day_from, to: self.day_to },
        })
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
            expires_at_ms: None,
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
        let broken: [&dyn Fn(Written) -> Written; 7] = [
            &|row| Written { principal: "ada".to_owned(), ..row },
            &|row| Written { feed: "../x".to_owned(), ..row },
            &|row| Written { action: "look".to_owned(), ..row },
            &|row| Written { predicate: text("a ~ 1"), ..row },
            &|row| Written { columns: text("a"), ..row },
            &|row| Written { masks: text("{\"a\":\"blur\"}"), ..row },
            &|row| Written { action: "write".to_owned(), ..row },
        ];
        for (index, broken) in broken.iter().enumerate() {
            let (rows, fault) = broken(written("allow")).read();
            assert!(rows.is_empty() && fault.is_some(), "{index}: {rows:?}");
            for effect in ["deny", "Allow?"] {
                let (rows, fault) = broken(written(effect)).read();
                assert!(fault.is_some() && !rows.is_empty(), "{index}");
                assert!(rows.iter().all(|row| row.effect == Effect::Deny && row.target.is_all()));
            }
        }
        let (rows, _) = Written { action: String::new(), ..written("deny") }.read();
        assert_eq!(rows.len(), Action::ALL.len());
    }
}
