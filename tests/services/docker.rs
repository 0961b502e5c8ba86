//! Kafka and PostgreSQL in Docker, one container each per test process.

use super::guard::Guard;
use std::env;
use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::Duration;
use testcontainers_modules::kafka::apache;
use testcontainers_modules::postgres::Postgres;
use testcontainers_modules::testcontainers::core::IntoContainerPort;
use testcontainers_modules::testcontainers::runners::AsyncRunner;
use testcontainers_modules::testcontainers::{
    ContainerAsync, Image, ImageExt, TestcontainersError,
};

const KAFKA_TAG: &str = "4.1.1";
const POSTGRES_TAG: &str = "16";
/// Without the time to fetch the image.
const START: Duration = Duration::from_secs(120);
/// Of a daemon that is there.
const PING: Duration = Duration::from_secs(2);

/// Whether a daemon answers, where the client would look for it.
pub fn answers() -> bool {
    let host = env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    if let Some(path) = host.strip_prefix("unix://") {
        return UnixStream::connect(path).is_ok_and(|stream| {
            let timed = stream.set_read_timeout(Some(PING));
            timed.is_ok() && ping(stream)
        });
    }
    let address = host
        .strip_prefix("tcp://")
        .or_else(|| host.strip_prefix("http://"));
    address.is_some_and(|address| {
        TcpStream::connect(address).is_ok_and(|stream| {
            let timed = stream.set_read_timeout(Some(PING));
            timed.is_ok() && ping(stream)
        })
    })
}

fn ping(mut stream: impl Read + Write) -> bool {
    let asked = stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n");
    let mut answer = [0_u8; 12];
    asked.is_ok() && stream.read_exact(&mut answer).is_ok() && answer.ends_with(b" 200")
}

/// Starts Kafka in a container; its address.
pub fn kafka() -> Result<String, String> {
    on_a_thread(async || {
        let image = apache::Kafka::default()
            .with_jvm_image()
            .with_tag(KAFKA_TAG)
            .with_startup_timeout(START)
            .with_env_var("KAFKA_NODE_ID", "1")
            .with_env_var("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
            .with_env_var("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")
            .with_env_var("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1")
            .with_env_var("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1");
        let container = image.start().await?;
        let port = container.get_host_port_ipv4(apache::KAFKA_PORT).await?;
        leave_to_guard(container);
        // The listener that the module advertises to clients.
        Ok(format!("127.0.0.1:{port}"))
    })
}

/// Starts PostgreSQL in a container; its URL.
pub fn postgres() -> Result<String, String> {
    on_a_thread(async || {
        let image = Postgres::default()
            .with_fsync_enabled()
            .with_tag(POSTGRES_TAG)
            .with_startup_timeout(START);
        let container = image.start().await?;
        let host = container.get_host().await?;
        let port = container.get_host_port_ipv4(5432.tcp()).await?;
        leave_to_guard(container);
        Ok(format!(
            "postgres://postgres:postgres@{host}:{port}/postgres"
        ))
    })
}

/// The caller may be within a runtime, where nothing may block on another one.
fn on_a_thread<F: Future<Output = Result<String, TestcontainersError>>>(
    start: impl FnOnce() -> F + Send + 'static,
) -> Result<String, String> {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(start()).map_err(|e| e.to_string())
    });
    thread.join().expect("the thread starts a container")
}

/// A container removes itself when it is dropped, and statics are not. The guard removes it, with its volumes.
fn leave_to_guard<I: Image>(container: ContainerAsync<I>) {
    static GUARDS: Mutex<Vec<Guard>> = Mutex::new(Vec::new());
    let guard = Guard::new("docker", &["rm", "--force", "--volumes", container.id()]);
    GUARDS.lock().expect("not poisoned").push(guard);
    std::mem::forget(container);
}
