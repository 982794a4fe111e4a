//! One proof's world: topics, group, database, lake and configuration of its own, and its nodes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate::generate::Topic;

use crate::database::Database;
use crate::kafka;
use crate::load::{self, Load};
use crate::node::{Node, tidegate};
use crate::servers::{env, turn};

/// How long a new owner may wait for a lock, in the node file of every proof.
pub const LOCK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

pub struct Setup {
    pub name: &'static str,
    pub topics: &'static [Topic],
    pub partitions: i32,
    /// `auto`, `consumer` or `classic`.
    pub protocol: &'static str,
    /// `host:port` that stands before PostgreSQL; none for PostgreSQL itself.
    pub postgres: Option<String>,
    pub lake: Lake,
    /// `lake.format` of every feed, and `lake.layout`; none for the default.
    pub format: &'static str,
    pub layout: Option<Layout>,
    /// Whether its database has the bookkeeping's schema from the beginning.
    pub migrated: bool,
}

/// A layout, and the folder it gives a table.
#[derive(Clone, Copy)]
pub struct Layout {
    pub template: &'static str,
    pub table: &'static str,
}

pub enum Lake {
    Folder,
    /// On S3, reached by this endpoint.
    S3(String),
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            name: "proof",
            topics: &[Topic::TransactionLog, Topic::UserTransactionSummary],
            partitions: 8,
            protocol: "auto",
            postgres: None,
            lake: Lake::Folder,
            format: "delta",
            layout: None,
            migrated: true,
        }
    }
}

pub struct World {
    pub database: Database,
    pub config: PathBuf,
    pub topics: HashMap<Topic, String>,
    pub partitions: i32,
    pub lake_url: String,
    pub format: &'static str,
    layout: Option<Layout>,
    /// The lake as files, on S3 too: that server keeps its objects in a folder.
    lake_folder: PathBuf,
    pub name: String,
    pub folder: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let turn = turn();
        static WORLDS: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_millis();
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}", setup.name, now % 1_000_000_000);
        println!("--- {name}");
        let folder = Path::new(&env("TIDEGATE_TEST_DIR")).join("gate").join(&name);
        std::fs::create_dir_all(folder.join("feeds")).expect("a folder of our own");
        let (lake_url, lake_folder, s3) = match &setup.lake {
            Lake::Folder => (format!("{}/lake", folder.display()), folder.join("lake"), ""),
            Lake::S3(_) => {
                let bucket = env("TIDEGATE_TEST_S3_BUCKET");
                let root = Path::new(&env("TIDEGATE_TEST_S3_ROOT")).join(&bucket).join(&name);
                (format!("s3://{bucket}/{name}"), root, S3)
            }
        };
        let endpoint = match &setup.lake {
            Lake::Folder => "",
            Lake::S3(endpoint) => endpoint,
        };
        let database = Database::create(name.clone());
        let warehouse = match &setup.postgres {
            None => database.url(),
            Some(proxy) => database.url().replace(&Database::address(), proxy),
        };
        let node = format!(
            "kafka: {{bootstrap: '{}', group: {name}, protocol: {}}}\n\
             lake:\n  url: {lake_url}\n{}\
             warehouse: {{url: '{warehouse}', lock_timeout: {}ms}}\n",
            kafka::address(),
            setup.protocol,
            s3.replace("@ENDPOINT@", endpoint).replace("@REGION@", &env("TIDEGATE_TEST_S3_REGION")),
            LOCK_TIMEOUT.as_millis(),
        );
        let config = folder.join("node.yaml");
        std::fs::write(&config, node).expect("the node file");
        let mut world = Self {
            database,
            config,
            topics: HashMap::new(),
            partitions: setup.partitions,
            lake_url,
            format: setup.format,
            layout: setup.layout,
            lake_folder,
            name,
            folder,
            _turn: turn,
        };
        for topic in setup.topics {
            world.create_topic(*topic);
            world.declare(*topic);
        }
        if setup.migrated {
            world.migrate();
        }
        world
    }

    fn on_broker(&self, topic: Topic) -> String {
        format!("{}-{}", self.name, topic.name())
    }

    /// Its topic on the broker, of which no feed needs to know.
    pub fn create_topic(&self, topic: Topic) -> String {
        let on_broker = self.on_broker(topic);
        kafka::create_topic(&on_broker, self.partitions, &[]);
        on_broker
    }

    /// Writes the feed of a topic that is there.
    pub fn declare(&mut self, topic: Topic) {
        let on_broker = self.on_broker(topic);
        let feed = topic
            .feed()
            .replace(&format!("\ntopic: {}\n", topic.name()), &format!("\ntopic: {on_broker}\n"));
        // Often enough that something is always on its way to the lake.
        let layout = self.layout.map(|it| format!(", layout: '{}'", it.template));
        let feed = format!(
            "{}\nlake: {{linger: 400ms, format: {}{}}}\n",
            feed.trim_end(),
            self.format,
            layout.unwrap_or_default()
        );
        std::fs::write(self.feed_file(topic), feed).expect("a feed file");
        self.topics.insert(topic, on_broker);
    }

    pub fn feed_file(&self, topic: Topic) -> PathBuf {
        self.folder.join(format!("feeds/{}.yaml", topic.name()))
    }

    pub fn migrate(&self) {
        let out = tidegate().arg("migrate").arg("--config").arg(&self.config).output();
        let out = out.expect("the binary runs");
        assert!(out.status.success(), "migrate: {}", String::from_utf8_lossy(&out.stderr));
    }

    pub fn node(&self, name: &str) -> Node {
        self.broken_node(name, "")
    }

    pub fn broken_node(&self, name: &str, fault: &str) -> Node {
        Node::start(&self.config, self.log(name), fault)
    }

    /// Where a node's log goes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Publishes to the world's topics.
    pub fn load(&self, seed: u64, messages: u64, rate: u64) -> Load {
        self.load_with(seed, messages, rate, 0.0)
    }

    pub fn load_with(&self, seed: u64, messages: u64, rate: u64, bad: f64) -> Load {
        let topics = self.topics.keys().copied().collect();
        Load::start(load::Plan { seed, messages, bad, rate, topics }, self.topics.clone())
    }

    /// A feed's table in the lake, as a folder.
    pub fn lake_table(&self, topic: Topic) -> PathBuf {
        self.lake_folder.join(self.table_path(topic))
    }

    /// The lake, as a folder.
    pub fn lake_root(&self) -> &Path {
        &self.lake_folder
    }

    /// Path of a feed's table below the lake's root.
    pub fn table_path(&self, topic: Topic) -> String {
        let template = self.layout.map_or("streams/{feed}", |layout| layout.table);
        let on_broker = &self.topics[&topic];
        template.replace("{feed}", topic.name()).replace("{TOPIC}", &on_broker.to_uppercase())
    }

    pub fn is_on_s3(&self) -> bool {
        self.lake_url.starts_with("s3://")
    }
}

const S3: &str = "  s3:
    endpoint: @ENDPOINT@
    region: @REGION@
    access_key: {env: TIDEGATE_TEST_S3_ACCESS_KEY}
    secret_key: {env: TIDEGATE_TEST_S3_SECRET_KEY}
";

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- left in {} and database {}", self.folder.display(), self.database.name);
            return;
        }
        let topics: Vec<String> = self.topics.values().cloned().collect();
        kafka::delete_topics(&topics);
        for folder in [&self.folder, &self.lake_folder] {
            drop(std::fs::remove_dir_all(folder));
        }
    }
}
