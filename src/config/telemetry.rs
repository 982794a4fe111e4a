//! What a node tells of itself: its part of the node file.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Duration;

/// What a node tells of itself.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Address and port where `/livez`, `/readyz`, `/startupz` and `/metrics` are answered, for whoever can
    /// reach it: they tell feeds' names and numbers, and nothing of what is in records. Default: nowhere.
    pub listen: Option<String>,
    /// Where spans and metrics are sent by OTLP; `otlp: {endpoint: 'http://127.0.0.1:4318'}` is enough. What
    /// is not said here is taken from the `OTEL_*` variables of OpenTelemetry's specification. Default: nowhere.
    pub otlp: Option<Otlp>,
}

/// Where spans and metrics are sent, and how many.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// The collector's address, as `http://host:4318`, without a path. Default: `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: Option<String>,
    /// How it is sent. Default: `OTEL_EXPORTER_OTLP_PROTOCOL`, else `http`.
    pub protocol: Option<OtlpProtocol>,
    /// Which share of the traces is kept, 0 to 1. Those with a record that its producer traces and keeps are
    /// always kept. Default: `OTEL_TRACES_SAMPLER_ARG`, else 0.01.
    pub sample: Option<f64>,
    /// How often metrics are sent. Default: `OTEL_METRIC_EXPORT_INTERVAL`, else 60s.
    pub metrics_every: Option<Duration>,
}

impl Otlp {
    pub const SAMPLE: f64 = 0.01;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OtlpProtocol {
    /// Protobuf over HTTP, mostly at port 4318.
    Http,
    /// gRPC, mostly at port 4317.
    Grpc,
}

impl OtlpProtocol {
    pub fn name(self) -> &'static str {
        match self {
            OtlpProtocol::Http => "http",
            OtlpProtocol::Grpc => "grpc",
        }
    }
}
