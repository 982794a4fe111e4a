//! The composition root: build, run, drain.

mod beats;
mod beside;
mod feed_folder;
mod front;
mod service;
mod vitals;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use actix::prelude::*;
use actix_web::dev::ServerHandle;
use tracing::{error, info, warn};

use self::beats::Presence;
use self::feed_folder::FeedFolder;
use self::front::{Front, Open};
use self::vitals::Vitals;
use crate::actors::governor::Files;
use crate::actors::message::{Status, Stop, Stream};
use crate::actors::supervisor::Setup;
use crate::actors::{Edges, Installation, Io, Supervisor, janitor};
use crate::beats::Beats;
use crate::catalog::{Catalog, Known};
use crate::config::{FeedFile, Mode, Node, Protocol};
use crate::flow::budget::Budget;
use crate::grants::node_name;
use crate::lake::LakeStore;
use crate::record::{Blame, SinkError, SinkKind};
use crate::registry::Registry;
use crate::source::{KafkaSource, Log, Membership, group_consumer_config};
use crate::telemetry::otlp::Export;
use crate::telemetry::pulse::Pulse;
use crate::warehouse;

/// How long those who follow the tables may take when the node ends.
const LAST_WORD: Duration = Duration::from_secs(5);

/// How a node is started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Take over sinks that another installation wrote.
    pub adopt: bool,
    pub mode: Mode,
}

/// A node that is built and checked, and not yet running.
pub struct App {
    node: Arc<Node>,
    feeds: Vec<FeedFile>,
    mode: Mode,
    /// That of whole nodes.
    group: String,
    edges: Arc<Edges>,
    known: Known,
    janitor: Option<janitor::Setup>,
    front: Option<Front>,
    vitals: Option<Vitals>,
    pulse: Arc<Pulse>,
    presence: Option<Presence>,
    export: Export,
    runtime: tokio::runtime::Runtime,
}

/// A running node, seen from another thread.
pub struct Running {
    ends: Ends,
    system: System,
    thread: Option<JoinHandle<i32>>,
}

/// What is stopped when the node ends.
#[derive(Clone)]
struct Ends {
    supervisor: Addr<Supervisor>,
    janitor: Option<janitor::Kept>,
    front: Option<Open>,
    vitals: Option<ServerHandle>,
    presence: Option<Presence>,
    /// Nothing is waited for any more.
    at_once: Arc<AtomicBool>,
}

impl Ends {
    /// Drains what is in flight, and what is being answered.
    async fn drain(&self) {
        let answers = async {
            if let Some(front) = &self.front {
                front.close().await;
            }
        };
        let lease = async {
            if let Some(janitor) = &self.janitor {
                janitor.stop().await;
            }
        };
        let (_, (), ()) = futures::join!(self.supervisor.send(Stop), answers, lease);
        if let Some(presence) = &self.presence {
            presence.leave().await;
        }
        // Last of all: until then the probes say that it drains.
        if let Some(vitals) = &self.vitals {
            vitals.stop(true).await;
        }
    }
}

impl App {
    /// Opens the edges and checks what must hold before anything is read. A sink that is merely away
    /// does not fail here.
    pub fn build(
        mut node: Node,
        feeds: Vec<FeedFile>,
        options: Options,
    ) -> Result<Self, SinkError> {
        // Both TLS clients of the node share one provider of cryptography.
        drop(rustls::crypto::ring::default_provider().install_default());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("tidegate-io")
            .enable_all()
            .build()
            .map_err(SinkError::lasting)?;
        let pulse = Arc::new(Pulse::default());
        let observed = pulse.clone();
        let observe = move || vitals::observe(&observed);
        let otlp = node.telemetry.otlp.as_ref();
        let export = Export::start(otlp, &node_name(), observe, runtime.handle());
        let export = export.map_err(SinkError::lasting)?;
        let mode = options.mode;
        let group = node.kafka.group.clone();
        node.kafka.group = mode.group(&group);
        let served = mode.narrow(feeds.clone());
        let wanted = Wanted {
            lake: served.iter().any(|feed| feed.lake.is_some()),
            warehouse: served.iter().any(|feed| feed.warehouse.is_some()),
        };
        let lake = node.lake.as_ref().map(LakeStore::open);
        let lake = opened(SinkKind::Lake, lake, wanted.lake)?;
        let warehouse = node.warehouse.as_ref().map(warehouse::open);
        let warehouse = opened(SinkKind::Warehouse, warehouse, wanted.warehouse)?;
        let log = Log::open(&node.kafka).map_err(SinkError::lasting)?;
        let embedded =
            node.warehouse.as_ref().is_some_and(|config| config.url.starts_with("sqlite:"));
        let registry = node.schema_registry.as_ref().map(Registry::open).transpose();
        let registry = registry.map_err(SinkError::lasting)?;
        let catalog = Catalog::new(node.kafka.clone(), lake.clone(), warehouse.clone(), registry);
        let installation = Installation::new(options.adopt);
        let edges = Arc::new(Edges::new(warehouse, lake, Arc::new(log), catalog, installation));
        runtime.block_on(check_sinks(&edges, wanted, embedded))?;
        let known = Known::new(feeds.clone(), edges.catalog.clone(), edges.log.clone());
        let io = Io::new(runtime.handle().clone());
        let files = build_files(&node, mode, &known, &edges);
        // A node that cannot tell of itself is one that works nevertheless.
        let beats = Beats::open(&node).unwrap_or_else(|error| {
            warn!(target: "tidegate::app", %error, "others cannot be told of this node");
            None
        });
        let front = Front::build(&node, &known, &edges, &io, files)?;
        let group_of = node.kafka.group.clone();
        let presence = beats.map(|beats| Presence::new(beats, group_of, pulse.clone(), io.clone()));
        let janitor = build_janitor(&node, mode, &known, &edges, io)?;
        let vitals = node.telemetry.listen.as_ref();
        let vitals = vitals.map(|at| Vitals::build(at, pulse.clone())).transpose()?;
        let node = Arc::new(node);
        Ok(Self {
            node,
            feeds,
            mode,
            group,
            edges,
            known,
            janitor,
            front,
            vitals,
            pulse,
            presence,
            export,
            runtime,
        })
    }

    /// Fails if nodes run that serve a sink of this one's in another mode.
    pub fn check_beside(self) -> Result<Self, SinkError> {
        match beside::conflict(&self.edges.log, self.mode, &self.group) {
            Ok(None) => {}
            Ok(Some(conflict)) => return Err(SinkError::lasting(conflict)),
            Err(error) => {
                warn!(target: "tidegate::app", error, "not known whether nodes of another mode run; looked at again");
            }
        }
        Ok(self)
    }

    /// Runs until SIGTERM or SIGINT, then drains. Answers the exit code.
    pub fn run(self) -> i32 {
        self.run_with(|_, _| {}, true)
    }

    /// Runs on a thread of its own, until told to stop.
    pub fn start(self) -> Running {
        let (tell, started): (_, Receiver<(Ends, System)>) = channel();
        let thread = std::thread::spawn(move || {
            self.run_with(move |ends, system| drop(tell.send((ends, system))), false)
        });
        // The thread sends before it runs anything that can fail.
        let (ends, system) = started.recv().unwrap_or_else(|_| unreachable!());
        Running { ends, system, thread: Some(thread) }
    }

    fn run_with(self, started: impl FnOnce(Ends, System), signals: bool) -> i32 {
        let Self { node, feeds, mode, group, edges, known, janitor, .. } = self;
        let Self { front, vitals, pulse, presence, export, runtime, .. } = self;
        let io = Io::new(runtime.handle().clone());
        let followed = edges.clone();
        let at_once = Arc::new(AtomicBool::new(false));
        let hurried = at_once.clone();
        let system = System::new();
        system.block_on(async move {
            let arbiters: Vec<Arbiter> = (0..io.cores().max(2)).map(|_| Arbiter::new()).collect();
            // Set aside: librdkafka's queue, which it bounds by itself, and what encoders and COPY hold
            // beside the batches they work on.
            let total = node.memory.budget.bytes();
            let (queue, work) = (total / 4, total / 8);
            let config = node.clone();
            let watched = pulse.clone();
            let open_source = Box::new(move |stream, protocol, topics, budget, events| {
                let membership = Opening { stream, protocol, topics, mode };
                open_source(&config, membership, budget, queue, &watched, events)
            });
            let log = edges.log.clone();
            vitals::beat(&io, pulse.clone());
            // First of all: whoever asks while the rest begins is answered.
            let vitals = vitals.and_then(Vitals::open);
            let budget = Budget::new(total - queue - work);
            pulse.budget(budget.clone());
            let told = pulse.clone();
            let supervisor = Supervisor::build(Setup {
                node: node.clone(),
                feeds: mode.narrow(feeds.clone()),
                edges,
                io,
                arbiters: arbiters.iter().map(Arbiter::handle).collect(),
                budget,
                pulse,
                open_source,
            })
            .start();
            let control = Arbiter::new().handle();
            let front = front.map(|front| front.open(&control));
            let janitor = janitor.map(|setup| janitor::live(setup, &control));
            if let Some(presence) = presence.clone() {
                actix::spawn(presence.tell(supervisor.clone()));
            }
            let supervised = supervisor.clone();
            let ends = Ends { supervisor: supervised, janitor, front, vitals, presence, at_once };
            started(ends.clone(), System::current());
            if signals {
                actix::spawn(stop_on_signal(ends));
                actix::spawn(service::tell_of(told));
                actix::spawn(look_beside(log, mode, group));
                // The node of a command has a folder; others are given their feeds.
                actix::spawn(FeedFolder { node, mode, running: feeds, supervisor, known }.watch());
            }
        });
        let code = system.run_with_code().unwrap_or(1);
        if !hurried.load(Ordering::Relaxed) {
            let last_word = async { tokio::time::timeout(LAST_WORD, followed.finish()).await };
            drop(runtime.block_on(last_word));
            export.finish();
        }
        // Work that outlived its actors is fenced; it need not be waited for.
        runtime.shutdown_background();
        code
    }
}

/// The node's janitor. One that cannot reach the lake would hold the lease for nothing.
fn build_janitor(
    node: &Node,
    mode: Mode,
    known: &Known,
    edges: &Arc<Edges>,
    io: Io,
) -> Result<Option<janitor::Setup>, SinkError> {
    let reaches = node.lake.is_none() || (edges.lake.is_some() && mode != Mode::Warehouse);
    if !node.janitor.enabled || !reaches {
        return Ok(None);
    }
    let work = janitor::Work {
        config: node.janitor.clone(),
        known: known.clone(),
        lake: edges.lake.clone(),
        store: node.warehouse.as_ref().map(warehouse::open_janitor).transpose()?,
        ad_hoc: node.warehouse.as_ref().map(warehouse::open_ad_hoc).transpose()?,
        retires_rows: false,
        token: None,
    };
    Ok(Some(janitor::Setup { work, edges: edges.clone(), node: node_name(), io }))
}

/// Where the lake's modes are to follow the permission rows.
fn build_files(node: &Node, mode: Mode, known: &Known, edges: &Edges) -> Option<Files> {
    let config = &node.governance.files;
    let lake = edges.lake.clone().filter(|_| config.enforce && mode != Mode::Warehouse)?;
    let archived = Known::archived(node, edges.catalog.clone(), edges.log.clone());
    Some(Files::new(known.clone(), archived, lake, config.groups.clone()))
}

/// Sinks that feeds have now. Others may come with a feed, and are asked then.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    lake: bool,
    warehouse: bool,
}

/// A sink that no feed has yet must not keep the node from starting.
fn opened<T>(
    sink: SinkKind,
    opened: Option<Result<T, SinkError>>,
    wanted: bool,
) -> Result<Option<T>, SinkError> {
    match opened {
        Some(Err(error)) if !wanted => {
            warn!(target: "tidegate::app", %sink, %error, "no feed has this sink, and it cannot be opened: a feed that comes to have it needs another start");
            Ok(None)
        }
        opened => opened.transpose(),
    }
}

/// What can be known of the sinks before anything is read. One that is away is asked again when it is
/// back.
async fn check_sinks(edges: &Edges, wanted: Wanted, embedded: bool) -> Result<(), SinkError> {
    match &edges.warehouse {
        Some(warehouse) if wanted.warehouse => {
            if embedded {
                warehouse.migrate().await?;
            }
            let checked = match warehouse.check_schema().await {
                Ok(()) => edges.check_installation(SinkKind::Warehouse).await,
                failed => failed,
            };
            unless_away(SinkKind::Warehouse, checked)?;
        }
        // Whose lake it is tells the warehouse, if it can.
        Some(warehouse) if wanted.lake && !embedded => {
            let asked = async {
                warehouse.check_schema().await?;
                edges.check_installation(SinkKind::Warehouse).await
            };
            let _ = tokio::time::timeout(ANSWER_WITHIN, asked).await;
        }
        // The janitor's lease is in it, whoever writes rows.
        Some(warehouse) if wanted.lake => drop(warehouse.migrate().await?),
        _ => {}
    }
    if edges.lake.is_some() && wanted.lake {
        unless_away(SinkKind::Lake, edges.check_installation(SinkKind::Lake).await)?;
    }
    Ok(())
}

/// How long a sink that is not needed now is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How often nodes of another mode are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Two that start at once do not see each other at their starts.
async fn look_beside(log: Arc<Log>, mode: Mode, group: String) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let (log, group) = (log.clone(), group.clone());
        let asked = tokio::task::spawn_blocking(move || beside::conflict(&log, mode, &group));
        if let Ok(Ok(Some(conflict))) = asked.await {
            error!(target: "tidegate::app", conflict, "nodes of two modes run");
        }
    }
}

fn unless_away(sink: SinkKind, checked: Result<(), SinkError>) -> Result<(), SinkError> {
    match checked {
        Err(error) if error.blame == Blame::Passing => {
            warn!(target: "tidegate::app", %sink, %error, "the sink does not answer; it will be caught up when it does");
            Ok(())
        }
        checked => checked,
    }
}

/// What a consumer is opened for.
struct Opening {
    stream: Stream,
    protocol: Protocol,
    topics: Vec<String>,
    mode: Mode,
}

fn open_source(
    node: &Node,
    Opening { stream, protocol, topics, mode }: Opening,
    budget: Budget,
    queue: usize,
    pulse: &Pulse,
    events: Recipient<crate::actors::message::SourceEvent>,
) -> Result<KafkaSource, String> {
    // A catch-up is rare, so its queue has no part set aside and takes from the budget while it lives.
    let (queue, held) = match stream {
        Stream::Main => (queue, None),
        Stream::CatchUp(_) => (queue / 4, Some(budget.charge(queue / 4))),
    };
    let mut config = group_consumer_config(&node.kafka, protocol, queue)?;
    let (name, membership) = match stream {
        Stream::Main => {
            let client_id = config.get("client.id").unwrap_or_default().to_owned();
            config.set("client.id", mode.client_id(&client_id));
            ("tidegate-poll".to_owned(), Membership::Group(topics))
        }
        Stream::CatchUp(sink) => {
            config.set("group.id", format!("{}-catch-up", node.kafka.group));
            config.set("enable.auto.commit", "false");
            (format!("tidegate-{sink}"), Membership::Manual)
        }
    };
    let alive = pulse.watch(&name, chrono::Utc::now().timestamp_millis());
    KafkaSource::start(&name, &config, membership, budget, alive, move |event| {
        let _ = &held;
        // The supervisor's mailbox is as good as unbounded; without it nothing would be answered.
        drop(events.try_send(crate::actors::message::SourceEvent { stream, event }));
    })
}

async fn stop_on_signal(ends: Ends) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        warn!(target: "tidegate::app", "signals cannot be heard: only SIGKILL ends this node");
        return;
    };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    service::tell_of_stop();
    info!(target: "tidegate::app", "stopping: draining what is in flight; a second signal stops at once");
    let again = async {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    };
    tokio::select! {
        () = ends.drain() => info!(target: "tidegate::app", "drained"),
        () = again => {
            ends.at_once.store(true, Ordering::Relaxed);
            warn!(target: "tidegate::app", "stopped at once; what was in flight will be read again");
        }
    }
    System::current().stop();
}

impl Running {
    /// What the node owns now, as the supervisor tells it.
    pub fn status(&self) -> Option<Vec<crate::actors::message::PartitionStatus>> {
        let (tell, told) = channel();
        let supervisor = self.ends.supervisor.clone();
        self.system.arbiter().spawn(async move {
            drop(tell.send(supervisor.send(Status).await.ok()));
        });
        told.recv_timeout(std::time::Duration::from_secs(10)).ok().flatten()
    }

    /// It has ended by itself.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Drains and ends the node. Answers its exit code.
    pub fn stop(mut self) -> i32 {
        let (ends, system) = (self.ends.clone(), self.system.clone());
        self.system.arbiter().spawn(async move {
            ends.drain().await;
            system.stop();
        });
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(1)
    }
}
