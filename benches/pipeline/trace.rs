//! The statements of a run, recorded between worker and server: a proxy that passes every byte on
//! and notes what the client asks for. The product knows nothing of it.
//!
//! PostgreSQL's protocol, as far as the client library speaks it: a start-up packet, then messages
//! of a type byte and a length. `Parse` names a statement, `Bind` gives it values, `Execute` runs
//! it; `Query` is text without values.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Asks whether the server speaks TLS; one byte answers, and the start-up packet follows.
const SSL_REQUEST: u32 = 80_877_103;

/// A statement with its values.
#[derive(Clone)]
pub struct Statement {
    /// Its text.
    pub sql: Arc<str>,
    /// Type and binary value of each parameter; `None` for text that was run without.
    pub args: Option<Vec<(u32, Option<Vec<u8>>)>>,
}

/// Statements of one connection that belong together: a transaction, or one on its own.
pub struct Piece {
    /// In order.
    pub statements: Vec<Statement>,
    /// Whether it is of the applier; else the relay's.
    pub applies: bool,
    /// Pieces of the applier that were begun before.
    pub after: usize,
}

/// What was recorded.
#[derive(Default)]
pub struct Recording {
    /// In the order in which they were begun.
    pub pieces: Vec<Piece>,
}

impl Recording {
    /// How many statements there are: of the applier, and of the relay.
    pub fn statements(&self) -> (usize, usize) {
        let count = |applies| {
            let pieces = self.pieces.iter().filter(|p| p.applies == applies);
            pieces.map(|p| p.statements.len()).sum()
        };
        (count(true), count(false))
    }

    fn add(&mut self, first: Statement) -> usize {
        let applies = is_appliers(&first.sql);
        let after = self.pieces.iter().filter(|p| p.applies).count();
        self.pieces.push(Piece {
            statements: vec![first],
            applies,
            after,
        });
        self.pieces.len() - 1
    }
}

/// A batch begins by reading and by writing; one that changes nothing moves its position only. The
/// relay reads and prunes.
fn is_appliers(sql: &str) -> bool {
    sql.starts_with("BEGIN ISOLATION") || sql.starts_with("INSERT INTO positions")
}

/// Listens, passes on, and records while it is told to.
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    on: Arc<AtomicBool>,
    recording: Arc<Mutex<Recording>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Before the server at this address.
    pub async fn start(server: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let on = Arc::new(AtomicBool::new(false));
        let recording = Arc::new(Mutex::new(Recording::default()));
        let (recorder, switch) = (Arc::clone(&recording), Arc::clone(&on));
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("a client");
                let server = TcpStream::connect(&server).await.expect("the server");
                for stream in [&client, &server] {
                    stream.set_nodelay(true).expect("nodelay");
                }
                let (from_client, mut to_client) = client.into_split();
                let (mut from_server, to_server) = server.into_split();
                let line = Line {
                    recording: Arc::clone(&recorder),
                    on: Arc::clone(&switch),
                    texts: HashMap::new(),
                    bound: None,
                    open: None,
                };
                // Either direction ends with its connection.
                tokio::spawn(async move { line.pass(from_client, to_server).await.ok() });
                tokio::spawn(async move { copy(&mut from_server, &mut to_client).await.ok() });
            }
        });
        Self {
            port,
            on,
            recording,
            accepting,
        }
    }

    /// Records from now on, or no longer.
    pub fn record(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// What was recorded.
    pub fn finish(self) -> Recording {
        self.accepting.abort();
        std::mem::take(&mut *lock(&self.recording))
    }
}

fn lock(recording: &Mutex<Recording>) -> MutexGuard<'_, Recording> {
    recording.lock().expect("sound")
}

/// One connection's way to the server.
struct Line {
    recording: Arc<Mutex<Recording>>,
    on: Arc<AtomicBool>,
    /// Text and parameter types of named statements.
    texts: HashMap<Vec<u8>, (Arc<str>, Vec<u32>)>,
    bound: Option<Statement>,
    /// The piece that goes on.
    open: Option<usize>,
}

impl Line {
    async fn pass(
        mut self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
    ) -> std::io::Result<()> {
        let mut started = false;
        let mut buffer = Vec::new();
        loop {
            let kind = if started { from.read_u8().await? } else { 0 };
            let length = from.read_u32().await?;
            let mut body = vec![0; length as usize - 4];
            from.read_exact(&mut body).await?;
            buffer.clear();
            if started {
                buffer.push(kind);
            }
            buffer.extend_from_slice(&length.to_be_bytes());
            buffer.extend_from_slice(&body);
            to.write_all(&buffer).await?;
            if started {
                self.note(kind, &body);
            } else {
                started = body.get(..4) != Some(&SSL_REQUEST.to_be_bytes()[..]);
            }
        }
    }

    fn note(&mut self, kind: u8, body: &[u8]) {
        let mut body = Body(body);
        match kind {
            b'P' => {
                let (name, sql) = (body.text().to_vec(), body.text());
                let sql = String::from_utf8_lossy(sql).into();
                let count = body.short();
                let types = (0..count).map(|_| body.long()).collect();
                self.texts.insert(name, (sql, types));
            }
            b'B' => self.bound = Some(self.bind(&mut body)),
            b'E' => {
                if let Some(statement) = self.bound.take() {
                    self.run(statement);
                }
            }
            b'Q' => {
                let sql = String::from_utf8_lossy(body.text()).into();
                self.run(Statement { sql, args: None });
            }
            _ => {}
        }
    }

    fn bind(&self, body: &mut Body<'_>) -> Statement {
        body.text();
        let (sql, types) = self.texts.get(body.text()).expect("a statement").clone();
        let formats: Vec<u16> = (0..body.short()).map(|_| body.short()).collect();
        assert!(formats.iter().all(|f| *f == 1), "binary values only");
        let count = body.short();
        let values = (0..count).map(|_| body.value());
        let args = types.into_iter().zip(values).collect();
        Statement {
            sql,
            args: Some(args),
        }
    }

    fn run(&mut self, statement: Statement) {
        let begins = statement.sql.starts_with("BEGIN");
        let ends = statement.sql.starts_with("COMMIT") || &*statement.sql == "ROLLBACK";
        if !self.on.load(Ordering::Relaxed) && self.open.is_none() {
            return;
        }
        let mut recording = lock(&self.recording);
        match self.open {
            Some(piece) => recording.pieces[piece].statements.push(statement),
            None => {
                let piece = recording.add(statement);
                self.open = begins.then_some(piece);
            }
        }
        if ends {
            self.open = None;
        }
    }
}

/// A message's content, taken from the front.
struct Body<'b>(&'b [u8]);

impl<'b> Body<'b> {
    fn take(&mut self, count: usize) -> &'b [u8] {
        let (front, rest) = self.0.split_at(count);
        self.0 = rest;
        front
    }

    /// Up to a zero byte.
    fn text(&mut self) -> &'b [u8] {
        let end = self.0.iter().position(|b| *b == 0).expect("an end");
        let text = self.take(end);
        self.take(1);
        text
    }

    fn short(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().expect("two"))
    }

    fn long(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().expect("four"))
    }

    fn value(&mut self) -> Option<Vec<u8>> {
        // -1 stands for NULL.
        let length = i32::try_from(i64::from(self.long().cast_signed())).expect("a length");
        let length = usize::try_from(length).ok()?;
        Some(self.take(length).to_vec())
    }
}
