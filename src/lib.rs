//! Tidegate: Kafka topics into a data lake and a PostgreSQL warehouse, each record exactly once in
//! each.
//!
//! One record's way, from top to bottom:
//!
//! ```text
//! source      the poll thread copies it into a raw batch, charged to the memory budget
//! actors      a PartitionConsumer …
//! registry    … asks for the schemas of Avro records it has not met, and a Decoder
//! decode      … makes columns of the bytes, or a reject that says why not
//! actors      the decoded batch goes to a LakeWriter and a WarehouseWriter, each at its own pace
//! lake        Parquet files, then one Delta commit that names them and the offsets they cover
//! warehouse   COPY, upsert and delete, quarantine and offsets in one transaction
//! actors      receipts come back; Kafka gets a mirror of what is durable in every sink
//! ```
//!
//! The floor rule: a room imports only from floors below its own; `telemetry` is open to its own
//! floor too. F0 `record`, `config`; F1 `decode`, `avro`, `json`, `flow`, `layout`, `generate`,
//! `governance`, `retention`, `status`; F2
//! `source`, `registry`, `oidc`, `http`, `lake`, `warehouse`, `volume`, `publish`, `telemetry`; F3
//! `catalog`, `grants`, `reads`, `beats`; F4 `rights`, `verify`; F5 `actors`, `replay`; F6 `api`, `app`, `demo`,
//! `doctor`, `load`, `report`, `cli`.
//! A test reads the imports and fails on an upward one.

pub mod actors;
pub mod api;
pub mod app;
pub mod avro;
pub mod beats;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod decode;
pub mod demo;
pub mod doctor;
pub mod flow;
pub mod generate;
pub mod governance;
pub mod grants;
pub mod http;
pub mod json;
pub mod lake;
pub mod layout;
pub mod load;
pub mod oidc;
pub mod publish;
pub mod reads;
pub mod record;
pub mod registry;
pub mod replay;
pub mod report;
pub mod retention;
pub mod rights;
pub mod source;
pub mod status;
pub mod telemetry;
pub mod verify;
pub mod volume;
pub mod warehouse;
