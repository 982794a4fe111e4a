//! A database of the proof's own.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Row};

use crate::servers::{env, wait_for};

pub struct Database {
    pub name: String,
    runtime: Runtime,
    client: Mutex<Client>,
}

/// The server's address with another database.
fn url_of(database: &str) -> String {
    let url = env("TIDEGATE_TEST_POSTGRES");
    let (server, _) = url.rsplit_once('/').expect("the url ends in a database");
    format!("{server}/{database}")
}

/// Waits for a server that a proof has just started again.
fn connect(runtime: &Runtime, database: &str) -> Client {
    wait_for(&format!("PostgreSQL to let us into {database}"), Duration::from_secs(30), || {
        runtime.block_on(async {
            let connected = tokio_postgres::connect(&url_of(database), NoTls).await;
            let (client, connection) = connected.ok()?;
            tokio::spawn(async move { drop(connection.await) });
            // A user named like the bookkeeping's schema would create tables there.
            client.batch_execute("SET search_path = public").await.ok()?;
            Some(client)
        })
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
        let client = Mutex::new(connect(&runtime, &name));
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

    /// Statements on the server itself, as its owner.
    pub fn administer(&self, statements: &[&str]) {
        let admin = connect(&self.runtime, "postgres");
        for sql in statements {
            let done = self.runtime.block_on(admin.batch_execute(sql));
            done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
    }

    /// A server that was stopped has ended the connection.
    fn client(&self) -> MutexGuard<'_, Client> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.is_closed() {
            *client = connect(&self.runtime, &self.name);
        }
        client
    }

    pub fn execute(&self, sql: &str) {
        let done = self.runtime.block_on(self.client().batch_execute(sql));
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// What somebody has of the database by his own role; why not, if nothing.
    pub fn query_as(&self, role: &str, sql: &str) -> Result<Vec<Row>, tokio_postgres::Error> {
        let client = connect(&self.runtime, &self.name);
        self.runtime.block_on(async {
            let become_him = format!("SET SESSION AUTHORIZATION \"{role}\"; RESET search_path");
            client.batch_execute(&become_him).await?;
            client.query(sql, &[]).await
        })
    }

    pub fn query(&self, sql: &str) -> Vec<Row> {
        let ask = || self.runtime.block_on(self.client().query(sql, &[]));
        let rows = ask().or_else(|_| {
            // The server may have ended the connection just now.
            std::thread::sleep(Duration::from_millis(200));
            ask()
        });
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
