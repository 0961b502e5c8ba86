//! Connections that can be cut, and that tell when an answer was wholly written. Both are known only
//! at the socket: a handler returns before a byte of its answer leaves.

use super::super::code::CodeKey;
use super::super::simulator::{Simulator, lock};
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Pause after a failed accept, so that running out of file descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The handlers' side of a connection.
#[derive(Clone)]
pub(super) struct Conn(Arc<Inner>);

struct Inner {
    sim: Arc<Simulator>,
    peer: IpAddr,
    cut: AtomicBool,
    expected: Mutex<Option<Expected>>,
}

/// A success answer on its way out. One is enough: HTTP/1 answers in turn.
struct Expected {
    key: CodeKey,
    /// Bytes of the body; the head comes on top, so that fewer written bytes cannot hold it.
    missing: usize,
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Conn")
    }
}

impl Conn {
    /// Whose connection it is.
    pub(super) fn peer(&self) -> IpAddr {
        self.0.peer
    }

    /// Closes the connection before the next byte.
    pub(super) fn cut(&self) {
        self.0.cut.store(true, Ordering::Release);
    }

    /// The response that the handler returns next answers this code.
    pub(super) fn announce(&self, key: CodeKey, body: usize) {
        *lock(&self.0.expected) = Some(Expected { key, missing: body });
    }

    fn check(&self) -> io::Result<()> {
        if self.0.cut.load(Ordering::Acquire) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    fn wrote(&self, bytes: usize) {
        if let Some(expected) = lock(&self.0.expected).as_mut() {
            expected.missing = expected.missing.saturating_sub(bytes);
        }
    }

    /// The HTTP layer flushes when its own buffer is empty: all of the answer has gone out.
    fn flushed(&self) {
        let mut expected = lock(&self.0.expected);
        if expected.as_ref().is_some_and(|e| e.missing == 0)
            && let Some(answer) = expected.take()
        {
            self.0.sim.written(answer.key);
        }
    }
}

/// A listener whose connections are watched.
pub(super) struct Watched {
    listener: TcpListener,
    sim: Arc<Simulator>,
}

impl Watched {
    pub(super) fn new(listener: TcpListener, sim: Arc<Simulator>) -> Self {
        Self { listener, sim }
    }

    fn conn(&self, peer: IpAddr) -> Conn {
        Conn(Arc::new(Inner {
            sim: Arc::clone(&self.sim),
            peer,
            cut: AtomicBool::new(false),
            expected: Mutex::new(None),
        }))
    }
}

impl Listener for Watched {
    type Io = Stream;
    type Addr = Conn;

    async fn accept(&mut self) -> (Stream, Conn) {
        loop {
            match self.listener.accept().await {
                Ok((tcp, peer)) => {
                    // Without it small answers wait for the client's delayed acknowledgement; a
                    // socket that refuses is merely slower.
                    let _ = tcp.set_nodelay(true);
                    let conn = self.conn(peer.ip());
                    let stream = Stream {
                        tcp,
                        conn: conn.clone(),
                    };
                    return (stream, conn);
                }
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Conn> {
        Ok(self.conn(self.listener.local_addr()?.ip()))
    }
}

impl Connected<IncomingStream<'_, Watched>> for Conn {
    fn connect_info(stream: IncomingStream<'_, Watched>) -> Self {
        stream.remote_addr().clone()
    }
}

/// The socket's side of a connection.
pub(super) struct Stream {
    tcp: TcpStream,
    conn: Conn,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.conn.check()?;
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.conn.check()?;
        let wrote = ready!(Pin::new(&mut self.tcp).poll_write(cx, buf))?;
        self.conn.wrote(wrote);
        Poll::Ready(Ok(wrote))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.conn.check()?;
        let wrote = ready!(Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs))?;
        self.conn.wrote(wrote);
        Poll::Ready(Ok(wrote))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.conn.check()?;
        ready!(Pin::new(&mut self.tcp).poll_flush(cx))?;
        self.conn.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
