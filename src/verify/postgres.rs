//! PostgreSQL, through a connection of its own that can only read.

use std::collections::HashMap;
use std::error::Error as _;
use std::pin::pin;
use std::sync::Arc;

use futures::TryStreamExt;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row as Found};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::gap::Gap;
use super::quarantine::{Chosen, Counted, Fate, Kept, Marked, State};
use super::warehouse::{Quarantined, Row, Standing};
use crate::config::{Column, Feed, TlsMode, Warehouse};
use crate::record::{OffsetRange, RejectClass, SinkKind, TopicId, TopicPartition};

/// Times and numbers as `canon` reads them; a long scan is not cut off.
const SETTINGS: &str = "SET default_transaction_read_only = on; SET timezone = 'UTC'; \
                        SET datestyle = 'ISO'; SET extra_float_digits = 1; \
                        SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0";

pub struct Postgres {
    client: Client,
    /// Of the feeds' tables that name none.
    schema: String,
}

impl Postgres {
    pub async fn open(config: &Warehouse) -> Result<Self, String> {
        let mut address: Config = config
            .url
            .parse()
            .map_err(|error| format!("the warehouse's url is not understood: {}", said(error)))?;
        if let Some(secret) = &config.password {
            address.password(secret.read()?.reveal());
        }
        address.application_name("tidegate-verify");
        let client = match config.tls.mode {
            TlsMode::Disable => {
                address.ssl_mode(SslMode::Disable);
                let (client, connection) = address.connect(NoTls).await.map_err(said)?;
                tokio::spawn(connection);
                client
            }
            TlsMode::VerifyFull => {
                address.ssl_mode(SslMode::Require);
                let (client, connection) = address.connect(tls(config)?).await.map_err(said)?;
                tokio::spawn(connection);
                client
            }
        };
        client.batch_execute(SETTINGS).await.map_err(said)?;
        Ok(Self { client, schema: config.schema.clone() })
    }

    pub async fn begin(&self) -> Result<(), String> {
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    pub async fn end(&self) -> Result<(), String> {
        self.run("ROLLBACK").await
    }

    async fn run(&self, sql: &str) -> Result<(), String> {
        self.client.batch_execute(sql).await.map_err(said)
    }

    /// Calls `each` with the rows of a statement about one feed, if the table it reads exists.
    async fn each(
        &self,
        table: &str,
        sql: &str,
        parameters: &[&str],
        mut each: impl FnMut(Found) -> Result<(), String>,
    ) -> Result<(), String> {
        let exists = self.client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await;
        if !exists.map_err(said)?.get::<_, bool>(0) {
            return Ok(());
        }
        let rows = self.client.query_raw(sql, parameters).await.map_err(said)?;
        let mut rows = pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(said)? {
            each(row)?;
        }
        Ok(())
    }

    pub async fn progress(&self, feed: &str) -> Result<HashMap<TopicPartition, Standing>, String> {
        const READ: &str = "SELECT topic, partition, topic_id::text, start_offset, next_offset \
                            FROM tidegate.progress WHERE feed = $1";
        let mut progress = HashMap::new();
        self.each("tidegate.progress", READ, &[feed], |row| {
            let topic_id = TopicId::from(uuid_of(&row, 2));
            let source = TopicPartition::new(row.get::<_, &str>(0), row.get(1));
            let (start, next_offset) = (row.get(3), row.get(4));
            progress.insert(source, Standing { topic_id, start, next_offset });
            Ok(())
        })
        .await?;
        Ok(progress)
    }

    pub async fn gaps(&self, feed: &str) -> Result<Vec<Gap>, String> {
        const READ: &str = "SELECT topic, partition, topic_id::text, from_offset, to_offset, reason, \
                                   settled_at IS NOT NULL \
                            FROM tidegate.gaps WHERE feed = $1 ORDER BY recorded_at";
        let mut gaps = Vec::new();
        self.each("tidegate.gaps", READ, &[feed], |row| {
            gaps.push(Gap {
                source: TopicPartition::new(row.get::<_, &str>(0), row.get(1)),
                topic_id: TopicId::from(uuid_of(&row, 2)),
                range: OffsetRange { start: row.get(3), end: row.get(4) },
                reason: row.get(5),
                settled: row.get(6),
            });
            Ok(())
        })
        .await?;
        Ok(gaps)
    }

    pub async fn former(&self, feed: &str) -> Result<Vec<(TopicPartition, OffsetRange)>, String> {
        const READ: &str = "SELECT topic, partition, start_offset, end_offset \
                            FROM tidegate.former WHERE feed = $1";
        let mut former = Vec::new();
        self.each("tidegate.former", READ, &[feed], |row| {
            let source = TopicPartition::new(row.get::<_, &str>(0), row.get(1));
            former.push((source, OffsetRange { start: row.get(2), end: row.get(3) }));
            Ok(())
        })
        .await?;
        Ok(former)
    }

    /// Offsets whose rows went because they were old, both ends included.
    pub async fn expired(&self, feed: &str) -> Result<Vec<(TopicPartition, i64, i64)>, String> {
        const READ: &str = "SELECT topic, partition, from_offset, to_offset \
                            FROM tidegate.expired WHERE feed = $1";
        let mut expired = Vec::new();
        self.each("tidegate.expired", READ, &[feed], |row| {
            let source = TopicPartition::new(row.get::<_, &str>(0), row.get(1));
            expired.push((source, row.get(2), row.get(3)));
            Ok(())
        })
        .await?;
        Ok(expired)
    }

    pub async fn quarantine(
        &self,
        feed: &str,
        each: &mut impl FnMut(Quarantined),
    ) -> Result<(), String> {
        const READ: &str = "SELECT topic, partition, record_offset, topic_id::text \
                            FROM tidegate.quarantine \
                            WHERE feed = $1 AND coalesce(settled, '') NOT IN ('replayed', 'read_again')";
        if !self.has_quarantine().await? {
            return Ok(());
        }
        self.each("tidegate.quarantine", READ, &[feed], |row| {
            each(Quarantined {
                topic: row.get(0),
                partition: row.get(1),
                offset: row.get(2),
                topic_id: uuid_of(&row, 3).filter(|id| !id.is_nil()),
            });
            Ok(())
        })
        .await
    }

    pub async fn kept_columns(&self, feed: &str) -> Result<Option<String>, String> {
        const READ: &str = "SELECT columns::text FROM tidegate.columns WHERE feed = $1";
        let mut kept = None;
        self.each("tidegate.columns", READ, &[feed], |row| {
            kept = Some(row.get(0));
            Ok(())
        })
        .await?;
        Ok(kept)
    }

    /// The names of the table's columns; none where there is no table.
    pub async fn table_columns(&self, feed: &Feed) -> Result<Vec<String>, String> {
        const READ: &str = "SELECT attname::text FROM pg_attribute \
                            WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
        let rows = self.client.query(READ, &[&self.table(feed).1]).await.map_err(said)?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The feed's table, as people write it and in quotes.
    pub fn table(&self, feed: &Feed) -> (String, String) {
        let (own, name) = feed.table();
        let schema = own.as_deref().unwrap_or(&self.schema);
        (format!("{schema}.{name}"), format!("{}.{}", ident(schema), ident(&name)))
    }

    pub async fn rows(
        &self,
        feed: &Feed,
        columns: &[Column],
        origin: &[&str],
        take: &mut impl FnMut(Row) -> Result<(), String>,
    ) -> Result<(), String> {
        let one = |name: &str, kind: &str| match origin.contains(&name) {
            true => format!("{}::{kind}", ident(name)),
            false => format!("NULL::{kind}"),
        };
        let mut wanted =
            vec![one("_topic", "text"), one("_partition", "int4"), one("_offset", "int8")];
        wanted.extend(columns.iter().map(|column| format!("{}::text", ident(&column.name))));
        let (_, table) = self.table(feed);
        let sql = format!("SELECT {} FROM {table}", wanted.join(", "));
        self.each(&table, &sql, &[], |row| {
            take(Row {
                topic: row.get(0),
                partition: row.get(1),
                offset: row.get(2),
                columns: (0..columns.len()).map(|index| row.get(3 + index)).collect(),
            })
        })
        .await
    }

    /// The newest rows of the quarantine.
    /// Whether there is a quarantine. One of an older release lacks what is asked for.
    async fn has_quarantine(&self) -> Result<bool, String> {
        const ASK: &str = "
            SELECT to_regclass('tidegate.quarantine') IS NOT NULL,
                   EXISTS (SELECT FROM pg_attribute
                           WHERE attrelid = to_regclass('tidegate.quarantine')
                             AND attname = 'settled')";
        let row = self.client.query_one(ASK, &[]).await.map_err(said)?;
        match (row.get(0), row.get(1)) {
            (true, false) => Err(super::quarantine::OLDER.to_owned()),
            (there, _) => Ok(there),
        }
    }

    /// How many records of each kind there are.
    pub async fn count_quarantine(&self) -> Result<Vec<Counted>, String> {
        const COUNT: &str = "
            SELECT feed, class, coalesce(settled, 'open'), count(*), max(reason)
            FROM tidegate.quarantine GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
        if !self.has_quarantine().await? {
            return Ok(Vec::new());
        }
        let rows = self.client.query(COUNT, &[]).await.map_err(said)?;
        let counted = |row: &Found| Counted {
            feed: row.get(0),
            class: row.get(1),
            state: row.get(2),
            records: row.get::<_, i64>(3).unsigned_abs(),
            reason: row.get(4),
        };
        Ok(rows.iter().map(counted).collect())
    }

    /// Offset, topic and fate of each record of a partition.
    pub async fn quarantined_offsets(
        &self,
        feed: &str,
        source: &TopicPartition,
    ) -> Result<Vec<Marked>, String> {
        const READ: &str = "SELECT record_offset, topic_id::text, settled FROM tidegate.quarantine \
                            WHERE (feed, topic, partition::text) = ($1, $2, $3)";
        let mut found = Vec::new();
        if !self.has_quarantine().await? {
            return Ok(found);
        }
        let of = [feed, &*source.topic, &source.partition.to_string()];
        self.each("tidegate.quarantine", READ, &of, |row| {
            found.push(Marked {
                offset: row.get(0),
                topic_id: uuid_of(&row, 1),
                settled: row.get(2),
            });
            Ok(())
        })
        .await?;
        Ok(found)
    }

    pub async fn quarantined(&self, chosen: &Chosen, most: i64) -> Result<Vec<Kept>, String> {
        const READ: &str = "
            SELECT feed, topic, partition, record_offset, topic_id::text,
                   floor(extract(epoch FROM record_timestamp) * 1000)::int8, key, value,
                   headers::text, class, reason, sink IS NOT NULL,
                   floor(extract(epoch FROM created_at) * 1000)::int8,
                   settled, coalesce(settled_by, ''), settled_why,
                   coalesce(floor(extract(epoch FROM settled_at) * 1000)::int8, 0)
            FROM tidegate.quarantine
            WHERE ($1::text IS NULL OR feed = $1) AND ($2::text IS NULL OR class = $2)
              AND ($3::int4 IS NULL OR partition = $3)
              AND record_offset >= $4 AND record_offset < $5
              AND ($6::text IS NULL OR coalesce(settled, 'open') = $6)
            ORDER BY id DESC LIMIT $7";
        if !self.has_quarantine().await? {
            return Ok(Vec::new());
        }
        let (class, state) = (chosen.class.map(RejectClass::name), chosen.state.map(State::name));
        let OffsetRange { start, end } = chosen.offsets;
        let feed = &chosen.feed;
        let parameters: [&(dyn ToSql + Sync); 7] =
            [feed, &class, &chosen.partition, &start, &end, &state, &most];
        let rows = self.client.query(READ, &parameters).await.map_err(said)?;
        let kept = |row: &Found| {
            Ok(Kept {
                feed: row.get(0),
                sinks: vec![SinkKind::Warehouse],
                topic: row.get(1),
                partition: row.get(2),
                offset: row.get(3),
                topic_id: uuid_of(row, 4).filter(|id| !id.is_nil()),
                timestamp_ms: row.get(5),
                key: row.get(6),
                value: row.get(7),
                headers: row.get(8),
                class: row.get(9),
                reason: row.get(10),
                is_row: row.get(11),
                kept_at_ms: row.get(12),
                settled: Fate::of(row.get(13), row.get(14), row.get(15), row.get(16))?,
            })
        };
        rows.iter().map(kept).collect()
    }
}

fn uuid_of(row: &Found, column: usize) -> Option<uuid::Uuid> {
    row.get::<_, Option<&str>>(column).and_then(|text| text.parse().ok())
}

/// An SQL identifier in quotes, whatever is in it.
fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Encryption with a certificate that one authority signed for the host we asked for.
fn tls(config: &Warehouse) -> Result<MakeRustlsConnect, String> {
    let path = config.tls.ca.as_ref().ok_or("warehouse.tls: mode verify-full needs a ca")?;
    let unusable =
        |error: &dyn std::fmt::Display| format!("warehouse.tls.ca {}: {error}", path.display());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// The client says only what kind of error it is; the server's words are its cause.
fn said(error: tokio_postgres::Error) -> String {
    match error.source() {
        Some(cause) => format!("reading the warehouse: {error}: {cause}"),
        None => format!("reading the warehouse: {error}"),
    }
}
