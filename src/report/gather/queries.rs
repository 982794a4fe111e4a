//! The queries of a folder, each asked of the warehouse as it stands there.

use std::path::{Path, PathBuf};

use super::Sinks;
use crate::report::facts::{Queries, Query, Told};
use crate::warehouse::Answer;

/// Files that are asked.
const FILES: usize = 100;
/// Rows of an answer that are shown.
const ROWS: usize = 50;
/// Columns of an answer, and characters of a value.
const COLUMNS: usize = 30;
const CHARACTERS: usize = 300;
/// A query that is longer is none.
const BYTES: u64 = 64 * 1024;

pub async fn run(folder: &Path, sinks: &Sinks) -> Queries {
    let mut queries = Queries { folder: folder.display().to_string(), ..Queries::default() };
    let files = match listed(folder) {
        Ok(files) => files,
        Err(why) => {
            queries.fault = Some(why);
            return queries;
        }
    };
    for path in files {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match path.extension().and_then(|it| it.to_str()) {
            Some("sql") if queries.asked.len() < FILES => {
                queries.asked.push(ask(&path, file, sinks).await);
            }
            Some("sql" | "py") => queries.not_run.push(file),
            _ => {}
        }
    }
    queries
}

/// The folder's files, by their names.
fn listed(folder: &Path) -> Told<Vec<PathBuf>> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let entries: Vec<_> = entries.collect::<Result<_, _>>().map_err(failed)?;
    let mut files: Vec<PathBuf> = entries.iter().map(|entry| entry.path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

async fn ask(path: &Path, file: String, sinks: &Sinks) -> Query {
    let sql = match read(path) {
        Ok(sql) => sql,
        Err(why) => {
            return Query { file, about: String::new(), sql: String::new(), answer: Err(why) };
        }
    };
    let answer = match sinks.database() {
        Ok(database) => database.ad_hoc.ask(&sql, ROWS).await.map(shown),
        Err(why) => return Query { file, about: about(&sql), sql, answer: Err(why) },
    };
    let answer = answer.map_err(|error| error.to_string());
    Query { file, about: about(&sql), sql, answer }
}

fn read(path: &Path) -> Told<String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > BYTES {
        return Err(format!("the file has {size} bytes, more than the {BYTES} that are asked"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// The comment that a query begins with.
fn about(sql: &str) -> String {
    let lines = sql.lines().map_while(|line| line.trim().strip_prefix("--"));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// As much of an answer as a page has room for.
fn shown(mut answer: Answer) -> Answer {
    let cut = |text: &mut String| {
        if let Some((at, _)) = text.char_indices().nth(CHARACTERS) {
            text.truncate(at);
            text.push('…');
        }
    };
    answer.columns.truncate(COLUMNS);
    answer.columns.iter_mut().for_each(cut);
    for row in &mut answer.rows {
        row.truncate(COLUMNS);
        row.iter_mut().flatten().for_each(cut);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_told_by_the_comment_it_begins_with() {
        let sql = "-- Total spent,\n--  by type.\nSELECT 1 -- not this\n-- nor this\n";
        assert_eq!(about(sql), "Total spent, by type.");
        assert_eq!(about("SELECT 1"), "");
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let long = "ä".repeat(CHARACTERS + 1);
        let rows = vec![vec![Some(long.clone()), None, Some("ä".repeat(CHARACTERS))]];
        let answer = shown(Answer { columns: vec![long], rows, more: false });
        let cut = format!("{}…", "ä".repeat(CHARACTERS));
        assert_eq!(answer.columns[0], cut);
        assert_eq!(answer.rows[0], [Some(cut), None, Some("ä".repeat(CHARACTERS))]);
    }
}
