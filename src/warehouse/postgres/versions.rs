//! Earlier versions of keys whose last one the server refused: tried one by one, in the transaction that
//! the others are applied in. Were the batch sent again for each, one hot key could take minutes.

use std::error::Error as StdError;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures::future::{join_all, try_join_all};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Error, Statement};

use super::apply::under_savepoint;
use super::pool::{Session, blamed};
use super::stage::{TOPIC, Target};
use super::{copy, reject};
use crate::record::{Batch, Blame, Op};
use crate::warehouse::intake::{Intake, Refusal};
use crate::warehouse::reduce::At;

/// How often the log hears of it.
const PROGRESS: Duration = Duration::from_secs(10);

/// Tries the versions of each key in turn until one is taken. Stops early when a part is left out.
pub(super) async fn settle(
    session: &Session,
    target: &Target,
    feed: &str,
    intake: &mut Intake,
    keys: &[Vec<At>],
) -> Result<(), Error> {
    let versions: usize = keys.iter().map(Vec::len).sum();
    if versions == 0 {
        return Ok(());
    }
    let keys_refused = keys.len();
    tracing::info!(feed, keys_refused, versions, "tries the earlier versions of refused rows");
    let (batches, parts) = (intake.batches.clone(), intake.live().count());
    let one_by_one = OneByOne::prepare(session, target).await?;
    let mut told = Instant::now();
    for (settled, versions) in keys.iter().enumerate() {
        for at in versions {
            let batch = &batches[at.batch as usize].batch;
            let Some(refusal) = one_by_one.put(batch, at.row as usize).await? else { break };
            intake.refuse(*at, refusal);
            if intake.live().count() < parts {
                return Ok(());
            }
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                let refused = intake.refused();
                tracing::info!(feed, keys_refused, settled, refused, "still trying them");
            }
        }
    }
    Ok(())
}

/// The statements that take one row each, with its values.
struct OneByOne<'a> {
    session: &'a Session,
    target: &'a Target,
    delete: Statement,
    insert: Statement,
    dimensions: Vec<Statement>,
}

impl<'a> OneByOne<'a> {
    async fn prepare(session: &'a Session, target: &'a Target) -> Result<Self, Error> {
        let delete = session.prepare_cached(&target.delete_one).await?;
        let insert = session.prepare_cached(&target.insert_one).await?;
        let dimensions = target.dimensions.iter().map(|it| session.prepare_cached(&it.one));
        let dimensions = try_join_all(dimensions).await?;
        Ok(Self { session, target, delete, insert, dimensions })
    }

    /// Applies one row, or says why the server refuses it as the record's fault and leaves everything
    /// as it was.
    async fn put(&self, batch: &Batch, row: usize) -> Result<Option<Refusal>, Error> {
        let encoded = copy::encode_one(self.target, batch, row);
        let mut fields = fields(&encoded);
        let (statement, dimensions) = match batch.op(row) {
            Op::Delete => {
                fields.truncate(self.target.schema.key_columns);
                (&self.delete, &[][..])
            }
            Op::Upsert => {
                let topic = self.target.sends(TOPIC).then_some(&batch.source.topic);
                fields.extend(topic.map(|topic| Field(Some(topic.as_bytes()))));
                (&self.insert, &self.dimensions[..])
            }
        };
        let params: Vec<&(dyn ToSql + Sync)> = fields.iter().map(|field| field as _).collect();
        let work = async {
            let statements = dimensions.iter().chain([statement]);
            let run = |statement| self.session.execute(statement, &params);
            let done = join_all(statements.map(run)).await;
            done.into_iter().try_for_each(|done| done.map(drop))
        };
        let Err(error) = under_savepoint(self.session, work).await else { return Ok(None) };
        match error.as_db_error().filter(|_| blamed(&error) == Blame::Record) {
            Some(db) => Ok(Some(reject::refusal(db))),
            None => Err(error),
        }
    }
}

/// A value that is encoded already, for a parameter of the type it is encoded as.
#[derive(Debug)]
struct Field<'a>(Option<&'a [u8]>);

/// Each stands behind its length; a negative one is null.
fn fields(mut encoded: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    while let Some((length, rest)) = encoded.split_first_chunk() {
        let length = usize::try_from(i32::from_be_bytes(*length));
        let value = length.ok().and_then(|length| rest.split_at_checked(length));
        encoded = value.map_or(rest, |(_, rest)| rest);
        fields.push(Field(value.map(|(value, _)| value)));
    }
    fields
}

impl ToSql for Field<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        let Some(value) = self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(value);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
