//! The binary under test, with a configuration of the test's making.
//!
//! [`Setup`] collects TOML lines by section and fills in what a test leaves out: quick probes, a small cache, a purge list with
//! 127.0.0.1. [`Proxy`] is the running process. Every configuration goes through the real file format; there is no other way in.

use std::env;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::client::{self, Answer, Connection, Crowd, Request};
use crate::node::HEALTH_PATH;
use crate::ports::Port;
use crate::process::{Process, Signal};
use crate::purge::{self, Counts};
use crate::tls::Certificate;
use crate::{Address, Metrics, wait};

/// Names the binary under test; without it the build folder beside the test's own executable is searched.
const BINARY_VARIABLE: &str = "PROXY_BIN";

/// A configuration being put together.
#[derive(Debug, Default)]
pub struct Setup {
    nodes: Vec<String>,
    top: String,
    listen: String,
    cache: String,
    pool: String,
    site: String,
    purge: String,
    limits: String,
    log: String,
    more: String,
    sites: Option<String>,
    certificates: Vec<Certificate>,
    tls: String,
    tls_listen: String,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// One site for every host, on a pool of these nodes.
    pub fn new<'a, A: Address + 'a>(nodes: impl IntoIterator<Item = &'a A>) -> Self {
        let nodes = nodes.into_iter().map(|node| format!("\"{}\"", node.address())).collect();
        Self { nodes, ..Self::default() }
    }

    /// One site on a single node.
    pub fn before(node: &impl Address) -> Self {
        Self::new([node])
    }

    /// One more node with settings of its own, such as `weight = 2`.
    #[must_use]
    pub fn node_with(mut self, node: &dyn Address, settings: &str) -> Self {
        self.nodes.push(format!("{{ address = \"{}\", {settings} }}", node.address()));
        self
    }

    /// One more node, written as the configuration file has it.
    #[must_use]
    pub fn node_at(mut self, address: &str) -> Self {
        self.nodes.push(format!("\"{address}\""));
        self
    }

    /// Lines for the top of the file.
    #[must_use]
    pub fn top(self, lines: &str) -> Self {
        Self { top: joined(self.top, lines), ..self }
    }

    /// Lines for the `[[listen]]` of visitors.
    #[must_use]
    pub fn listen(self, lines: &str) -> Self {
        Self { listen: joined(self.listen, lines), ..self }
    }

    /// Lines for `[cache]`.
    #[must_use]
    pub fn cache(self, lines: &str) -> Self {
        Self { cache: joined(self.cache, lines), ..self }
    }

    /// Lines for `[pools.web]`.
    #[must_use]
    pub fn pool(self, lines: &str) -> Self {
        Self { pool: joined(self.pool, lines), ..self }
    }

    /// Lines for the one `[[site]]`, its `[[site.route]]` included.
    #[must_use]
    pub fn site(self, lines: &str) -> Self {
        Self { site: joined(self.site, lines), ..self }
    }

    /// These sites instead of the one for every host.
    #[must_use]
    pub fn sites(self, tables: &str) -> Self {
        Self { sites: Some(tables.to_owned()), ..self }
    }

    /// Lines for `[purge]`.
    #[must_use]
    pub fn purge(self, lines: &str) -> Self {
        Self { purge: joined(self.purge, lines), ..self }
    }

    /// Lines for `[limits]`.
    #[must_use]
    pub fn limits(self, lines: &str) -> Self {
        Self { limits: joined(self.limits, lines), ..self }
    }

    /// Lines for `[log]`.
    #[must_use]
    pub fn log(self, lines: &str) -> Self {
        Self { log: joined(self.log, lines), ..self }
    }

    /// Tables for the end of the file, such as a second pool.
    #[must_use]
    pub fn more(self, tables: &str) -> Self {
        Self { more: joined(self.more, tables), ..self }
    }

    /// A second listener, under TLS, with these certificates.
    #[must_use]
    pub fn tls(self, certificates: &[&Certificate]) -> Self {
        Self { certificates: certificates.iter().map(|one| (*one).clone()).collect(), ..self }
    }

    /// Lines for the `[listen.tls]` of that listener.
    #[must_use]
    pub fn tls_lines(self, lines: &str) -> Self {
        Self { tls: joined(self.tls, lines), ..self }
    }

    /// Lines for the `[[listen]]` of that listener itself.
    #[must_use]
    pub fn tls_listen(self, lines: &str) -> Self {
        Self { tls_listen: joined(self.tls_listen, lines), ..self }
    }

    /// An environment variable of the process.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The file as it will be written.
    fn text(&self, listen: SocketAddr, tls: Option<SocketAddr>, admin: SocketAddr, folder: &Path) -> String {
        let mut text = unless_said(&self.top, "shutdown_timeout", "\"10s\"");
        let _ = writeln!(text, "[[listen]]\naddress = \"{listen}\"\n{}", self.listen);
        if let Some(tls) = tls {
            let files = self.certificates.iter().map(|certificate| certificate.write(folder));
            let pairs: Vec<String> = files
                .map(|(certificate, key)| {
                    format!("{{ cert = \"{}\", key = \"{}\" }}", certificate.display(), key.display())
                })
                .collect();
            let _ = writeln!(text, "[[listen]]\naddress = \"{tls}\"\n{}[listen.tls]", self.tls_listen);
            let _ = write!(text, "certificates = [{}]\n{}", pairs.join(", "), self.tls);
        }
        let _ = write!(text, "[admin]\naddress = \"{admin}\"\n[cache]\n");
        text += &unless_said(&self.cache, "memory", "\"64MiB\"");
        let _ = write!(text, "[pools.web]\nnodes = [{}]\n", self.nodes.join(", "));
        let probe = format!(
            r#"{{ type = "http", path = "{HEALTH_PATH}", interval = "200ms", timeout = "1s", fall = 2, rise = 1 }}"#
        );
        text += &unless_said(&self.pool, "health", &probe);
        match &self.sites {
            Some(tables) => text += &joined(String::new(), tables),
            None => {
                text += "[[site]]\nhosts = [\"*\"]\npool = \"web\"\n";
                text += &self.site;
            }
        }
        text += "[purge]\n";
        text += &unless_said(&self.purge, "allow", "[\"127.0.0.1\"]");
        let _ = write!(text, "[limits]\n{}[log]\n", self.limits);
        text += &unless_said(&self.log, "level", "\"info\"");
        text += &self.more;
        text
    }

    /// Starts the proxy and waits until it says that it is ready.
    ///
    /// # Panics
    ///
    /// If it ends instead, or is not ready in time; its log is shown.
    pub async fn start(self) -> Proxy {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let (listen, admin) = (Port::claim(), Port::claim());
        let tls = (!self.certificates.is_empty()).then(Port::claim);
        let file = folder.path().join("clearcoat.toml");
        let tls_address = tls.as_ref().map(Port::address);
        let text = self.text(listen.address(), tls_address, admin.address(), folder.path());
        fs::write(&file, text).expect("writing the configuration");
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(&file).current_dir(folder.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let process = Process::start("clearcoat", &command, folder.path());
        let mut proxy = Proxy { process, listen, tls, admin, file, folder, let_in_when_ready: false };
        proxy.wait_until_ready().await;
        proxy
    }
}

/// The lines with the ends they need.
fn joined(before: String, lines: &str) -> String {
    let mut text = before;
    for line in lines.lines() {
        text.push_str(line.trim_start());
        text.push('\n');
    }
    text
}

/// The lines, with `key = usual` in front unless they set the key themselves.
fn unless_said(lines: &str, key: &str, usual: &str) -> String {
    let says = |line: &str| line.split('=').next().is_some_and(|name| name.trim() == key);
    if lines.lines().any(says) { lines.to_owned() } else { format!("{key} = {usual}\n{lines}") }
}

/// The proxy under test.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    listen: Port,
    tls: Option<Port>,
    admin: Port,
    file: PathBuf,
    folder: TempDir,
    let_in_when_ready: bool,
}

impl Proxy {
    /// The usual configuration before these nodes.
    pub async fn start<'a, A: Address + 'a>(nodes: impl IntoIterator<Item = &'a A>) -> Self {
        Setup::new(nodes).start().await
    }

    /// The usual configuration before a single node.
    pub async fn before(node: &impl Address) -> Self {
        Setup::before(node).start().await
    }

    async fn wait_until_ready(&mut self) {
        let admin = self.admin.address();
        let process = &mut self.process;
        let ready = async || {
            if let Some(status) = process.ended() {
                panic!("the proxy ended with {status} instead of getting ready");
            }
            let answer = client::try_ask(admin, &Request::get("/ready")).await.ok()?;
            (answer.status == 200).then_some(())
        };
        wait::until("the proxy to be ready", ready).await;
        self.let_in_when_ready = Connection::try_open(self.address()).await.is_ok();
        let visitors = self.address();
        wait::until("the proxy to listen", async || Connection::try_open(visitors).await.ok()).await;
    }

    /// Whether the very first visitor after `/ready` said yes was let in. One test asks; for all others the harness waits.
    pub fn let_in_when_ready(&self) -> bool {
        self.let_in_when_ready
    }

    /// Where visitors connect.
    pub fn address(&self) -> SocketAddr {
        self.listen.address()
    }

    /// Where visitors connect under TLS.
    ///
    /// # Panics
    ///
    /// If the setup has no certificates.
    pub fn tls_address(&self) -> SocketAddr {
        self.tls.as_ref().expect("a listener under TLS").address()
    }

    /// Where the admin listener is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The configuration file, to be changed before a reload.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The test's own folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A new connection of a visitor.
    pub async fn connect(&self) -> Connection {
        Connection::open(self.address()).await
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, request: &Request) -> Answer {
        client::ask(self.address(), request).await
    }

    /// One request on a connection of its own, or what went wrong.
    ///
    /// # Errors
    ///
    /// If the connection, the request or the answer fails.
    pub async fn try_ask(&self, request: &Request) -> Result<Answer> {
        client::try_ask(self.address(), request).await
    }

    /// Sends a request from many visitors at once.
    pub fn crowd(&self, count: usize, request: &Request) -> Crowd {
        client::crowd(self.address(), count, request)
    }

    /// GETs a page on a connection of its own.
    pub async fn get(&self, target: &str) -> Answer {
        self.ask(&Request::get(target)).await
    }

    /// Brings pages into the cache, and requires that they stay there.
    ///
    /// # Panics
    ///
    /// If a second request for one of them is not answered from memory.
    pub async fn warm<'a>(&self, targets: impl IntoIterator<Item = &'a str>) {
        for target in targets {
            self.get(target).await.expect_status(200);
            let again = self.get(target).await;
            assert_eq!(again.served(), client::Served::Hit, "{target} does not stay in the cache: {again}");
        }
    }

    /// Purges a URL.
    pub async fn purge_url(&self, target: &str) {
        purge::done(self.address(), &purge::url(target)).await;
    }

    /// Purges tags, separated by spaces.
    pub async fn purge_tags(&self, tags: &str) -> Counts {
        purge::counted(self.address(), &purge::tags(tags)).await
    }

    /// Makes what carries the tags stale.
    pub async fn soft_purge_tags(&self, tags: &str) -> Counts {
        purge::counted(self.address(), &purge::soft_tags(tags)).await
    }

    /// GETs something from the admin listener.
    pub async fn admin(&self, target: &str) -> Answer {
        client::ask(self.admin.address(), &Request::get(target)).await
    }

    /// What the proxy counts now.
    ///
    /// # Panics
    ///
    /// If its text is malformed.
    pub async fn metrics(&self) -> Metrics {
        let answer = self.admin("/metrics").await.expect_status(200);
        Metrics::parse(&answer.text()).unwrap_or_else(|error| panic!("malformed metrics: {error:#}"))
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Sends a signal to the process.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for the process's end and gives its exit code; nothing if a signal ended it.
    pub async fn exit_code(&mut self) -> Option<i32> {
        self.process.exit(wait::PATIENCE).await.code()
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    ///
    /// If the process has ended.
    pub fn resident_bytes(&self) -> u64 {
        self.process.resident_bytes().expect("the proxy is running")
    }

    /// Waits until a second has passed by the proxy's own clock: for ages that must grow.
    pub async fn a_second_later(&self) {
        // The one place where time itself is what is tested.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
}

/// Runs the binary to its end, for commands that answer at once.
///
/// # Panics
///
/// If it cannot be started.
pub async fn run_command(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(binary());
    command.args(arguments).kill_on_drop(true);
    let what = format!("clearcoat {}", arguments.join(" "));
    wait::soon(&what, command.output()).await.unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// The binary under test.
///
/// # Panics
///
/// If there is none.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os(BINARY_VARIABLE) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{BINARY_VARIABLE} names no file: {}", path.display());
        return path;
    }
    // The test's executable is TARGET/PROFILE/deps/NAME.
    let own = env::current_exe().expect("the test knows its own file");
    let target = own.ancestors().nth(3).expect("the build folder is three steps up");
    let places = ["release", "debug"].map(|profile| target.join(profile).join("clearcoat"));
    let found = places.iter().find(|place| place.is_file());
    found
        .unwrap_or_else(|| panic!("build the binary first (cargo build --release), or set {BINARY_VARIABLE}"))
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_replaces_the_usual() {
        let setup = Setup::default()
            .cache("memory = \"1MiB\"\ngrace = \"1s\"")
            .pool("balance = \"hash\"")
            .top("x = 1");
        let port = SocketAddr::from(([127, 0, 0, 1], 80));
        let text = setup.text(port, None, port, Path::new("/"));
        assert_eq!(text.matches("memory").count(), 1, "{text}");
        assert!(text.contains("[cache]\nmemory = \"1MiB\"\ngrace = \"1s\"\n"), "{text}");
        assert!(text.contains("balance = \"hash\"\n"), "{text}");
        assert!(text.starts_with("shutdown_timeout = \"10s\"\nx = 1\n[[listen]]"), "{text}");
    }
}
