//! What a node tells of itself: its part of the node file.

use schemars::JsonSchema;
use serde::Deserialize;

/// What a node tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Address and port where `/livez`, `/readyz`, `/startupz` and `/metrics` are answered, for whoever can
    /// reach it: they tell feeds' names and numbers, and nothing of what is in records. Default: nowhere.
    pub listen: Option<String>,
}
