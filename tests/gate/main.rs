//! The proofs: nodes as separate processes against a real Kafka, PostgreSQL and S3, broken on purpose.
//!
//! Each ends caught up, with `tidegate verify` and with an independent check in Python over what
//! landed. The servers are those of `scripts/servers`; `scripts/test` starts them.
//!
//! To see that a proof can fail, give it a node without the law it proves:
//! `TIDEGATE_TEST_BINARY=/path/to/a/broken/tidegate cargo test --release --test gate -- NAME`.

mod check;
mod database;
mod http;
mod kafka;
mod kubernetes;
mod lake;
mod load;
mod node;
mod progress;
mod proxy;
mod servers;
mod world;

mod access;
mod alerts;
mod api;
mod avro;
mod bad_records;
mod broker;
mod cluster_manifests;
mod cluster_release;
mod commands;
mod dashboard;
mod doctor;
mod documents;
mod drain;
mod evolve;
mod export;
mod feed_files;
mod feed_folder;
mod floors;
mod formats;
mod janitor;
mod killed;
mod lake_load;
mod layouts;
mod logs;
mod lost_answers;
mod metadata;
mod modes;
mod oidc;
mod outage;
mod packaging;
mod panics;
mod permissions;
mod quarantine;
mod readers;
mod report;
mod restored;
mod rights;
mod scale;
mod script;
mod shapes;
mod snapshots;
mod source;
mod source_gap;
mod source_log;
mod source_place;
mod source_topics;
mod status;
mod systems;
mod traces;
mod vitals;
mod zombie;
