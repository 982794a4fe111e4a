//! Node configuration and feed files: read, checked whole, every fault reported at once.
//!
//! The ground floor. Reading a file and an environment variable happens in `load`, which the
//! command line calls; everything after it works on values.

mod api;
mod check;
mod check_columns;
mod check_node;
mod check_shape;
mod check_sources;
mod columns;
mod declaration;
mod document;
mod fault;
mod feed;
mod files;
mod folder;
mod janitor;
mod kept;
mod lake_time;
mod load;
mod mode;
mod nested;
mod node;
mod permission;
mod reference;
mod refused;
mod resolve;
mod shape;
mod sources;
mod stand_in;
mod storage;
mod telemetry;
mod template;
mod units;
mod value_check;
mod walk;

pub use api::{Api, ApiLimits, ApiTls, Governance, GovernedFiles, Oidc, Rights};
pub use columns::{Column, ColumnType, Epoch, PARTITION_COLUMNS};
pub use fault::{Fault, Faults, nearest};
pub use feed::{
    Evolve, Feed, FeedFile, FeedKind, Key, KeyFormat, LakeFormat, LakeOptions, NestedIn, Nesting,
    OnGap, Quarantine, REST_COLUMN, Schema, Start, ValueFormat, WINDOW_COLUMNS, WarehouseOptions,
    Window, WindowColumns, WindowType,
};
pub use files::Codec;
pub use folder::{ACTIVE, ARCHIVED, Folder};
pub use janitor::{Janitor, Schedule};
pub use kept::{Kept, covers, overlaps};
pub use lake_time::{LakeTime, TimeSource};
pub use load::{load, load_feeds, load_node, load_sound_feeds};
pub use mode::Mode;
pub use nested::{Flat, Nested, arrow_fields, flatten, map_fields, valid_name as valid_field_name};
pub use node::{
    Kafka, Lake, Memory, Node, Protocol, S3, Sasl, SaslMechanism, SchemaRegistry, Secret,
    SecretText, Tls, TlsMode, Warehouse, WarehouseTls,
};
pub use permission::{
    Action, Effect, Grantee, GranteeKind, Pattern, valid_name as valid_grantee_name,
};
pub use reference::{reference_markdown, schema_json};
pub use shape::{
    Case, DOCUMENT_COLUMN, Dimension, SNAPSHOT_SUFFIX, SNAPSHOTS_SUFFIX, Shape, Snapshots,
};
pub use sources::{
    ActionColumn, EffectColumn, FeedColumn, PermissionSource, PrincipalColumn, Sources,
};
pub use storage::{SnapshotOptions, Storage, VERSION};
pub use telemetry::{Otlp, OtlpProtocol, Telemetry};
pub use template::{
    DEFAULT_LAYOUT, DEFAULT_TABLE_LAYOUT, Piece, Placeholder, Precision, RESERVED_FOLDERS, Segment,
    Template,
};
pub use units::{ByteSize, Duration};
pub use value_check::{Bound, CheckAction, ValueCheck};

#[cfg(test)]
pub use refused::remedy as refusal;
