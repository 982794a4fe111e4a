//! What a database needs, as a script for whoever may create it there.

use super::{postgres, shaped, sqlite};
use crate::config::{Feed, Warehouse};
use crate::record::SinkError;

/// The bookkeeping and the tables of these feeds, for a database that has none of them. Those of feeds
/// are left alone where they are.
pub fn script(config: &Warehouse, feeds: &[Feed]) -> Result<String, SinkError> {
    let in_sqlite = config.url.starts_with("sqlite:");
    let mut lines = match in_sqlite {
        true => sqlite::bookkeeping(),
        false => postgres::bookkeeping(),
    };
    for feed in feeds {
        let shaped = shaped(feed);
        let tables = match in_sqlite {
            true => sqlite::create_table(&shaped),
            false => postgres::create_table(&shaped, &config.schema),
        };
        lines.push(format!("-- feed {}\n{}", feed.name, tables?));
    }
    Ok(format!("BEGIN;\n\n{}\n\nCOMMIT;\n", lines.join("\n\n")))
}
