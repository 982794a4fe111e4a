//! From the staging table into the feed's: delete and upsert, and the search for rows that the server
//! refuses.

use std::ops::Range;

use futures::future::join_all;
use tokio::join;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Statement};

use super::pool::{Session, blamed};
use super::reject;
use super::stage::Target;
use crate::record::Blame;
use crate::warehouse::intake::Refusal;

/// The statements that bring staged rows into the feed's table.
pub(super) struct Apply<'a> {
    pub copy: Statement,
    pub delete: Option<Statement>,
    pub insert: Statement,
    /// Those that fill the dimensions: before the rows that refer to them.
    pub dimensions: Vec<Statement>,
    /// So many of the staged rows, the first ones, are deletes.
    pub deletes: usize,
    /// Present if the statements take it.
    pub topic: Option<&'a str>,
    pub target: &'a Target,
}

impl Apply<'_> {
    /// Applies the staged rows, and finds by bisection those that the server refuses as the record's
    /// fault: the others are applied, each range under a savepoint of its own. Stops early when
    /// `refuse` wants no more.
    pub async fn all_but_refused(
        &self,
        session: &Session,
        rows: usize,
        mut refuse: impl FnMut(usize, Refusal) -> bool,
    ) -> Result<(), Error> {
        let mut ranges = Vec::from([(0, rows)]);
        while let Some((start, end)) = ranges.pop() {
            let Err(error) = under_savepoint(session, self.range(session, start..end)).await else {
                continue;
            };
            let Some(db) = error.as_db_error().filter(|_| blamed(&error) == Blame::Record) else {
                return Err(error);
            };
            if end - start == 1 {
                if !refuse(start, reject::refusal(db)) {
                    return Ok(());
                }
                continue;
            }
            let middle = start + (end - start) / 2;
            ranges.push((middle, end));
            ranges.push((start, middle));
        }
        Ok(())
    }

    async fn range(&self, session: &Session, range: Range<usize>) -> Result<(), Error> {
        let deletes = range.start..range.end.min(self.deletes);
        let upserts = range.start.max(self.deletes)..range.end;
        let table = &*self.target.table;
        let insert = |(table, statement)| {
            self.run(session, ("INSERT", table), Some(statement), upserts.clone(), self.topic)
        };
        let tables = self.target.dimensions.iter().map(|dimension| &*dimension.table);
        let (deleted, filled, inserted) = join!(
            self.run(session, ("DELETE", table), self.delete.as_ref(), deletes, None),
            // So few that they are polled, and so sent, in their order.
            join_all(tables.zip(&self.dimensions).map(insert)),
            insert((table, &self.insert)),
        );
        // The first that failed says why.
        deleted.and(filled.into_iter().collect::<Result<(), Error>>()).and(inserted)
    }

    async fn run(
        &self,
        session: &Session,
        (operation, table): (&'static str, &str),
        statement: Option<&Statement>,
        rows: Range<usize>,
        topic: Option<&str>,
    ) -> Result<(), Error> {
        let Some(statement) = statement.filter(|_| !rows.is_empty()) else { return Ok(()) };
        let (from, upto) = (rows.start as i32, rows.end as i32);
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&from, &upto];
        if let Some(topic) = &topic {
            params.push(topic);
        }
        let running = session.execute(statement, &params);
        session.traced(operation, Some(table), running).await.map(drop)
    }
}

/// Does `work`, or leaves everything as it was. Sent in one go, so `work` must send with its first poll.
pub(super) async fn under_savepoint(
    session: &Session,
    work: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let (saved, done, released) = join!(
        session.batch_execute("SAVEPOINT staged"),
        work,
        session.batch_execute("RELEASE SAVEPOINT staged"),
    );
    saved?;
    match done {
        Ok(()) => released,
        Err(error) => {
            let undo = "ROLLBACK TO SAVEPOINT staged; RELEASE SAVEPOINT staged";
            session.batch_execute(undo).await?;
            Err(error)
        }
    }
}
