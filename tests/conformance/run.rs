//! One run of the suite: its web server, the proxy in front of it, its client before that.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clearcoat_tests::process::Process;
use clearcoat_tests::{Address, Setup, wait};

use crate::folder;
use crate::outcome::Outcomes;
use crate::suite::Suite;

/// How long all tests together may take. They need about a minute, nearly all of it pauses in which answers grow stale.
const DEADLINE: Duration = Duration::from_secs(300);

/// Runs every test once.
///
/// # Panics
///
/// If one of the three programs fails, or the client is not done in time. A failed test is no panic.
pub(crate) async fn run(suite: &Suite) -> Outcomes {
    let logs = tempfile::tempdir().expect("a folder for logs");
    let origin = Origin::start(suite, logs.path()).await;
    // The probes would be requests that the suite's server does not expect; the memory is what it is without the harness.
    let proxy =
        Setup::before(&origin).pool("health = { type = \"off\" }").cache("memory = \"256MiB\"").start().await;
    let file = logs.path().join("outcomes.json");
    let mut command = node("client.mjs");
    command.arg(suite.folder()).arg(format!("http://{}", proxy.address())).arg(&file);
    let mut client = Process::start("client", &command, logs.path());
    let status = client.exit(DEADLINE).await;
    assert!(status.success(), "the client ended with {status}:\n{}", client.log());
    let text = fs::read_to_string(&file).expect("the client has written what came of the tests");
    Outcomes::parse(&text).expect("the client's list is in order")
}

/// The suite's web server.
#[derive(Debug)]
struct Origin {
    address: SocketAddr,
    _process: Process,
}

impl Origin {
    async fn start(suite: &Suite, logs: &Path) -> Self {
        let mut command = node("origin.mjs");
        command.arg(suite.folder());
        let mut process = Process::start("origin", &command, logs);
        let address = wait::until("the suite's server to listen", async || {
            if let Some(status) = process.ended() {
                panic!("the suite's server ended with {status} instead of listening:\n{}", process.log());
            }
            let log = process.log();
            let (_, url) = log.split_once("Listening on http://")?;
            url.split_once('/')?.0.parse().ok()
        })
        .await;
        Self { address, _process: process }
    }
}

impl Address for Origin {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

/// One of the scripts beside this file.
fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg("--no-warnings").arg(folder().join(script));
    command
}
