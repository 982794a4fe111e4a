//! Where spans and metrics go: to a collector, by OTLP. It is sent from threads of the SDK's own, and what finds
//! no room in their queues, which are bounded, is dropped: whether a collector is there or not, the node goes on.
//!
//! `telemetry.otlp` of the node file comes first, then the variables of OpenTelemetry's specification.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, global};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{
    MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
    tonic_types,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{
    self as span, BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, ShouldSample,
    SpanData,
};
use reqwest::Certificate;
use reqwest::redirect::Policy;
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::metrics;
use super::trace::{self, Linked, convention};
use crate::config::{Otlp, OtlpProtocol};
use crate::flow::backoff::Backoff;

/// How long what waits to be sent may take when the node ends.
const LAST_WORD: Duration = Duration::from_secs(3);

/// A variable of the environment, if it says anything.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What is sent, and where to. Kept for as long as the node runs.
#[derive(Default)]
pub struct Export {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    ends: Arc<AtomicBool>,
}

/// One of the two things that are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
        }
    }
}

/// How one signal is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    protocol: OtlpProtocol,
    /// None: the exporter's own, which goes by the environment.
    endpoint: Option<String>,
    encrypted: bool,
    /// PEM file of the authority that signed the collector's certificate, beside the system's.
    authority: Option<PathBuf>,
    /// How long one sending may take.
    timeout: Duration,
}

/// The specification's default.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Spans that wait to be sent, at most. With a lake's commit all of its batches' end at once.
const QUEUE: usize = 16_384;

/// None: it is not sent.
fn route(config: Option<&Otlp>, signal: Signal, env: Variables<'_>) -> Option<Route> {
    let upper = signal.name().to_uppercase();
    let said = |name: &str| env(name).filter(|it| !it.trim().is_empty());
    let is = |name: &str, value: &str| said(name).is_some_and(|it| it.eq_ignore_ascii_case(value));
    if is("OTEL_SDK_DISABLED", "true") || is(&format!("OTEL_{upper}_EXPORTER"), "none") {
        return None;
    }
    let of_env = |what: &str| {
        said(&format!("OTEL_EXPORTER_OTLP_{upper}_{what}"))
            .or_else(|| said(&format!("OTEL_EXPORTER_OTLP_{what}")))
    };
    let endpoint = config.and_then(|config| config.endpoint.clone());
    let encrypted = endpoint.clone().or_else(|| of_env("ENDPOINT"))?.starts_with("https:");
    let protocol = config.and_then(|config| config.protocol).unwrap_or_else(|| {
        match of_env("PROTOCOL").map(|it| it.to_lowercase()).as_deref() {
            Some("grpc") => OtlpProtocol::Grpc,
            None | Some("http/protobuf") => OtlpProtocol::Http,
            Some(other) => {
                warn!(target: "tidegate::telemetry", protocol = other, "OTEL_EXPORTER_OTLP_PROTOCOL: only grpc and http/protobuf are spoken; http/protobuf it is");
                OtlpProtocol::Http
            }
        }
    });
    let endpoint = endpoint.map(|base| match protocol {
        OtlpProtocol::Grpc => base,
        OtlpProtocol::Http => format!("{}/v1/{}", base.trim_end_matches('/'), signal.name()),
    });
    let authority = of_env("CERTIFICATE").map(PathBuf::from);
    let timeout = of_env("TIMEOUT").and_then(|ms| ms.trim().parse().ok());
    let timeout = timeout.map_or(TIMEOUT, Duration::from_millis);
    Some(Route { protocol, endpoint, encrypted, authority, timeout })
}

/// Which traces are kept.
fn sampler(config: Option<&Otlp>, env: Variables<'_>) -> Box<dyn ShouldSample> {
    let share = || {
        let of_env = env("OTEL_TRACES_SAMPLER_ARG").and_then(|it| it.trim().parse::<f64>().ok());
        let share = config.and_then(|config| config.sample).or(of_env);
        share.unwrap_or(Otlp::SAMPLE)
    };
    let ratio = || Sampler::TraceIdRatioBased(share());
    let root = match env("OTEL_TRACES_SAMPLER").as_deref() {
        // The file comes first.
        _ if config.is_some_and(|config| config.sample.is_some()) => ratio(),
        Some("always_off") => return Box::new(Sampler::AlwaysOff),
        Some("always_on" | "parentbased_always_on") => Sampler::AlwaysOn,
        Some("parentbased_always_off") => Sampler::AlwaysOff,
        None | Some("" | "traceidratio" | "parentbased_traceidratio") => ratio(),
        Some(other) => {
            warn!(target: "tidegate::telemetry", sampler = other, "OTEL_TRACES_SAMPLER: not known here; a share of the traces is kept");
            ratio()
        }
    };
    // Whatever the root: half a trace is of no use.
    Box::new(Linked(Box::new(Sampler::ParentBased(Box::new(root)))))
}

/// Who sends it: the specification's variables come over what is found here.
fn resource(node: &str, env: Variables<'_>) -> Resource {
    let mut found = vec![
        KeyValue::new(convention::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
        KeyValue::new(convention::SERVICE_INSTANCE_ID, node.to_owned()),
        KeyValue::new(convention::PROCESS_PID, i64::from(std::process::id())),
    ];
    let service = env("OTEL_SERVICE_NAME").filter(|name| !name.is_empty());
    let is_named = service.is_some();
    let service = service.unwrap_or_else(|| "tidegate".to_owned());
    found.push(KeyValue::new(convention::SERVICE_NAME, service));
    if let Some(host) = env("HOSTNAME") {
        found.push(KeyValue::new(convention::HOST_NAME, host));
    }
    // A pod's host name is its own name, unless it is given another.
    if env("KUBERNETES_SERVICE_HOST").is_some() {
        const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
        let namespace = env("POD_NAMESPACE").or_else(|| std::fs::read_to_string(NAMESPACE).ok());
        let known = [
            (convention::K8S_POD_NAME, env("POD_NAME").or_else(|| env("HOSTNAME"))),
            (convention::K8S_POD_UID, env("POD_UID")),
            (convention::K8S_NAMESPACE_NAME, namespace),
            (convention::K8S_NODE_NAME, env("NODE_NAME")),
            (convention::K8S_CONTAINER_NAME, env("CONTAINER_NAME")),
        ];
        let known = known.into_iter().filter_map(|(key, value)| Some((key, value?)));
        found.extend(known.map(|(key, value)| KeyValue::new(key, value.trim().to_owned())));
    }
    // Of two that say the same, what is said in `OTEL_RESOURCE_ATTRIBUTES` stays.
    let said: Vec<KeyValue> = Resource::builder_empty()
        .with_detector(Box::new(opentelemetry_sdk::resource::EnvResourceDetector::new()))
        .build()
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()))
        // But for the name, which has a variable of its own.
        .filter(|said| !is_named || said.key.as_str() != convention::SERVICE_NAME)
        .collect();
    Resource::builder().with_attributes(found).with_attributes(said).build()
}

impl Export {
    /// Begins to send, where the node's file or the environment says so.
    pub fn start(
        config: Option<&Otlp>,
        node: &str,
        observe: impl Fn() + Send + Sync + 'static,
        io: &Handle,
    ) -> Result<Self, String> {
        let env = |name: &str| std::env::var(name).ok();
        let _within = io.enter();
        let mut export = Self::default();
        if let Some(route) = route(config, Signal::Traces, &env) {
            let exporter = span_exporter(&route, io)?;
            let ends = export.ends.clone();
            let exporter = Patient { exporter, quiet: Mutex::default(), ends };
            info!(target: "tidegate::telemetry", protocol = route.protocol.name(), endpoint = route.endpoint.as_deref(), "spans are sent");
            let mut spans = BatchConfigBuilder::default();
            if env("OTEL_BSP_MAX_QUEUE_SIZE").is_none() {
                spans = spans.with_max_queue_size(QUEUE);
            }
            let spans = BatchSpanProcessor::builder(exporter).with_batch_config(spans.build());
            let provider = SdkTracerProvider::builder()
                .with_span_processor(spans.build())
                .with_sampler(sampler(config, &env))
                .with_resource(resource(node, &env))
                .build();
            trace::keep(provider.tracer("tidegate"));
            export.traces = Some(provider);
        }
        if let Some(route) = route(config, Signal::Metrics, &env) {
            let exporter = metric_exporter(&route, io)?;
            let mut reader = PeriodicReader::builder(exporter);
            if let Some(every) = config.and_then(|config| config.metrics_every) {
                reader = reader.with_interval(every.get());
            }
            let provider = SdkMeterProvider::builder()
                .with_reader(reader.build())
                .with_resource(resource(node, &env))
                .build();
            global::set_meter_provider(provider.clone());
            metrics::register(observe);
            export.metrics = Some(provider);
        }
        Ok(export)
    }

    /// Sends what waits, for a moment. Blocks.
    pub fn finish(self) {
        self.ends.store(true, Ordering::Relaxed);
        let (tell, told) = std::sync::mpsc::channel();
        let mut waiting = 0;
        // Side by side, and not waited for longer: the second does not keep to what it is told.
        let mut end = |ending: Box<dyn FnOnce() -> OTelSdkResult + Send>| {
            let tell = tell.clone();
            waiting += 1;
            std::thread::spawn(move || drop(tell.send(ending())));
        };
        if let Some(traces) = self.traces {
            end(Box::new(move || traces.shutdown_with_timeout(LAST_WORD)));
        }
        if let Some(metrics) = self.metrics {
            end(Box::new(move || metrics.shutdown_with_timeout(LAST_WORD)));
        }
        let until = Instant::now() + LAST_WORD;
        for _ in 0..waiting {
            let left = until.saturating_duration_since(Instant::now());
            let ended = told.recv_timeout(left);
            if !matches!(ended, Ok(Ok(()))) {
                warn!(target: "tidegate::telemetry", "not all that was to be sent was sent");
            }
        }
    }
}

fn unusable(error: impl std::fmt::Display) -> String {
    format!("telemetry.otlp: {error}")
}

/// How the exporters of both signals are made, whose builders are alike and have nothing in common.
macro_rules! exporter {
    ($exporter:ident, $route:expr, $io:expr) => {{
        let Route { protocol, endpoint, timeout, .. } = $route;
        match protocol {
            OtlpProtocol::Grpc => {
                let mut exporter = $exporter::builder()
                    .with_tonic()
                    .with_protocol(Protocol::Grpc)
                    .with_timeout(*timeout);
                if let Some(tls) = $route.tls()? {
                    exporter = exporter.with_tls_config(tls);
                }
                match endpoint {
                    Some(endpoint) => exporter.with_endpoint(endpoint).build(),
                    None => exporter.build(),
                }
            }
            OtlpProtocol::Http => {
                let exporter = $exporter::builder()
                    .with_http()
                    .with_protocol(Protocol::HttpBinary)
                    .with_timeout(*timeout)
                    .with_http_client(Client::on($io, $route)?);
                match endpoint {
                    Some(endpoint) => exporter.with_endpoint(endpoint).build(),
                    None => exporter.build(),
                }
            }
        }
        .map_err(unusable)
    }};
}

fn span_exporter(route: &Route, io: &Handle) -> Result<SpanExporter, String> {
    exporter!(SpanExporter, route, io)
}

fn metric_exporter(route: &Route, io: &Handle) -> Result<MetricExporter, String> {
    exporter!(MetricExporter, route, io)
}

/// After it failed to send, nothing is sent for a while: it costs as much to encode for a collector that is gone
/// as for one that is there.
#[derive(Debug)]
struct Patient {
    exporter: SpanExporter,
    quiet: Mutex<Quiet>,
    /// The node ends: what waits is sent now, or never.
    ends: Arc<AtomicBool>,
}

/// How often in a row it failed, and until when nothing is sent.
#[derive(Debug, Default)]
struct Quiet {
    failed: u32,
    until: Option<Instant>,
}

const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));

impl Quiet {
    fn lasts(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn after(&mut self, is_sent: bool, now: Instant) {
        *self = match is_sent {
            true => Self::default(),
            false => Self {
                failed: self.failed + 1,
                until: Some(now + AGAIN.wait(self.failed, rand::random())),
            },
        };
    }
}

impl Patient {
    fn quiet(&self) -> MutexGuard<'_, Quiet> {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl span::SpanExporter for Patient {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        if !self.ends.load(Ordering::Relaxed) && self.quiet().lasts(Instant::now()) {
            return Err(OTelSdkError::InternalFailure(
                "the collector was away just now".to_owned(),
            ));
        }
        let sent = self.exporter.export(batch).await;
        self.quiet().after(sent.is_ok(), Instant::now());
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl Route {
    /// What the authority's file holds.
    fn pem(&self) -> Result<Option<Vec<u8>>, String> {
        let Some(path) = &self.authority else { return Ok(None) };
        let read = std::fs::read(path).map(Some);
        read.map_err(|error| format!("OTEL_EXPORTER_OTLP_CERTIFICATE: {}: {error}", path.display()))
    }

    fn tls(&self) -> Result<Option<ClientTlsConfig>, String> {
        if !self.encrypted {
            return Ok(None);
        }
        let tls = ClientTlsConfig::new().with_enabled_roots();
        Ok(Some(match self.pem()? {
            Some(pem) => tls.ca_certificate(tonic_types::transport::Certificate::from_pem(pem)),
            None => tls,
        }))
    }
}

/// Sends on the runtime of all I/O: the SDK's threads have none.
#[derive(Debug, Clone)]
struct Client {
    client: reqwest::Client,
    io: Handle,
}

impl Client {
    fn on(io: &Handle, route: &Route) -> Result<Self, String> {
        // Nobody else is to get the headers, which may hold a key.
        let mut client = reqwest::Client::builder().timeout(route.timeout).redirect(Policy::none());
        if let Some(pem) = route.pem()? {
            client = client.add_root_certificate(Certificate::from_pem(&pem).map_err(unusable)?);
        }
        Ok(Self { client: client.build().map_err(unusable)?, io: io.clone() })
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        let sent = self.io.spawn(async move {
            let answer = client.execute(request).await?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                headers.extend(answer.headers().clone());
            }
            Ok::<_, HttpError>(response.body(answer.bytes().await?)?)
        });
        sent.await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<'a>(said: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| said.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned())
    }

    fn routed(
        config: Option<&Otlp>,
        said: &[(&str, &str)],
    ) -> Option<(OtlpProtocol, Option<String>)> {
        let route = route(config, Signal::Traces, &with(said))?;
        Some((route.protocol, route.endpoint))
    }

    #[test]
    fn nothing_is_sent_unless_somebody_says_where_to() {
        assert_eq!(routed(None, &[]), None);
        assert_eq!(
            routed(Some(&Otlp::default()), &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]),
            None
        );
        let there = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")];
        assert_eq!(routed(None, &there), Some((OtlpProtocol::Http, None)));
        let off = |more| routed(None, &[there[0], more]);
        assert_eq!(off(("OTEL_SDK_DISABLED", "TRUE")), None);
        assert_eq!(off(("OTEL_TRACES_EXPORTER", "none")), None);
        assert!(off(("OTEL_METRICS_EXPORTER", "none")).is_some());
        let grpc = off(("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "GRPC"));
        assert_eq!(grpc, Some((OtlpProtocol::Grpc, None)));
    }

    #[test]
    fn the_file_comes_before_the_environment() {
        let config = |protocol| Otlp {
            endpoint: Some("http://file:1/".to_owned()),
            protocol,
            ..Otlp::default()
        };
        let there = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:2"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ];
        let http = Some((OtlpProtocol::Http, Some("http://file:1/v1/traces".to_owned())));
        assert_eq!(routed(Some(&config(Some(OtlpProtocol::Http))), &there), http);
        let grpc = Some((OtlpProtocol::Grpc, Some("http://file:1/".to_owned())));
        assert_eq!(routed(Some(&config(None)), &there), grpc);
    }

    #[tokio::test]
    async fn what_the_file_says_starts_whatever_the_environment_says() {
        let route = |protocol, address: &str, authority: Option<&str>| Route {
            protocol,
            endpoint: Some(address.to_owned()),
            encrypted: address.starts_with("https"),
            authority: authority.map(PathBuf::from),
            timeout: TIMEOUT,
        };
        let io = Handle::current();
        for protocol in [OtlpProtocol::Http, OtlpProtocol::Grpc] {
            for address in ["http://c:1", "https://c:1"] {
                span_exporter(&route(protocol, address, None), &io).unwrap();
                metric_exporter(&route(protocol, address, None), &io).unwrap();
            }
            let lost = route(protocol, "https://c:1", Some("/nowhere.pem"));
            let refused = span_exporter(&lost, &io).unwrap_err();
            assert!(refused.contains("/nowhere.pem"), "{refused}");
        }
        let said = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:1"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "500"),
        ];
        let found = super::route(None, Signal::Traces, &with(&said)).unwrap();
        assert!(found.encrypted && found.authority == Some(PathBuf::from("/ca.pem")));
        assert_eq!(found.timeout, Duration::from_millis(500));
    }

    #[test]
    fn so_many_traces_are_kept_as_is_said() {
        let config = |sample| Otlp { sample, ..Otlp::default() };
        let of = |config: Option<&Otlp>, said: &[(&str, &str)]| {
            format!("{:?}", sampler(config, &with(said)))
        };
        let arg = ("OTEL_TRACES_SAMPLER_ARG", "0.5");
        assert!(of(None, &[]).contains("TraceIdRatioBased(0.01)"));
        assert!(of(None, &[arg]).contains("TraceIdRatioBased(0.5)"));
        let on = ("OTEL_TRACES_SAMPLER", "always_on");
        assert!(of(None, &[on]).contains("AlwaysOn"));
        assert!(of(Some(&config(Some(0.2))), &[arg, on]).contains("TraceIdRatioBased(0.2)"));
        assert_eq!(of(None, &[("OTEL_TRACES_SAMPLER", "always_off")]), "AlwaysOff");
    }

    #[test]
    fn a_pod_says_which_it_is() {
        let said = [
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("HOSTNAME", "tidegate-0"),
            ("POD_NAMESPACE", "lake\n"),
        ];
        let resource = resource("node", &with(&said));
        let of = |key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
        assert_eq!(of(convention::K8S_POD_NAME).as_deref(), Some("tidegate-0"));
        assert_eq!(of(convention::K8S_NAMESPACE_NAME).as_deref(), Some("lake"));
        assert_eq!(of(convention::SERVICE_NAME).as_deref(), Some("tidegate"));
        assert_eq!(of(convention::SERVICE_INSTANCE_ID).as_deref(), Some("node"));
        assert_eq!(of(convention::K8S_NODE_NAME), None);
        assert!(self::resource("n", &with(&[])).get(&convention::K8S_POD_NAME.into()).is_none());
    }

    #[test]
    fn a_collector_that_is_gone_is_asked_rarely_until_it_has_taken_something() {
        let (mut quiet, began) = (Quiet::default(), Instant::now());
        let mut asked = 0;
        // A batch every tenth of a second, for a minute.
        for tenth in 0..600 {
            let now = began + Duration::from_millis(100) * tenth;
            if !quiet.lasts(now) {
                asked += 1;
                quiet.after(false, now);
            }
        }
        assert!((7..=18).contains(&asked), "asked {asked} times");
        let back = began + Duration::from_secs(60) + AGAIN.most;
        assert!(!quiet.lasts(back));
        quiet.after(true, back);
        assert!(!quiet.lasts(back));
        assert_eq!(quiet.failed, 0);
    }
}
