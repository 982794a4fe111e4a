//! Whose fault a database's error is, from its SQLSTATE.
//!
//! Pure. What is the record's goes to quarantine, what passes is tried again, what lasts parks the
//! partition. A code nobody decided on is lasting: a partition that waits for a person loses nothing.

use crate::record::Blame;

/// Judges a five-character SQLSTATE: first the codes that differ from their class, then the class.
pub fn sqlstate(code: &str) -> Blame {
    match code {
        // A key too long for its index, a jsonb string too long, nesting too deep: this value's
        // size. The rest of its class (too many columns) is the table's.
        "54000" | "54001" => Blame::Record,
        // A trigger's RAISE: the usual way to check a row where a constraint cannot. If it raises
        // for every row there are too many rejects, and the partition is parked all the same.
        "P0001" => Blame::Record,
        // COPY's own framing: we wrote it wrongly, no record did.
        "22P04" => Blame::Lasting,
        // Read-only: a standby, or a primary that lost its place under us. The address may lead to
        // another server in a moment.
        "25006" => Blame::Passing,
        // Our transaction was aborted or ended while idle; a new one may succeed.
        "25P02" | "25P03" => Blame::Passing,
        // A lock not got in time, an object in use. The rest of its class is a wrong state.
        "55P03" | "55006" => Blame::Passing,
        // A prepared statement that is gone; a new connection prepares it again.
        "26000" => Blame::Passing,
        // The database itself was dropped; no retry brings it back.
        "57P04" => Blame::Lasting,
        _ => class(code.get(..2).unwrap_or_default()),
    }
}

fn class(class: &str) -> Blame {
    match class {
        // A value that does not fit its type; a constraint on the row; a view's check option.
        "22" | "23" | "44" => Blame::Record,
        // Connection lost; serialization and deadlock; out of disk, memory, connections; ended by an
        // operator, starting up, shutting down; input and output errors of the server.
        "08" | "40" | "53" | "57" | "58" => Blame::Passing,
        // Corruption and internal errors: a retry may land on a healthy server.
        "XX" => Blame::Passing,
        // Wrong password or role (28), no such database or schema (3D, 3F), no such table or column,
        // or no right to it (42), something depends on it (2B), a feature the server lacks (0A), two
        // keys that the table holds to be one (21): for a person to mend.
        _ => Blame::Lasting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_judgement() {
        use Blame::{Lasting, Passing, Record};
        let table = [
            ("22003", Record, "numeric value out of range"),
            ("22021", Record, "character not in repertoire"),
            ("22P02", Record, "invalid text representation"),
            ("22P05", Record, "untranslatable character"),
            ("23502", Record, "not null violation"),
            ("23503", Record, "foreign key violation"),
            ("23505", Record, "unique violation"),
            ("23514", Record, "check violation"),
            ("54000", Record, "program limit exceeded"),
            ("54001", Record, "statement too complex"),
            ("40001", Passing, "serialization failure"),
            ("40P01", Passing, "deadlock detected"),
            ("08006", Passing, "connection failure"),
            ("53100", Passing, "disk full"),
            ("53300", Passing, "too many connections"),
            ("57014", Passing, "query canceled: statement_timeout"),
            ("57P01", Passing, "admin shutdown: pg_terminate_backend"),
            ("57P03", Passing, "cannot connect now"),
            ("55P03", Passing, "lock not available"),
            ("58030", Passing, "io error"),
            ("25006", Passing, "read only transaction: a standby"),
            ("25P02", Passing, "in failed transaction"),
            ("XX000", Passing, "internal error"),
            ("22P04", Lasting, "bad copy file format"),
            ("21000", Lasting, "cardinality violation: keys the table holds to be equal"),
            ("42P01", Lasting, "undefined table"),
            ("42703", Lasting, "undefined column"),
            ("42501", Lasting, "insufficient privilege"),
            ("28P01", Lasting, "invalid password"),
            ("3D000", Lasting, "no such database"),
            ("3F000", Lasting, "no such schema"),
            ("2BP01", Lasting, "dependent objects still exist"),
            ("0A000", Lasting, "feature not supported"),
            ("57P04", Lasting, "database dropped"),
            ("54011", Lasting, "too many columns"),
            ("P0001", Record, "raised by a trigger"),
            ("P0002", Lasting, "no data found in a trigger"),
            ("44000", Record, "check option violation"),
            ("", Lasting, "nothing"),
            ("?", Lasting, "not a code"),
        ];
        for (code, expected, what) in table {
            assert_eq!(sqlstate(code), expected, "{code} ({what})");
        }
    }
}
