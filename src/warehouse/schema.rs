//! The bookkeeping schema's versions: which migrations there are, and whether this binary may run on
//! what it finds. Both adapters judge alike.

use crate::record::SinkError;

/// One step of the schema. `breaking` says that a binary one version older must not run on it.
pub(super) struct Migration {
    pub version: i32,
    pub name: &'static str,
    pub breaking: bool,
    pub sql: &'static str,
}

/// A migration as the database records it.
pub(super) struct Applied {
    pub version: i32,
    pub name: String,
    pub breaking: bool,
}

/// Those of `known` that are still to be applied.
pub(super) fn missing<'a>(
    known: &'a [Migration],
    applied: &[Applied],
) -> impl Iterator<Item = &'a Migration> {
    let newest = newest(applied);
    known.iter().filter(move |migration| migration.version > newest)
}

fn newest(applied: &[Applied]) -> i32 {
    applied.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Whether a binary that knows `known` may run on `applied`. Migrations only add, so a schema one
/// version newer is fine unless it is marked breaking: that lets nodes be upgraded one by one, and
/// rolled back. Two versions newer is more than any release is tried with.
pub(super) fn judge(known: &[Migration], applied: &[Applied]) -> Result<(), SinkError> {
    let wanted = known.last().map_or(0, |migration| migration.version);
    let found = newest(applied);
    if found == 0 {
        return Err(SinkError::lasting(
            "the warehouse has no Tidegate schema yet; run `tidegate migrate`",
        ));
    }
    if found < wanted {
        return Err(SinkError::lasting(format!(
            "the warehouse's schema is at version {found}, this release needs {wanted}; run \
             `tidegate migrate`"
        )));
    }
    let newer = || applied.iter().filter(|migration| migration.version > wanted);
    if let Some(breaking) = newer().find(|migration| migration.breaking) {
        return Err(SinkError::lasting(format!(
            "the warehouse's schema was changed by a newer release in a way this one cannot work \
             with (version {}, {}); run that release here too",
            breaking.version, breaking.name
        )));
    }
    if found > wanted + 1 {
        return Err(SinkError::lasting(format!(
            "the warehouse's schema is at version {found}, this release knows {wanted} and runs on \
             at most {}; run a newer release",
            wanted + 1
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> [Migration; 2] {
        [1, 2].map(|version| Migration { version, name: "m", breaking: false, sql: "" })
    }

    fn applied(upto: i32, breaking: i32) -> Vec<Applied> {
        let one = |version| Applied { version, name: "m".into(), breaking: version == breaking };
        (1..=upto).map(one).collect()
    }

    #[test]
    fn runs_on_its_own_version_and_one_newer() {
        assert!(judge(&known(), &applied(2, 0)).is_ok());
        assert!(judge(&known(), &applied(3, 0)).is_ok());
        assert!(judge(&known(), &applied(3, 1)).is_ok(), "breaking for older ones, not for us");
    }

    #[test]
    fn refuses_what_is_absent_older_breaking_or_far_newer() {
        for (applied, expected) in [
            (vec![], "no Tidegate schema"),
            (applied(1, 0), "tidegate migrate"),
            (applied(3, 3), "newer release"),
            (applied(4, 3), "newer release"),
            (applied(4, 0), "at most 3"),
        ] {
            let error = judge(&known(), &applied).unwrap_err();
            assert!(error.message.contains(expected), "{error}");
        }
    }

    #[test]
    fn names_what_is_still_to_be_applied() {
        let versions = |applied: &[Applied]| -> Vec<i32> {
            missing(&known(), applied).map(|migration| migration.version).collect()
        };
        assert_eq!(versions(&[]), [1, 2]);
        assert_eq!(versions(&applied(1, 0)), [2]);
        assert_eq!(versions(&applied(5, 0)), [0; 0]);
    }
}
