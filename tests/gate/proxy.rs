//! A proxy that cuts a client off in the middle of a commit: before the request arrives, or after it
//! was carried out and before the client hears of it. To the client both look the same.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the proxy listens for, in what the client and the server say.
#[derive(Clone, Copy)]
pub enum Commit {
    /// A simple query `COMMIT`, and the server's word that it is complete.
    Postgres,
    /// The creation of a Delta log entry, and any answer.
    DeltaLog,
    /// The creation of a link in a plain table's chain, and any answer.
    Link,
}

/// What is lost of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lose {
    Request,
    Answer,
}

pub struct Proxy {
    pub address: String,
    state: Arc<State>,
}

struct State {
    upstream: String,
    commit: Commit,
    /// What is to be lost of the next commit.
    armed: Mutex<Option<Lose>>,
    lost: AtomicUsize,
    closed: AtomicBool,
    /// Nobody gets through, and these are cut off.
    away: AtomicBool,
    clients: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub fn start(upstream: String, commit: Commit) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound port").to_string();
        let state = Arc::new(State {
            upstream,
            commit,
            armed: Mutex::new(None),
            lost: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            away: AtomicBool::new(false),
            clients: Mutex::default(),
        });
        let accepting = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.closed.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(client) = client {
                    let state = accepting.clone();
                    std::thread::spawn(move || state.serve(client));
                }
            }
        });
        Self { address, state }
    }

    /// The next commit is to fail this way.
    pub fn arm(&self, lose: Lose) {
        *self.state.armed() = Some(lose);
    }

    /// The server is away from now on: who is connected is cut off, and nobody gets through.
    pub fn cut(&self) {
        self.state.away.store(true, Ordering::SeqCst);
        let mut clients = self.state.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.drain(..).for_each(|client| drop(client.shutdown(Shutdown::Both)));
    }

    /// It is back.
    pub fn mend(&self) {
        self.state.away.store(false, Ordering::SeqCst);
    }

    /// Requests and answers lost so far.
    pub fn lost(&self) -> usize {
        self.state.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(&self.address));
    }
}

impl State {
    fn serve(&self, client: TcpStream) {
        {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            if self.away.load(Ordering::SeqCst) {
                return;
            }
            clients.extend(client.try_clone());
        }
        let Ok(server) = TcpStream::connect(&self.upstream) else { return };
        let committing = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| self.requests(&client, &server, &committing));
            self.answers(&server, &client, &committing);
        });
    }

    fn requests(&self, mut client: &TcpStream, mut server: &TcpStream, committing: &AtomicBool) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            let asked = &buffer[..count];
            if self.commit.is_asked(asked) {
                match self.armed().take() {
                    None => {}
                    Some(Lose::Answer) => committing.store(true, Ordering::Relaxed),
                    Some(Lose::Request) => {
                        self.lost.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                }
            }
            if server.write_all(asked).is_err() {
                break;
            }
        }
        cut(client, server);
    }

    fn answers(&self, mut server: &TcpStream, mut client: &TcpStream, committing: &AtomicBool) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = server.read(&mut buffer) {
            let answer = &buffer[..count];
            if committing.load(Ordering::Relaxed) && self.commit.is_done(answer) {
                self.lost.fetch_add(1, Ordering::Relaxed);
                break;
            }
            if client.write_all(answer).is_err() {
                break;
            }
        }
        cut(client, server);
    }

    fn armed(&self) -> MutexGuard<'_, Option<Lose>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(client: &TcpStream, server: &TcpStream) {
    drop(client.shutdown(Shutdown::Both));
    drop(server.shutdown(Shutdown::Both));
}

impl Commit {
    fn is_asked(self, said: &[u8]) -> bool {
        match self {
            Commit::Postgres => contains(said, b"Q\0\0\0\x0bCOMMIT\0"),
            Commit::DeltaLog => is_put(said, b"/_delta_log/"),
            Commit::Link => is_put(said, b"/_commits/") && !is_put(said, b"/_last"),
        }
    }

    fn is_done(self, said: &[u8]) -> bool {
        match self {
            Commit::Postgres => contains(said, b"COMMIT\0"),
            Commit::DeltaLog | Commit::Link => true,
        }
    }
}

/// Whether a request puts a JSON object below a folder of this name.
fn is_put(said: &[u8], folder: &[u8]) -> bool {
    let line = said.split(|byte| *byte == b'\r').next().unwrap_or_default();
    line.starts_with(b"PUT ") && contains(line, folder) && contains(line, b".json")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
