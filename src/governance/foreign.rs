//! Rows of existing tables → permission rows, as a node file maps their columns.
//!
//! * A table gives nothing but what its mapping names. NULL is nobody, and `*` is a name like any other,
//!   which nobody has, unless the mapping says what it stands for.
//! * A row with a value that is not understood allows nothing; where it denies, it denies all that it could
//!   mean. So does a table that cannot be read, if its rows may deny; of any other the rows are none.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use serde_json::Value;

use super::parts::Parts;
use super::written::expiry;
use super::{Action, Effect, Grantee, Mask, Pattern, Predicate, Row, RowId, Target};
use crate::config::PermissionSource;

/// Of each row the values of [`PermissionSource::read_columns`], in their order; or why there are none.
pub type Found = Result<Vec<Vec<Value>>, String>;

/// So many faults of one table are told, and of the others their number.
const TOLD: usize = 20;
/// Characters of a row's place, which is shown wherever the row decides.
const PLACE: usize = 100;

/// How the rows of one table are read.
pub struct Mapping<'s> {
    name: &'s str,
    source: &'s PermissionSource,
    columns: Vec<&'s str>,
    reach: Vec<Action>,
}

/// One row of it.
struct Values<'m> {
    mapping: &'m Mapping<'m>,
    values: &'m [Value],
}

impl<'s> Mapping<'s> {
    pub fn of(name: &'s str, source: &'s PermissionSource) -> Self {
        Self { name, source, columns: source.read_columns(), reach: source.reach() }
    }

    /// The permission rows, in the order of their places, and what is not understood: where, and what.
    pub fn rows(&self, found: Found) -> (Vec<Row>, Vec<(String, String)>) {
        let found = match found {
            Ok(found) => found,
            Err(why) => return (self.unread(), vec![(format!("source {}", self.name), why)]),
        };
        let (mut rows, mut faults) = (Vec::new(), Vec::new());
        for values in &found {
            let (those, fault) = self.row(values);
            faults.extend(fault.map(|fault| (self.id(values), fault)));
            rows.extend(those);
        }
        // A database answers in any order, and the same rows are to be the same.
        let said = |row: &Row| (row.id.clone(), row.grantee.clone(), row.feed.to_string());
        rows.sort_by_cached_key(|row| (said(row), row.action, format!("{:?}", row.target)));
        faults.sort();
        let more = faults.len().saturating_sub(TOLD);
        faults.truncate(TOLD);
        let mut faults: Vec<_> =
            faults.into_iter().map(|(id, fault)| (format!("row {id}"), fault)).collect();
        if more > 0 {
            faults.push((format!("source {}", self.name), format!("{more} more rows like these")));
        }
        (rows, faults)
    }

    /// What stands for a table whose denials are not known.
    fn unread(&self) -> Vec<Row> {
        if !self.source.may_deny() {
            return Vec::new();
        }
        let feeds = match self.source.feed.always.as_slice() {
            [] => vec![Pattern::all()],
            always => always.to_vec(),
        };
        let denied = Parts {
            id: RowId::Source(self.name.to_owned(), "unread".to_owned()),
            grantee: Ok(Grantee::Everybody),
            feeds: Ok(feeds),
            actions: Ok(self.reach.clone()),
            reach: self.reach.clone(),
            effect: Effect::Deny,
            target: Ok(Target::default()),
            expires_at_ms: Ok(None),
            fault: None,
            granted_by: self.source.table.clone(),
            reason: "it may deny, and cannot be read".to_owned(),
        };
        denied.rows().0
    }

    fn id(&self, values: &[Value]) -> RowId {
        let values = Values { mapping: self, values };
        let place = |column: &String| text(values.of(column)).unwrap_or_else(|| "NULL".to_owned());
        let place = self.source.id.iter().map(place).collect::<Vec<_>>().join(",");
        let place = place.chars().map(|c| if c.is_control() { '?' } else { c }).take(PLACE);
        RowId::Source(self.name.to_owned(), place.collect())
    }

    fn row(&self, values: &[Value]) -> (Vec<Row>, Option<String>) {
        let id = self.id(values);
        let values = Values { mapping: self, values };
        let (counts, uncertain) = values.counts();
        if !counts {
            return (Vec::new(), None);
        }
        let (effect, unsaid) = values.effect();
        let Some(grantee) = values.grantee().transpose() else { return (Vec::new(), None) };
        let parts = Parts {
            id,
            grantee,
            feeds: values.feeds(),
            actions: values.actions(),
            reach: self.reach.clone(),
            effect,
            target: values.target(),
            expires_at_ms: values.expires_at_ms(),
            fault: [uncertain, unsaid].into_iter().flatten().reduce(|a, b| format!("{a}; {b}")),
            granted_by: self.source.table.clone(),
            reason: format!("a row of {}", self.source.table),
        };
        parts.rows()
    }
}

impl Values<'_> {
    fn of(&self, column: &str) -> &Value {
        let at = self.mapping.columns.iter().position(|known| *known == column);
        at.and_then(|at| self.values.get(at)).unwrap_or(&Value::Null)
    }

    /// Where in the node file it says how a column is read.
    fn field(&self, field: &str) -> String {
        format!("governance.sources.{}.{field}", self.mapping.name)
    }

    /// Whether it counts, as far as that is understood, and what is not.
    fn counts(&self) -> (bool, Option<String>) {
        let mut fault = None;
        for column in &self.mapping.source.only_if {
            match truth(self.of(column)) {
                Some(true) => {}
                Some(false) => return (false, None),
                None => {
                    let value = shown(self.of(column));
                    fault.get_or_insert(format!("{column}: {value} is neither true nor false"));
                }
            }
        }
        (true, fault)
    }

    fn effect(&self) -> (Effect, Option<String>) {
        let source = self.mapping.source;
        let Some(effect) = &source.effect else { return (Effect::Allow, None) };
        let value = self.of(&effect.column);
        if let Some(effect) = text(value).and_then(|text| effect.names.get(&text)) {
            return (*effect, None);
        }
        let otherwise = if source.may_deny() { Effect::Deny } else { Effect::Allow };
        let names = self.field("effect.names");
        let fault = format!("{}: {} is not among {names}", effect.column, shown(value));
        (otherwise, Some(fault))
    }

    /// None for nobody.
    fn grantee(&self) -> Result<Option<Grantee>, String> {
        let principal = &self.mapping.source.principal;
        let Some(text) = text(self.of(&principal.column)) else { return Ok(None) };
        if let Some(grantee) = principal.names.get(&text) {
            return Ok(Some(grantee.clone()));
        }
        let fault = || {
            let (kind, names) = (principal.kind.name(), self.field("principal.names"));
            format!(
                "{}: `{text}` is no {kind}'s name; {names} may say whom it stands for",
                principal.column
            )
        };
        match text == "*" {
            true => Err(fault()),
            false => Grantee::of(principal.kind, &text).map(Some).map_err(|_| fault()),
        }
    }

    fn feeds(&self) -> Result<Vec<Pattern>, String> {
        let feed = &self.mapping.source.feed;
        let Some(column) = &feed.column else { return Ok(feed.always.clone()) };
        let value = self.of(column);
        let text = text(value).unwrap_or_default();
        if let Some(feeds) = feed.names.get(&text) {
            return Ok(feeds.clone());
        }
        let own = text.to_lowercase().parse::<Pattern>().ok().filter(|_| !text.contains('*'));
        own.map(|own| vec![own]).ok_or_else(|| {
            let names = self.field("feed.names");
            format!(
                "{column}: {} is no feed's name; {names} may say which it stands for",
                shown(value)
            )
        })
    }

    fn actions(&self) -> Result<Vec<Action>, String> {
        let action = &self.mapping.source.action;
        let Some(column) = &action.column else { return Ok(action.always.clone()) };
        let value = self.of(column);
        let named = text(value).and_then(|text| action.names.get(&text));
        named.cloned().ok_or_else(|| {
            format!("{column}: {} is not among {}", shown(value), self.field("action.names"))
        })
    }

    fn target(&self) -> Result<Target, String> {
        let source = self.mapping.source;
        let given = |column: &Option<String>| {
            let name = column.clone()?;
            let value = self.of(&name).clone();
            Some((name, text(&value)?, value))
        };
        let columns = given(&source.columns).map(|(name, text, value)| {
            names(&text, value).ok_or_else(|| format!("{name}: `{text}` is no list of columns"))
        });
        let masks = given(&source.masks).map(|(name, text, _)| {
            let masks = serde_json::from_str::<BTreeMap<String, Mask>>(&text);
            masks.map_err(|error| format!("{name}: {error}; a JSON object of columns and masks"))
        });
        let predicate = given(&source.predicate).map(|(name, text, _)| {
            text.parse::<Predicate>().map_err(|error| format!("{name}: {error}"))
        });
        Ok(Target {
            columns: columns.transpose()?,
            masks: masks.transpose()?.unwrap_or_default(),
            predicate: predicate.transpose()?,
            ..Target::default()
        })
    }

    fn expires_at_ms(&self) -> Result<Option<i64>, String> {
        let Some(column) = &self.mapping.source.expires_at else { return Ok(None) };
        let Some(text) = text(self.of(column)) else { return Ok(None) };
        let day = |text: &str| text.parse::<NaiveDate>().map(|day| day.and_time(NaiveTime::MIN));
        let time = text.replacen(' ', "T", 1).parse::<NaiveDateTime>().or_else(|_| day(&text));
        match time {
            Ok(time) => Ok(Some(time.and_utc().timestamp_millis())),
            Err(_) => expiry(Some(&text)).map_err(|error| format!("{column}: {error}")),
        }
    }
}

/// A value as the mapping's names have it; none for NULL. Spaces at its end do not count: columns of a fixed
/// width have them.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.trim_end_matches(' ').to_owned()),
        other => Some(other.to_string()),
    }
}

fn shown(value: &Value) -> String {
    text(value).map_or_else(|| "NULL".to_owned(), |text| format!("`{text}`"))
}

fn truth(value: &Value) -> Option<bool> {
    match text(value).map(|text| text.to_lowercase()).as_deref() {
        Some("true" | "1" | "t" | "yes" | "y") => Some(true),
        None | Some("false" | "0" | "f" | "no" | "n") => Some(false),
        Some(_) => None,
    }
}

/// Names of columns: an array, one written as JSON, or joined by commas.
fn names(text: &str, value: Value) -> Option<BTreeSet<String>> {
    if value.is_array() || text.starts_with('[') {
        return serde_json::from_str(text).ok();
    }
    if !value.is_string() {
        return None;
    }
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    Some(names.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::governance::{Decision, Principal, decide};

    /// In `id, who, what, how, active, sign, shown, masks, filter, until`.
    const SOURCE: &str = "
        table: t
        id: [id]
        principal: {column: who, names: {PUBLIC: '*', analysts: 'role:analyst'}}
        feed: {column: what, names: {ALL: ['*'], sales: ['sales_*', totals]}}
        action: {column: how, names: {SELECT: [read], ALL: [read, replay]}}
        only_if: [active]
        effect: {column: sign, names: {'+': allow, '-': deny}}
        columns: shown
        masks: masks
        predicate: filter
        expires_at: until";

    fn source(text: &str) -> PermissionSource {
        serde_saphyr::from_str(text).unwrap()
    }

    /// A row of `SOURCE` that says what it says, with some of its columns otherwise.
    fn row(source: &PermissionSource, changes: Value) -> Vec<Value> {
        let mut row = json!({"id": 7, "who": "ada", "what": "Orders", "how": "SELECT", "active": true,
            "sign": "+", "shown": null, "masks": null, "filter": null, "until": null});
        for (name, value) in changes.as_object().unwrap() {
            row[name] = value.clone();
        }
        source.read_columns().iter().map(|name| row[*name].clone()).collect()
    }

    fn read(changes: Value) -> (Vec<Row>, Vec<(String, String)>) {
        let source = source(SOURCE);
        let found = Ok(vec![row(&source, changes)]);
        Mapping::of("s", &source).rows(found)
    }

    fn sentences(changes: Value) -> Vec<String> {
        let (rows, faults) = read(changes);
        assert_eq!(faults, []);
        let one = |row: &Row| {
            format!("{} {} {} {}", row.grantee, row.effect.name(), row.action, row.feed)
        };
        rows.iter().map(one).collect()
    }

    #[test]
    fn a_row_says_what_its_mapping_says() {
        assert_eq!(sentences(json!({})), ["user:ada allow read orders"]);
        assert_eq!(read(json!({})).0[0].id, RowId::Source("s".to_owned(), "7".to_owned()));
        assert_eq!(sentences(json!({"who": "PUBLIC"})), ["* allow read orders"]);
        assert_eq!(sentences(json!({"who": "analysts "})), ["role:analyst allow read orders"]);
        assert_eq!(sentences(json!({"what": "ALL", "sign": "-"})), ["user:ada deny read *"]);
        assert_eq!(
            sentences(json!({"what": "sales", "how": "ALL"})),
            [
                "user:ada allow read sales_*",
                "user:ada allow replay sales_*",
                "user:ada allow read totals",
                "user:ada allow replay totals"
            ]
        );
        let (rows, faults) = read(json!({"shown": "id, city", "masks": "{\"city\":\"hash\"}",
            "filter": "id > 3", "until": "2026-01-31 12:00:00"}));
        assert_eq!((rows.len(), faults), (1, vec![]));
        let Target { columns, masks, predicate, .. } = &rows[0].target;
        assert_eq!(columns.as_ref().map(BTreeSet::len), Some(2));
        assert_eq!((masks["city"], predicate.is_some()), (Mask::Hash, true));
        for shown in [json!(["id", "city"]), json!("[\"id\", \"city\"]"), json!("city,id,")] {
            let (rows, faults) = read(json!({"shown": shown}));
            assert_eq!((&rows[0].target.columns, faults), (columns, vec![]), "{shown}");
        }
    }

    #[test]
    fn a_row_that_does_not_count_says_nothing_and_is_no_fault() {
        for changes in [
            json!({"active": false}),
            json!({"active": 0}),
            json!({"active": "N"}),
            json!({"active": null}),
            json!({"who": null}),
            json!({"who": null, "sign": "-"}),
        ] {
            assert_eq!(read(changes.clone()), (vec![], vec![]), "{changes}");
        }
    }

    #[test]
    fn times_without_a_zone_are_utc_and_a_day_ends_where_it_begins() {
        let noon = 1_769_860_800_000;
        for (text, at) in [
            ("2026-01-31T12:00:00+00:00", Some(noon)),
            ("2026-01-31T13:00:00+01:00", Some(noon)),
            ("2026-01-31T12:00:00", Some(noon)),
            ("2026-01-31 12:00:00.000", Some(noon)),
            ("2026-01-31", Some(noon - 43_200_000)),
            ("infinity", None),
        ] {
            let (rows, faults) = read(json!({"until": text}));
            assert_eq!((rows[0].expires_at_ms, faults), (at, vec![]), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_allows_nothing_and_denies_what_it_could_mean() {
        for (changes, said) in [
            (
                json!({"who": "*"}),
                "who: `*` is no user's name; governance.sources.s.principal.names",
            ),
            (json!({"who": ""}), "who: ``"),
            (json!({"who": "a\u{0}"}), "no user's name"),
            (json!({"what": "Raw Zone"}), "what: `Raw Zone` is no feed's name"),
            (json!({"what": "*"}), "governance.sources.s.feed.names"),
            (json!({"what": "sales_*"}), "no feed's name"),
            (json!({"what": null}), "what: NULL"),
            (json!({"what": []}), "no feed's name"),
            (
                json!({"how": "select"}),
                "how: `select` is not among governance.sources.s.action.names",
            ),
            (json!({"how": "manage"}), "not among"),
            (json!({"how": null}), "how: NULL"),
            (json!({"active": "perhaps"}), "active: `perhaps` is neither true nor false"),
            (json!({"active": 2}), "neither"),
            (json!({"shown": ""}), "empty list of columns"),
            (json!({"shown": {"a": 1}}), "no list of columns"),
            (json!({"shown": 1}), "no list of columns"),
            (json!({"masks": "hash"}), "a JSON object"),
            (json!({"masks": {"a": "blur"}}), "a JSON object"),
            (json!({"filter": "a ~ 1"}), "filter: "),
            (json!({"until": "soon"}), "until: expires"),
            (json!({"until": "-infinity"}), "RFC 3339"),
            (json!({"shown": "a", "how": "ALL"}), "for `read`"),
        ] {
            let (rows, faults) = read(changes.clone());
            assert_eq!((rows.len(), faults.len()), (0, 1), "{changes}");
            assert!(
                faults[0].0 == "row s#7" && faults[0].1.contains(said),
                "{changes}: {faults:?}"
            );
            let mut denies = changes.clone();
            denies["sign"] = json!("-");
            let (rows, faults) = read(denies);
            assert_eq!(faults.len(), 1, "{changes}");
            let principal = Principal::user("ada");
            let feed = if changes.get("what").is_some() { "anything" } else { "orders" };
            let denied = decide(&rows, &principal, Action::Read, feed, 0);
            assert!(matches!(denied, Decision::Denied(Some(_))), "{changes}: {rows:?}");
            // It reaches no further than its mapping.
            assert!(rows.iter().all(|row| [Action::Read, Action::Replay].contains(&row.action)));
        }
        let (rows, faults) = read(json!({"sign": "?"}));
        assert_eq!((rows[0].effect, faults.len()), (Effect::Deny, 1));
        let only_allows = source(&SOURCE.replace(", '-': deny", ""));
        let found = Ok(vec![row(&only_allows, json!({"sign": "-"}))]);
        let (rows, faults) = Mapping::of("s", &only_allows).rows(found);
        assert_eq!((rows.len(), faults.len()), (0, 1));
    }

    #[test]
    fn a_table_that_cannot_be_read_gives_nothing_and_denies_if_it_may() {
        let denying = source(SOURCE);
        let (rows, faults) = Mapping::of("s", &denying).rows(Err("gone".to_owned()));
        assert_eq!(faults, [("source s".to_owned(), "gone".to_owned())]);
        let denied = |action| decide(&rows, &Principal::user("bob"), action, "f", 0);
        assert_eq!(denied(Action::Read), Decision::Denied(Some(rows[0].id.clone())));
        assert_eq!(denied(Action::Replay), Decision::Denied(Some(rows[0].id.clone())));
        assert_eq!(denied(Action::Manage), Decision::Denied(None));
        let allowing = source(&SOURCE.replace(", '-': deny", ""));
        let (rows, faults) = Mapping::of("s", &allowing).rows(Err("gone".to_owned()));
        assert_eq!((rows.len(), faults.len()), (0, 1));
    }

    #[test]
    fn the_order_of_an_answer_does_not_matter_and_not_every_fault_is_told() {
        let source = source(SOURCE);
        let some =
            |n: usize| row(&source, json!({"id": n, "who": if n < 3 { "ada" } else { "*" }}));
        let mut found: Vec<_> = (0..60).map(some).collect();
        let mapping = Mapping::of("s", &source);
        let first = mapping.rows(Ok(found.clone()));
        found.reverse();
        assert_eq!(mapping.rows(Ok(found)), first);
        let (rows, faults) = first;
        assert_eq!((rows.len(), faults.len()), (3, TOLD + 1));
        assert!(faults[TOLD].1.starts_with("37 more"), "{:?}", faults[TOLD]);
    }
}
