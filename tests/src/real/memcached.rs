//! memcached, as Debian has it.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::program;
use crate::Address;
use crate::ports::Port;
use crate::process::{Process, Signal};
use crate::wait;

/// A memcached server on a port that stays its own while it is away.
#[derive(Debug)]
pub struct Memcached {
    port: Port,
    process: Option<Process>,
    folder: TempDir,
}

impl Memcached {
    /// Starts one.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for memcached");
        let mut memcached = Self { port: Port::claim(), process: None, folder };
        memcached.start_again().await;
        memcached
    }

    /// Several.
    pub async fn start_many(count: usize) -> Vec<Self> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(Self::start().await);
        }
        all
    }

    /// Starts it after [`Memcached::kill`]; it has nothing then.
    ///
    /// # Panics
    ///
    /// If it is running, or does not begin to listen.
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "memcached is running");
        let mut command = Command::new(program(&["memcached"]));
        command.args(["-l", "127.0.0.1", "-U", "0", "-t", "1", "-m", "64", "-u", "root"]);
        command.arg("-p").arg(self.port.number().to_string());
        let mut process = Process::start("memcached", &command, self.folder.path());
        let address = self.address();
        wait::until("memcached to listen", async || {
            assert!(process.ended().is_none(), "memcached ended:\n{}", process.log());
            TcpStream::connect(address).await.ok().map(drop)
        })
        .await;
        self.process = Some(process);
    }

    /// Ends it at once, and with it all that it has.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Whether it is running.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Lets it hold still: connections stay open and nothing is answered.
    pub fn freeze(&mut self) {
        self.process.as_mut().expect("memcached is running").signal(Signal::Stop);
    }

    /// Ends [`Memcached::freeze`].
    pub fn thaw(&mut self) {
        self.process.as_mut().expect("memcached is running").signal(Signal::Continue);
    }

    /// What it answers to this, as far as it comes within a moment.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> Vec<u8> {
        ask(self.address(), request.as_ref()).await
    }
}

/// What a server answers to this over a connection of its own, as far as it comes within a moment.
///
/// # Panics
///
/// If nobody listens there.
pub async fn ask(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.write_all(request).await.expect("the server takes the request");
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while let Ok(Ok(count @ 1..)) =
        tokio::time::timeout(Duration::from_millis(200), stream.read(&mut buffer)).await
    {
        answer.extend_from_slice(&buffer[..count]);
    }
    answer
}

impl Address for Memcached {
    fn address(&self) -> SocketAddr {
        self.port.address()
    }
}
