//! Traces, read back from a real collector: one purchase from its producer to the file and the transaction that
//! hold it, and what everything else says of itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use opentelemetry_semantic_conventions::attribute as convention;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::{Shop, until_read};
use crate::http::Caller;
use crate::node::{Node, tidegate};
use crate::servers::{env, servers, wait_for};
use crate::source_place::{COLUMNS, Place, SOON, Sender};
use crate::world::Setup;

/// Jaeger, without what it held before.
struct Collector {
    query: Caller,
    http: String,
    grpc: String,
    metrics: Caller,
}

/// A span as Jaeger tells it.
#[derive(Debug, Clone)]
struct Span {
    trace: String,
    id: String,
    name: String,
    parent: Option<(String, String)>,
    links: Vec<(String, String)>,
    tags: BTreeMap<String, Value>,
    /// Names, with their attributes.
    events: Vec<(String, BTreeMap<String, Value>)>,
    /// Of whoever sent it.
    resource: BTreeMap<String, Value>,
}

impl Span {
    fn at(&self) -> (String, String) {
        (self.trace.clone(), self.id.clone())
    }

    fn tag(&self, name: &str) -> &Value {
        self.tags.get(name).unwrap_or(&Value::Null)
    }
}

fn tags(of: &Value) -> BTreeMap<String, Value> {
    let tags = of.as_array().into_iter().flatten();
    tags.map(|tag| (text(&tag["key"]), tag["value"].clone())).collect()
}

fn text(of: &Value) -> String {
    of.as_str().unwrap_or_else(|| panic!("a text: {of}")).to_owned()
}

impl Collector {
    /// For whoever has a world, and so his turn.
    fn start() -> Self {
        servers("stop", "jaeger");
        servers("start", "jaeger");
        let folder = Path::new(&env("TIDEGATE_TEST_DIR")).join("jaeger");
        let read = |name: &str| {
            let text = std::fs::read_to_string(folder.join(name)).expect("an address");
            text.trim().to_owned()
        };
        let caller = |base: String| Caller { base, token: None };
        Self {
            query: caller(read("url")),
            http: read("http"),
            grpc: read("grpc"),
            metrics: caller(read("metrics")),
        }
    }

    /// A span that a producer has sent, in OTLP's JSON.
    fn sent(&self, trace: &str, span: &str, name: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos();
        let (start, end) = (now.to_string(), (now + 1_000_000).to_string());
        let span = json!({
            "traceId": trace, "spanId": span, "name": name, "kind": 4,
            "startTimeUnixNano": start, "endTimeUnixNano": end,
        });
        let service = json!({"key": "service.name", "value": {"stringValue": "till"}});
        let body = json!({"resourceSpans": [
            {"resource": {"attributes": [service]}, "scopeSpans": [{"spans": [span]}]}
        ]});
        let collector = Caller { base: self.http.clone(), token: None };
        let answer = collector.ask(Method::POST, "/v1/traces", &[], Some(&body));
        assert!(answer.status.is_success(), "{}", answer.text());
    }

    /// All spans of the traces that a service has part in.
    fn spans(&self, service: &str) -> Vec<Span> {
        let answer = self.query.get(&format!("/api/traces?service={service}&limit=10000"));
        let traces = answer.json();
        let mut spans = Vec::new();
        for trace in traces["data"].as_array().into_iter().flatten() {
            for span in trace["spans"].as_array().into_iter().flatten() {
                let references = || span["references"].as_array().into_iter().flatten();
                let of_kind = |kind: &str| -> Vec<(String, String)> {
                    let found = references().filter(|it| it["refType"] == kind);
                    found.map(|it| (text(&it["traceID"]), text(&it["spanID"]))).collect()
                };
                let process = &trace["processes"][text(&span["processID"])];
                let mut resource = tags(&process["tags"]);
                resource.insert("service.name".to_owned(), process["serviceName"].clone());
                let events = span["logs"].as_array().into_iter().flatten().map(|log| {
                    let mut fields = tags(&log["fields"]);
                    let name = fields.remove("event").map(|it| text(&it)).unwrap_or_default();
                    (name, fields)
                });
                spans.push(Span {
                    trace: text(&span["traceID"]),
                    id: text(&span["spanID"]),
                    name: text(&span["operationName"]),
                    parent: of_kind("CHILD_OF").into_iter().next(),
                    links: of_kind("FOLLOWS_FROM"),
                    tags: tags(&span["tags"]),
                    events: events.collect(),
                    resource,
                });
            }
        }
        spans
    }
}

/// What every span must be like, whatever it tells of.
fn check_all(spans: &[Span]) {
    let known: HashMap<(String, String), &Span> =
        spans.iter().map(|span| (span.at(), span)).collect();
    assert_eq!(known.len(), spans.len(), "a span was sent twice");
    for span in spans {
        // No orphans, and no link leads to nothing.
        if let Some(parent) = &span.parent {
            assert_eq!(parent.0, span.trace, "{span:#?}");
            assert!(known.contains_key(parent), "an orphan: {span:#?}");
        }
        for link in &span.links {
            assert!(known.contains_key(link), "a link to nothing: {span:#?}");
        }
        if span.resource["service.name"] != "tidegate" {
            continue;
        }
        for name in span.tags.keys().chain(span.resource.keys()) {
            // Jaeger's own words for what OTLP has fields for.
            let jaegers = ["span.kind", "error", "w3c.tracestate", "internal.span.format"];
            let ours = name.starts_with("tidegate.") || name.starts_with("otel.");
            let published = ours || jaegers.contains(&&**name) || PUBLISHED.contains(&&**name);
            assert!(published, "{name} is no published name: {span:#?}");
        }
        let kind = text(span.tags.get("span.kind").unwrap_or(&json!("internal")));
        let word = span.name.split(' ').next().unwrap_or_default();
        let wanted = match (word, span.tags.contains_key(convention::MESSAGING_SYSTEM)) {
            ("poll" | "commit", true) => "client",
            ("process", true) => "consumer",
            _ if span.tags.contains_key(convention::DB_SYSTEM_NAME) => "client",
            _ if span.tags.contains_key(convention::HTTP_REQUEST_METHOD) => "server",
            _ => "internal",
        };
        assert_eq!(kind, wanted, "{span:#?}");
        if span.tags.contains_key(convention::MESSAGING_SYSTEM) {
            let (operation, topic) = (
                span.tag(convention::MESSAGING_OPERATION_NAME),
                span.tag(convention::MESSAGING_DESTINATION_NAME),
            );
            assert_eq!(span.name, format!("{} {}", text(operation), text(topic)));
            let kind = match word {
                "poll" => "receive",
                "commit" => "settle",
                other => other,
            };
            assert_eq!(span.tag(convention::MESSAGING_OPERATION_TYPE), kind);
            assert_eq!(span.tag(convention::MESSAGING_SYSTEM), "kafka");
        }
        if span.tags.contains_key(convention::DB_SYSTEM_NAME) {
            assert_eq!(span.tag(convention::DB_QUERY_SUMMARY), &*span.name);
            assert!(span.tags.contains_key(convention::DB_NAMESPACE), "{span:#?}");
        }
    }
}

/// Names by the conventions, for what is told here.
const PUBLISHED: &[&str] = &[
    convention::MESSAGING_SYSTEM,
    convention::MESSAGING_OPERATION_NAME,
    convention::MESSAGING_OPERATION_TYPE,
    convention::MESSAGING_DESTINATION_NAME,
    convention::MESSAGING_DESTINATION_PARTITION_ID,
    convention::MESSAGING_CONSUMER_GROUP_NAME,
    convention::MESSAGING_BATCH_MESSAGE_COUNT,
    convention::MESSAGING_KAFKA_OFFSET,
    convention::DB_SYSTEM_NAME,
    convention::DB_NAMESPACE,
    convention::DB_COLLECTION_NAME,
    convention::DB_OPERATION_NAME,
    convention::DB_QUERY_SUMMARY,
    convention::DB_RESPONSE_STATUS_CODE,
    convention::ERROR_TYPE,
    convention::HTTP_REQUEST_METHOD,
    convention::HTTP_RESPONSE_STATUS_CODE,
    convention::HTTP_ROUTE,
    convention::URL_PATH,
    convention::URL_SCHEME,
    convention::SERVICE_NAME,
    convention::SERVICE_VERSION,
    convention::SERVICE_INSTANCE_ID,
    convention::HOST_NAME,
    convention::PROCESS_PID,
    convention::TELEMETRY_SDK_NAME,
    convention::TELEMETRY_SDK_LANGUAGE,
    convention::TELEMETRY_SDK_VERSION,
    convention::DEPLOYMENT_ENVIRONMENT_NAME,
];

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
/// Of somebody whose own collector keeps nothing.
const UNKEPT: &str = "00-0af7651916cd43dd8448eb211c803100-b7ad6b7169203300-00";
/// In the records, and nowhere else.
const SECRET: &str = "rosebud";

fn send_traced(topic: &str, id: i64, traceparent: &str) {
    let sender = Sender::new();
    let value = json!({"id": id, "note": SECRET}).to_string();
    let headers = OwnedHeaders::new()
        .insert(Header { key: "kind", value: Some(SECRET) })
        .insert(Header { key: "traceparent", value: Some(traceparent) });
    let record = BaseRecord::to(topic).partition(1).key(SECRET).payload(&value).headers(headers);
    sender.0.send(record).unwrap_or_else(|(error, _)| panic!("{error}"));
    sender.0.flush(SOON).expect("the broker takes the record");
}

#[test]
fn a_purchase_is_followed_from_its_producer_to_the_file_and_the_transaction() {
    let mut place = Place::new("traces");
    let collector = Collector::start();
    let http = collector.http.clone();
    // No trace is kept but for what its producer keeps.
    place.edit_node(|text| {
        format!("{text}telemetry: {{otlp: {{endpoint: '{http}', protocol: http, sample: 0}}}}\n")
    });
    let topic = place.topic("orders", 2, &[]);
    place.feed("orders", &format!("topic: {topic}\nrest: true\n{COLUMNS}"));
    collector.sent(TRACE, SPAN, &format!("send {topic}"));
    let sender = Sender::new();
    let mut node = place.node();
    sender.send(&topic, 0, 0..40);
    place.wait_for_watermarks("orders", &[40, 0]);
    sender.send(&topic, 1, 40..60);
    send_traced(&topic, 60, UNKEPT);
    send_traced(&topic, 61, &format!("00-{TRACE}-{SPAN}-01"));
    place.wait_for_ids("orders", 0..62);
    assert!(node.terminate(SOON).0.success());

    let spans = collector.spans("till");
    let all = collector.spans("tidegate");
    check_all(&all);
    // In the producer's own trace: what it sent, and what became of it.
    let record = spans.iter().find(|span| span.resource["service.name"] == "tidegate");
    let record = record.unwrap_or_else(|| panic!("nothing of ours in the trace: {spans:#?}"));
    assert_eq!(record.name, format!("process {topic}"));
    assert_eq!(record.parent, Some((TRACE.to_owned(), SPAN.to_owned())));
    assert_eq!(record.tag(convention::MESSAGING_KAFKA_OFFSET), 21);
    assert_eq!(record.tag(convention::MESSAGING_DESTINATION_PARTITION_ID), "1");
    assert_eq!(record.tag("tidegate.feed"), "orders");
    // It says in which file it is, and there it is.
    let durable = |sink: &str| {
        let found = record.events.iter().find(|(name, said)| {
            name == "durable" && said.get("tidegate.sink") == Some(&json!(sink))
        });
        found.unwrap_or_else(|| panic!("not durable in the {sink}: {record:#?}")).1.clone()
    };
    let files = match &durable("lake")["tidegate.lake.files"] {
        Value::String(text) => serde_json::from_str(text).expect("a list"),
        other => other.clone(),
    };
    let files: Vec<String> = files.as_array().expect("a list").iter().map(text).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let file = place.lake_table("orders").join(&files[0]);
    let file = std::fs::File::open(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
    let ids = reader.build().expect("a reader").flat_map(|batch| {
        let batch = batch.expect("a batch");
        let ids = batch.column_by_name("id").expect("ids").as_primitive::<Int64Type>();
        ids.values().to_vec()
    });
    assert!(ids.collect::<BTreeSet<i64>>().contains(&61));
    // It leads to the commit that named the file, and to the transaction that wrote the row.
    let linked = |name: &str| {
        let found = all.iter().find(|span| span.name == name && record.links.contains(&span.at()));
        found.unwrap_or_else(|| panic!("no way to the {name}: {record:#?}"))
    };
    let commit = linked("lake commit");
    let version = commit.tag("tidegate.lake.version").as_i64().expect("a version");
    let entry = place.lake_table("orders").join(format!("_delta_log/{version:020}.json"));
    let entry = std::fs::read_to_string(entry).expect("the entry of the log");
    assert!(entry.contains(&files[0]), "{entry}");
    let staged = all.iter().find(|span| commit.links.contains(&span.at())).expect("its staging");
    assert_eq!(staged.name, "lake stage");
    assert!(staged.tag("tidegate.lake.files").to_string().contains(&files[0]), "{staged:#?}");
    let transaction = linked("warehouse commit");
    durable("warehouse");
    // It was the last of its partition.
    let number = "SELECT xmin::text FROM tidegate.progress WHERE partition = 1";
    let number: String = place.world.database.query(number)[0].get(0);
    assert_eq!(transaction.tag("tidegate.warehouse.transaction"), &number);
    let row = "SELECT xmin::text::bigint FROM orders WHERE id = 61";
    let row: i64 = place.world.database.query(row)[0].get(0);
    let number: i64 = number.parse().expect("a number");
    assert!((number..number + 8).contains(&row), "{number} is not the transaction of {row}");
    // Its batch: read, decoded, delivered.
    let batch = linked(&format!("process {topic}"));
    assert!(batch.links.contains(&(TRACE.to_owned(), SPAN.to_owned())));
    let poll = all.iter().find(|span| Some(span.at()) == batch.parent).expect("its poll");
    assert_eq!(poll.name, format!("poll {topic}"));
    assert_eq!(poll.tag(convention::MESSAGING_CONSUMER_GROUP_NAME), &*place.world.database.name);
    for (sink, end) in [("lake", commit), ("warehouse", transaction)] {
        let delivery = all
            .iter()
            .find(|span| span.name == format!("deliver {sink}") && span.parent == Some(batch.at()));
        let delivery = delivery.unwrap_or_else(|| panic!("not delivered to the {sink}"));
        assert!(delivery.links.contains(&end.at()), "{delivery:#?}");
        // And back.
        let back = if sink == "lake" { staged } else { transaction };
        assert!(back.links.contains(&delivery.at()), "{back:#?}");
    }
    for statement in ["BEGIN", "COPY tidegate_stage", "SELECT tidegate.progress", "COMMIT"] {
        let found =
            all.iter().any(|span| span.name == statement && span.parent == Some(transaction.at()));
        assert!(found, "no {statement}: {all:#?}");
    }
    // What nobody keeps is not told of: neither the first forty, nor who is asked for no trace.
    let polls = all.iter().filter(|span| span.name.starts_with("poll "));
    for span in polls {
        assert_eq!(span.tag(convention::MESSAGING_DESTINATION_PARTITION_ID), "1", "{span:#?}");
    }
    // And nothing of what is in the records.
    let told = format!("{all:?}{spans:?}");
    assert!(!told.contains(SECRET) && !told.contains("record 5"));
}

#[test]
fn requests_decisions_and_chores_are_told_by_grpc_and_by_the_variables() {
    let shop = Shop::new(Setup { name: "traces-api", ..Setup::default() }, "");
    let collector = Collector::start();
    shop.send(0..20);
    let token = shop.token("user:ada", &[]);
    let steward = shop.token("user:eve", &[]);
    shop.grant("user:ada", "events", &["--action", "read"]);
    shop.grant("user:eve", "*", &["--action", "manage"]);
    let mut command = tidegate();
    command.args(["--log-format", "json", "run", "--config"]).arg(&shop.place.world.config);
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.grpc)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .env("OTEL_TRACES_SAMPLER", "always_on")
        .env(
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=proof,service.instance.id=one",
        )
        .env("OTEL_METRIC_EXPORT_INTERVAL", "500")
        .env("TIDEGATE_LOG", "warn,tidegate=debug");
    let mut node = Node::of(command, shop.place.world.log("traced"), "");
    let base = wait_for("the API to answer", SOON, || {
        let log = node.log();
        let line = log.lines().find(|line| line.contains("the API answers"))?.to_owned();
        let line: Value = serde_json::from_str(&line).expect("JSON");
        Some(format!("http://{}", text(&line["at"])))
    });
    let ada = Caller { base, token: Some(token.clone()) };
    until_read(&ada, "events");
    shop.wait_for(20);
    collector.sent(TRACE, SPAN, "ask");
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let rows = "/v1/feeds/events/rows?where=city%20%3D%20%27Bern%27";
    let traced = [("traceparent", &*parent)];
    assert!(ada.ask(Method::GET, rows, &traced, None).status.is_success());
    assert_eq!(ada.ask(Method::GET, "/v1/feeds/accounts/rows", &traced, None).status, 404);
    let eve = ada.with(&steward);
    wait_for("a chore to be asked for", SOON, || {
        let answer = eve.ask(Method::POST, "/v1/janitor/compaction", &[], None);
        answer.status.is_success().then_some(())
    });
    wait_for("a chore to be told of", SOON, || {
        let spans = collector.spans("tidegate");
        spans.iter().any(|span| span.name == "chore compaction").then_some(())
    });
    // The numbers go the same way.
    let told = wait_for("the numbers to arrive", SOON, || {
        let told = collector.metrics.get("").text();
        let sample = |name: &str, labels: &[&str]| {
            let line = told.lines().find(|line| {
                line.starts_with(name) && labels.iter().all(|label| line.contains(label))
            })?;
            line.rsplit(' ').next()?.parse::<f64>().ok()
        };
        let events = "feed=\"events\"";
        let both = sample("tidegate_sink_records{", &[events, "sink=\"lake\""])? == 20.0
            && sample("tidegate_sink_commit_records_sum{", &[events, "sink=\"warehouse\""])?
                == 20.0
            && sample("tidegate_lag_records{", &[events, "sink=\"lake\""])? == 0.0;
        both.then(|| told.clone())
    });
    assert!(told.contains("db_client_operation_duration_bucket{"), "{told}");
    assert!(node.terminate(SOON).0.success());

    let spans = collector.spans("tidegate");
    check_all(&spans);
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let asked = (TRACE.to_owned(), SPAN.to_owned());
    let requests = named("GET /v1/feeds/{feed}/rows");
    let statuses: BTreeSet<i64> = requests
        .iter()
        .filter(|span| span.parent == Some(asked.clone()))
        .filter_map(|span| span.tag(convention::HTTP_RESPONSE_STATUS_CODE).as_i64())
        .collect();
    assert_eq!(statuses, [200, 404].into());
    for request in requests {
        let decided: Vec<&Span> =
            spans.iter().filter(|span| span.parent == Some(request.at())).collect();
        let allowed = decided.iter().find(|span| span.name == "decide").expect("a decision");
        let wanted = request.tag(convention::HTTP_RESPONSE_STATUS_CODE) == 200;
        assert_eq!(allowed.tag("tidegate.allowed"), &json!(wanted));
    }
    for name in
        ["claim lake", "claim warehouse", "deliver lake", "lake stage", "INSERT public.accounts"]
    {
        assert!(
            !named(name).is_empty(),
            "no {name}: {:?}",
            spans.iter().map(|it| &it.name).collect::<BTreeSet<_>>()
        );
    }
    let chore = named("chore compaction")[0].at();
    assert!(named("compaction lake").iter().any(|span| span.parent == Some(chore.clone())));
    // Offsets are committed to the group, at the latest when the node ends.
    assert!(spans.iter().any(|span| span.name.starts_with("commit ")
        && span.tag(convention::MESSAGING_OPERATION_TYPE) == "settle"));
    let resource = &spans.iter().find(|span| span.name == "lake commit").expect("one").resource;
    assert_eq!(resource["deployment.environment.name"], "proof");
    assert_eq!(resource["service.instance.id"], "one");
    // The audit has the trace in which somebody was denied.
    let denied = shop.audit(&["--denied"]);
    assert!(denied.iter().any(|row| row["trace_id"] == TRACE), "{denied:#?}");
    // Lines of the log are found by the same ids.
    let log = node.log();
    let traces: BTreeSet<&String> = spans.iter().map(|span| &span.trace).collect();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let with_ids: Vec<Value> = lines.filter(|line| line["trace_id"].is_string()).collect();
    assert!(with_ids.iter().any(|line| line["message"] == "committed"), "{log}");
    for line in with_ids {
        assert!(traces.contains(&text(&line["trace_id"])), "{line}");
    }
    // Nothing of what is in the rows, of what was asked for, and of who may see it.
    let all = format!("{log}{spans:?}{told}");
    for secret in ["example.org", "Bern", &*token, "0790001", &token[8..]] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[test]
fn a_collector_that_never_answers_holds_nobody_up() {
    // It takes connections and is silent.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = silent.local_addr().expect("an address");
    for protocol in ["http", "grpc"] {
        let mut place = Place::new("traces-silent");
        place.edit_node(|text| {
            format!(
                "{text}telemetry: {{otlp: {{endpoint: 'http://{at}', protocol: {protocol}, \
                 sample: 1, metrics_every: 200ms}}}}\n"
            )
        });
        let topic = place.topic("orders", 1, &[]);
        place.feed("orders", &format!("topic: {topic}\n{COLUMNS}"));
        let sender = Sender::new();
        let mut node = place.node();
        // Many more batches than the queue of spans has room for would come of it, if each were kept.
        for from in 0..100 {
            sender.send(&topic, 0, from * 20..from * 20 + 20);
        }
        place.wait_for_ids("orders", 0..2000);
        let (status, took) = node.terminate(SOON);
        assert!(status.success());
        assert!(took < Duration::from_secs(20), "{took:?}");
        place.verify();
    }
}
