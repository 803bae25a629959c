//! PHP as a web node: its own server, and PHP-FPM behind nginx. The pages are in `tests/pages`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::nginx::Nginx;
use super::{answers, program};
use crate::Address;
use crate::ports::Port;
use crate::process::Process;
use crate::wait;

/// Where the PHP pages are.
fn pages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pages")
}

fn php() -> PathBuf {
    program(&["php", "php8.2", "php8.3", "php8.4"])
}

/// PHP's own web server with a few workers.
#[derive(Debug)]
pub struct PhpServer {
    port: Port,
    command: Command,
    process: Option<Process>,
    folder: TempDir,
}

impl PhpServer {
    /// Starts it.
    pub async fn start(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for PHP");
        let sessions = format!("session.save_path={}", folder.path().display());
        Self::start_in(folder, name, 4, &[sessions]).await
    }

    /// Starts it with so many workers and these settings, as `php.ini` has them.
    pub async fn start_with(name: &str, workers: usize, settings: &[String]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder for PHP"), name, workers, settings).await
    }

    async fn start_in(folder: TempDir, name: &str, workers: usize, settings: &[String]) -> Self {
        let port = Port::claim();
        let mut command = Command::new(php());
        for setting in settings {
            command.arg("-d").arg(setting);
        }
        command
            .arg("-S")
            .arg(port.address().to_string())
            .arg("-t")
            .arg(pages())
            .arg(pages().join("router.php"));
        command.env("PHP_CLI_SERVER_WORKERS", workers.to_string());
        command.env("NODE_NAME", name).env("COUNTERS", folder.path());
        let mut server = Self { port, command, process: None, folder };
        server.start_again().await;
        server
    }

    /// Ends it at once, with all that it is doing.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it after [`PhpServer::kill`].
    pub async fn start_again(&mut self) {
        let mut process = Process::start("php", &self.command, self.folder.path());
        answers(&mut process, self.port.address()).await;
        self.process = Some(process);
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// How often a page ran.
    pub fn runs(&self, page: &str) -> usize {
        runs(self.folder.path(), page)
    }
}

impl Address for PhpServer {
    fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

/// PHP-FPM with an nginx in front: what the clustering guides call a web node.
#[derive(Debug)]
pub struct PhpFpm {
    // Dropped first, so that nginx never asks a socket that is gone.
    nginx: Nginx,
    _process: Process,
    folder: TempDir,
}

impl PhpFpm {
    /// Starts both.
    pub async fn start(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for PHP-FPM");
        let path = folder.path().display();
        let socket = folder.path().join("php.sock");
        let configuration = format!(
            "[global]
            error_log = {path}/fpm.log
            daemonize = no
            [web]
            listen = {path}/php.sock
            listen.mode = 0666
            {user}
            pm = static
            pm.max_children = 4
            clear_env = no
            php_value[session.save_path] = {path}
            env[NODE_NAME] = {name}
            env[COUNTERS] = {path}",
            user = owner(folder.path()),
        );
        let file = folder.path().join("fpm.conf");
        // PHP's reader knows a section only at the start of a line.
        let configuration: Vec<&str> = configuration.lines().map(str::trim_start).collect();
        fs::write(&file, configuration.join("\n") + "\n").expect("writing the configuration");
        let mut command = Command::new(program(&["php-fpm", "php-fpm8.2", "php-fpm8.3", "php-fpm8.4"]));
        command.args(["--nodaemonize", "--allow-to-run-as-root", "--fpm-config"]).arg(&file);
        let mut process = Process::start("php-fpm", &command, folder.path());
        wait::until("PHP-FPM's socket", async || {
            assert!(process.ended().is_none(), "PHP-FPM ended:\n{}", process.log());
            socket.exists().then_some(())
        })
        .await;
        let nginx = Nginx::before_php(name, &pages(), &socket).await;
        Self { nginx, _process: process, folder }
    }

    /// How often a page ran.
    pub fn runs(&self, page: &str) -> usize {
        runs(self.folder.path(), page)
    }
}

impl Address for PhpFpm {
    fn address(&self) -> SocketAddr {
        self.nginx.address()
    }
}

/// Runs one of the scripts to its end, as a console command of the CMS does.
///
/// # Panics
///
/// If PHP cannot be started.
pub async fn run_script(script: &str, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(php());
    command.arg(pages().join(script)).args(arguments).kill_on_drop(true);
    wait::soon(script, command.output()).await.unwrap_or_else(|error| panic!("php {script}: {error}"))
}

/// PHP-FPM started by root insists on being told a user; started by anybody else it must not be told one.
fn owner(folder: &Path) -> &'static str {
    use std::os::unix::fs::MetadataExt;
    let uid = fs::metadata(folder).expect("the folder is there").uid();
    if uid == 0 { "user = root\ngroup = root" } else { "" }
}

/// Pages add a byte to a file of their name each time they run.
fn runs(folder: &Path, page: &str) -> usize {
    fs::metadata(folder.join(format!("{page}.count")))
        .map_or(0, |file| usize::try_from(file.len()).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Connection, Request};
    use crate::node::{Node, Page};

    #[tokio::test]
    async fn phps_own_server_serves_the_pages() {
        let node = PhpServer::start("web1").await;
        serves_the_pages(&node, |page| node.runs(page)).await;
    }

    #[tokio::test]
    async fn php_fpm_serves_the_pages() {
        let node = PhpFpm::start("web1").await;
        serves_the_pages(&node, |page| node.runs(page)).await;
    }

    async fn serves_the_pages(node: &impl Address, runs: impl Fn(&str) -> usize) {
        let ask = async |request: &Request| Connection::open(node.address()).await.ask(request).await;
        let tagged = ask(&Request::get("/tagged.php?tags=c1+l2")).await.expect_status(200);
        assert_eq!(tagged.header("xkey"), Some("c1 l2"), "{tagged}");
        assert!(tagged.text().contains("web1"), "{tagged}");
        assert_eq!(runs("tagged"), 1);
        let echo = ask(&Request::post("/echo.php", "a body")).await.expect_status(200);
        assert!(echo.text().contains("POST a body"), "{echo}");
        let session = ask(&Request::get("/session.php")).await.expect_status(200);
        assert!(
            session.header("set-cookie").is_some_and(|cookie| cookie.starts_with("eZSESSID")),
            "{session}"
        );
    }

    #[tokio::test]
    async fn the_hook_sends_what_the_cms_sends() {
        let edge = Node::start().await;
        edge.serve_everything(Page::text("Purged"));
        let address = format!("http://{}", edge.address());
        for transport in ["curl", "stream"] {
            edge.forget();
            let output = run_script("hook.php", &[transport, &address, "tags", "c1 l2"]).await;
            assert!(output.status.success(), "{output:?}");
            let sent = edge.last("/");
            assert_eq!(
                (sent.method.as_str(), sent.header("xkey-purge")),
                ("PURGEKEYS", Some("c1 l2")),
                "{transport}"
            );
            run_script("hook.php", &[transport, &address, "soft", "c3"]).await;
            assert_eq!(edge.last("/").header("xkey-softpurge"), Some("c3"), "{transport}");
            run_script("hook.php", &[transport, &address, "url", "/a?b=1"]).await;
            let sent = edge.last("/a");
            assert_eq!(
                (sent.method.as_str(), sent.header("host")),
                ("PURGE", Some("www.example.com")),
                "{transport}"
            );
            assert_eq!(sent.target, "/a?b=1");
        }
    }
}
