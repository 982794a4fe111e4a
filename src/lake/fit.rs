//! Whether a Delta table can take files of these columns. Columns that it lacks are added: readers see
//! nulls in the files from before, and no file is written anew.

use std::collections::HashMap;

use deltalake_core::kernel::transaction::{CommitData, TransactionError};
use deltalake_core::kernel::{Action, MetadataExt, Snapshot, StructField, StructType};
use deltalake_core::logstore::{CommitOrBytes, LogStoreRef};
use deltalake_core::protocol::DeltaOperation;
use tracing::info;
use uuid::Uuid;

use super::delta::judged_delta;
use super::log::judged_write;
use super::retry::{self, ATTEMPTS};
use crate::record::{Blame, SinkError};

/// Checks the table, and adds what it lacks of `columns`. Other nodes may do the same at once.
pub async fn fit(
    log: &LogStoreRef,
    columns: &[StructField],
    partitioned_by: &[impl AsRef<str>],
) -> Result<(), SinkError> {
    for attempt in 0..ATTEMPTS {
        let snapshot = Snapshot::try_new(log.as_ref(), None)
            .await
            .map_err(|error| judged_delta(error).context("opening the lake table"))?;
        check(log, &snapshot, partitioned_by)?;
        let missing = missing(log, &snapshot, columns)?;
        if missing.is_empty() || add(log, &snapshot, missing).await? {
            return Ok(());
        }
        retry::pause(attempt).await;
    }
    Err(retry::lost().context("adding columns to the lake table"))
}

fn check(
    log: &LogStoreRef,
    snapshot: &Snapshot,
    partitioned_by: &[impl AsRef<str>],
) -> Result<(), SinkError> {
    let at = log.root_url();
    let protocol = snapshot.protocol();
    if protocol.min_writer_version() > 2 {
        return Err(SinkError::lasting(format!(
            "the lake table {at} needs Delta writer version {}; this release writes version 2",
            protocol.min_writer_version()
        )));
    }
    let metadata = snapshot.metadata();
    let wanted: Vec<&str> = partitioned_by.iter().map(AsRef::as_ref).collect();
    if *metadata.partition_columns() != wanted {
        return Err(SinkError::lasting(format!(
            "the lake table {at} is partitioned by {:?}, not by {wanted:?}",
            metadata.partition_columns()
        )));
    }
    if metadata.configuration().contains_key("delta.setTransactionRetentionDuration") {
        return Err(SinkError::lasting(format!(
            "the lake table {at} sets delta.setTransactionRetentionDuration: the progress of an \
                 idle partition would vanish. Unset it"
        )));
    }
    Ok(())
}

/// The columns that the table lacks; an error where one has another type.
fn missing(
    log: &LogStoreRef,
    snapshot: &Snapshot,
    columns: &[StructField],
) -> Result<Vec<StructField>, SinkError> {
    let at = log.root_url();
    let schema = snapshot.schema();
    let mut missing = Vec::new();
    for column in columns {
        match schema.field(column.name()) {
            Some(found) if found.data_type() == column.data_type() => {}
            Some(found) => {
                return Err(SinkError::lasting(format!(
                    "the lake table {at} has no column {} of type {} (found: {}): give the feed \
                     another `lake.layout`, or its former columns",
                    column.name(),
                    column.data_type(),
                    found.data_type()
                )));
            }
            None => missing.push(column.clone()),
        }
    }
    // Most readers do not tell case apart.
    let other = |name: &String| {
        schema.fields().find(|field| field.name().eq_ignore_ascii_case(name)).map(|it| it.name())
    };
    for column in &missing {
        if let Some(other) = other(column.name()) {
            return Err(SinkError::lasting(format!(
                "the lake table {at} has a column {other}, which differs from {} by case alone: \
                     name the feed's column so, or otherwise",
                column.name()
            )));
        }
    }
    Ok(missing)
}

/// Writes the version after the snapshot's, with more columns. Answers whether it landed; if not,
/// the table must be looked at again.
async fn add(
    log: &LogStoreRef,
    snapshot: &Snapshot,
    missing: Vec<StructField>,
) -> Result<bool, SinkError> {
    let there = snapshot.schema();
    let fields = there.fields().cloned().chain(missing.iter().cloned());
    let schema = StructType::try_new(fields).map_err(SinkError::lasting)?;
    let metadata = MetadataExt::with_schema(snapshot.metadata().clone(), &schema);
    let metadata = metadata.map_err(SinkError::lasting)?;
    let names: Vec<&str> = missing.iter().map(|field| field.name().as_str()).collect();
    info!(target: "tidegate::lake", table = %log.root_url(), columns = ?names, "adding columns");
    let operation = DeltaOperation::AddColumn { fields: missing.clone() };
    // Without our commit id: it says nothing of rows and progress belonging together.
    let actions = vec![Action::Metadata(metadata)];
    let bytes = CommitData::new(actions, operation, HashMap::new(), Vec::new())
        .get_bytes()
        .map_err(SinkError::lasting)?;
    let version = snapshot.version() + 1;
    let entry = CommitOrBytes::LogBytes(bytes);
    match log.write_commit_entry(version, entry, Uuid::new_v4()).await {
        Ok(()) => Ok(true),
        Err(TransactionError::ObjectStore { source })
            if judged_write(&source).blame == Blame::Lasting =>
        {
            Err(judged_write(&source).context(format!("writing log entry {version}")))
        }
        // Somebody else's version, or an answer that never came: the table itself tells.
        Err(_) => Ok(false),
    }
}
