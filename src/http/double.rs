//! Somebody to ask, for tests: as much HTTP as it takes.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// A request: its path, and its `authorization`.
pub type Asked = (String, Option<String>);

/// Answers each request by its path and how often it was asked for, on a port of its own.
pub struct Double {
    /// Without a `/` at its end.
    pub url: String,
    pub asked: Arc<Mutex<Vec<Asked>>>,
}

impl Double {
    pub fn start(answer: impl Fn(&str, usize) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let noted = asked.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
                let Some(Ok(first)) = lines.next() else { continue };
                let path = first.split(' ').nth(1).unwrap().to_owned();
                let headers = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
                let signed = headers.filter_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
                });
                let signed = signed.last();
                let mut noted = noted.lock().unwrap();
                noted.push((path.clone(), signed));
                let times = noted.iter().filter(|(of, _)| *of == path).count();
                drop(noted);
                let (status, body) = answer(&path, times);
                let length = body.len();
                let _ = write!(
                    client,
                    "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
            }
        });
        Self { url, asked }
    }

    pub fn paths(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }
}
