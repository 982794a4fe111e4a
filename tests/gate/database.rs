//! A database of the proof's own.

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Row};

use crate::servers::env;

pub struct Database {
    pub name: String,
    runtime: Runtime,
    client: Client,
}

/// The server's address with another database.
fn url_of(database: &str) -> String {
    let url = env("TIDEGATE_TEST_POSTGRES");
    let (server, _) = url.rsplit_once('/').expect("the url ends in a database");
    format!("{server}/{database}")
}

fn connect(runtime: &Runtime, database: &str) -> Client {
    runtime.block_on(async {
        let connected = tokio_postgres::connect(&url_of(database), NoTls).await;
        let (client, connection) = connected.expect("PostgreSQL answers");
        tokio::spawn(async move { drop(connection.await) });
        client
    })
}

impl Database {
    pub fn create(name: String) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let admin = connect(&runtime, "postgres");
        let made = runtime.block_on(admin.batch_execute(&format!("CREATE DATABASE \"{name}\"")));
        made.expect("a database of our own");
        let client = connect(&runtime, &name);
        Self { name, runtime, client }
    }

    pub fn url(&self) -> String {
        url_of(&self.name)
    }

    /// The server's `host:port`.
    pub fn address() -> String {
        let url = env("TIDEGATE_TEST_POSTGRES");
        let (_, rest) = url.rsplit_once('@').expect("the url names a user");
        rest.split('/').next().unwrap_or(rest).to_owned()
    }

    pub fn execute(&self, sql: &str) {
        let done = self.runtime.block_on(self.client.batch_execute(sql));
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub fn query(&self, sql: &str) -> Vec<Row> {
        let rows = self.runtime.block_on(self.client.query(sql, &[]));
        rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Kept for whoever looks into a failure.
        if std::thread::panicking() {
            return;
        }
        let admin = connect(&self.runtime, "postgres");
        let sql = format!("DROP DATABASE \"{}\" WITH (FORCE)", self.name);
        drop(self.runtime.block_on(admin.batch_execute(&sql)));
    }
}
