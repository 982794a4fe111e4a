//! Connections: how they are opened, and what a session remembers.

use std::collections::HashSet;
use std::error::Error as _;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Connect, Manager, ManagerConfig, Object, ObjectId, Pool, PoolError,
    RecyclingMethod, Runtime,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{Secret, TlsMode, Warehouse, WarehouseTls};
use crate::flow::blame;
use crate::record::{Blame, SinkError};
use crate::telemetry::trace::Statement;

/// What every session of this node's name begins with; a claim ends no other session.
pub(super) const APPLICATION: &str = "tidegate";

/// Settings of a session. A frozen node's locks go with the idle timeout; a plan made while a table
/// was small is never kept; a statement is neither compiled (its plan is simple) nor left to run on.
const SETTINGS: &str = "-c statement_timeout=120s -c idle_in_transaction_session_timeout=60s \
                        -c plan_cache_mode=force_custom_plan -c jit=off -c temp_buffers=32MB \
                        -c client_min_messages=warning -c timezone=UTC";

/// How long to wait for a free connection.
const WAIT: Duration = Duration::from_secs(30);

pub(super) struct Sessions {
    pool: Pool,
    staged: Staged,
    database: Option<Arc<str>>,
    postgres: Config,
    dial: Dial,
}

/// A connection that hears of what is told on a channel, as long as it is kept.
pub(super) struct Hearing {
    _client: Client,
    notes: mpsc::Receiver<()>,
}

impl Hearing {
    /// Waits for the next note, or for several at once; false when the connection has ended.
    pub async fn next(&mut self) -> bool {
        self.notes.recv().await.is_some()
    }
}

/// Which staging tables each connection has.
type Staged = Arc<Mutex<HashSet<(ObjectId, u64)>>>;

/// A connection taken from the pool. It goes back only through [`Session::done`]: one that is dropped
/// in the middle of a transaction, by an error or by a future no longer awaited, is closed, and the
/// server rolls back.
pub(super) struct Session {
    object: Option<Object>,
    staged: Staged,
    /// Its name, if the address has it.
    database: Option<Arc<str>>,
}

impl Sessions {
    pub fn open(config: &Warehouse) -> Result<Self, SinkError> {
        Self::with(config, settings(config)?)
    }

    /// Sessions that can write nothing.
    pub fn reading(config: &Warehouse) -> Result<Self, SinkError> {
        let mut postgres = settings(config)?;
        let options = postgres.get_options().unwrap_or_default();
        let options = format!("{options} -c default_transaction_read_only=on");
        postgres.options(options);
        Self::with(config, postgres)
    }

    fn with(config: &Warehouse, postgres: Config) -> Result<Self, SinkError> {
        let dial = Dial { tls: tls(&config.tls)?, password: config.password.clone() };
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(postgres.clone(), dial.clone(), recycling);
        let pool = Pool::builder(manager)
            .max_size(config.connections.max(1))
            .wait_timeout(Some(WAIT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(SinkError::lasting)?;
        let database = postgres.get_dbname().map(Arc::from);
        Ok(Self { pool, staged: Arc::default(), database, postgres, dial })
    }

    /// Listens to a channel, on a connection of its own. Not through a pooler of transactions.
    pub async fn listen(&self, channel: &str) -> Result<Hearing, SinkError> {
        let (tell, notes) = mpsc::channel(1);
        let client = self.dial.dial(&self.postgres, Some(tell)).await.map_err(judged)?.0;
        client.batch_execute(&format!("LISTEN {channel}")).await.map_err(judged)?;
        Ok(Hearing { _client: client, notes })
    }

    pub async fn get(&self) -> Result<Session, SinkError> {
        match self.pool.get().await {
            Ok(object) => Ok(Session {
                object: Some(object),
                staged: self.staged.clone(),
                database: self.database.clone(),
            }),
            Err(PoolError::Backend(error)) => Err(judged(error)),
            Err(other) => Err(SinkError::passing(format!("no connection to PostgreSQL: {other}"))),
        }
    }
}

impl Session {
    /// Runs what is one statement, or is seen as one, in a span of its own.
    pub async fn traced<T>(
        &self,
        operation: &'static str,
        table: Option<&str>,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, tokio_postgres::Error> {
        let table = table.map(|table| table.replace('"', ""));
        let (system, database) = ("postgresql", self.database.as_deref());
        let statement = Statement { system, database, operation, table: table.as_deref() };
        let failed = |error: &tokio_postgres::Error| {
            (error.code().map(|code| code.code().to_owned()), blamed(error).name())
        };
        statement.around(work, failed).await
    }

    /// Gives the connection back. Only outside a transaction.
    pub fn done(mut self) {
        self.object = None;
    }

    /// Whether this connection is known to have the staging table.
    pub fn has_stage(&self, stage: u64) -> bool {
        let id = self.object.as_ref().map(Object::id);
        id.is_some_and(|id| locked(&self.staged).contains(&(id, stage)))
    }

    pub fn remember_stage(&self, stage: u64) {
        if let Some(id) = self.object.as_ref().map(Object::id) {
            locked(&self.staged).insert((id, stage));
        }
    }
}

fn locked(staged: &Staged) -> MutexGuard<'_, HashSet<(ObjectId, u64)>> {
    staged.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Deref for Session {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        match &self.object {
            Some(object) => object,
            None => unreachable!("a session is given back by value"),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            let id = Object::id(&object);
            locked(&self.staged).retain(|(owner, _)| *owner != id);
            drop(Object::take(object));
        }
    }
}

fn settings(config: &Warehouse) -> Result<Config, SinkError> {
    // The address may hold a password, so it is not repeated here.
    let mut postgres: Config = config.url.parse().map_err(|error: tokio_postgres::Error| {
        SinkError::lasting(format!("the warehouse's url is not understood: {}", chain(&error)))
    })?;
    if let Some(secret) = &config.password {
        let password = secret.read().map_err(SinkError::lasting)?;
        postgres.password(password.reveal());
    }
    if !postgres.get_application_name().is_some_and(|name| name.starts_with(APPLICATION)) {
        postgres.application_name(APPLICATION);
    }
    // The address' own settings come last, and so win.
    let options = match postgres.get_options() {
        Some(options) => format!("{SETTINGS} {options}"),
        None => SETTINGS.to_owned(),
    };
    postgres.options(options);
    if postgres.get_connect_timeout().is_none() {
        postgres.connect_timeout(Duration::from_secs(5));
    }
    // A server that is gone without a word is noticed after half a minute.
    postgres.keepalives_idle(Duration::from_secs(10));
    postgres.keepalives_interval(Duration::from_secs(5));
    postgres.keepalives_retries(4);
    postgres.tcp_user_timeout(Duration::from_secs(30));
    postgres.ssl_mode(match config.tls.mode {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::VerifyFull => SslMode::Require,
    });
    Ok(postgres)
}

/// Encryption with a certificate that one authority signed for the host we asked for.
fn tls(config: &WarehouseTls) -> Result<Option<MakeRustlsConnect>, SinkError> {
    if config.mode == TlsMode::Disable {
        return Ok(None);
    }
    let Some(path) = &config.ca else {
        return Err(SinkError::lasting("warehouse.tls: mode verify-full needs a ca"));
    };
    let unusable = |error: &dyn std::fmt::Display| {
        SinkError::lasting(format!("warehouse.tls.ca {}: {error}", path.display()))
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"no certificate in it"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(MakeRustlsConnect::new(config)))
}

/// Opens one connection. The password is read anew each time, so that a rotated one is picked up.
#[derive(Clone)]
struct Dial {
    tls: Option<MakeRustlsConnect>,
    password: Option<Secret>,
}

type Dialled = Result<(Client, JoinHandle<()>), tokio_postgres::Error>;
/// Who is told of each note that a connection gets.
type Tell = Option<mpsc::Sender<()>>;

impl Dial {
    async fn dial(&self, config: &Config, tell: Tell) -> Dialled {
        let mut config = config.clone();
        // If it cannot be read now, the one read at the start may still do.
        if let Some(Ok(password)) = self.password.as_ref().map(Secret::read) {
            config.password(password.reveal());
        }
        Ok(match &self.tls {
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                (client, tokio::spawn(drive(connection, tell)))
            }
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                (client, tokio::spawn(drive(connection, tell)))
            }
        })
    }
}

impl Connect for Dial {
    fn connect(&self, config: &Config) -> Pin<Box<dyn Future<Output = Dialled> + Send + '_>> {
        let config = config.clone();
        Box::pin(async move { self.dial(&config, None).await })
    }
}

async fn drive<S, T>(mut connection: Connection<S, T>, tell: Tell)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match std::future::poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(_))) => {
                // One that waits to be heard stands for all.
                let _ = tell.as_ref().map(|tell| tell.try_send(()));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::debug!(error = chain(&error), "a connection to PostgreSQL ended");
                return;
            }
            None => return,
        }
    }
}

/// An error of the client or the server, judged and put into words.
pub(super) fn judged(error: tokio_postgres::Error) -> SinkError {
    let blame = blamed(&error);
    match error.as_db_error() {
        Some(db) => SinkError::new(blame, worded(db)),
        None => SinkError::new(blame, chain(&error)),
    }
}

pub(super) fn worded(error: &DbError) -> String {
    format!("{} (SQLSTATE {})", error.message(), error.code().code())
}

/// Whose fault an error is.
pub(super) fn blamed(error: &tokio_postgres::Error) -> Blame {
    if let Some(db) = error.as_db_error() {
        return blame::sqlstate(db.code().code());
    }
    // The client tells these from a lost connection by their words only.
    let words = error.to_string();
    match ["invalid configuration", "authentication error"].contains(&words.as_str()) {
        true => Blame::Lasting, // no password given, or a method the client does not know
        false => Blame::Passing, // refused, timed out, cut off, closed
    }
}

fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
