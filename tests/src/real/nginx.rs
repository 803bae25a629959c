//! nginx as a web node.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{answers, program};
use crate::Address;
use crate::ports::Port;
use crate::process::{Process, Signal};
use crate::tls::Certificate;
use crate::wait;

/// A running, or stopped, nginx. Pages:
///
/// | path | what |
/// | --- | --- |
/// | `/cached`, `/cached/…` | `cached by NAME`, a minute, tags `c1 l2` |
/// | `/uncached`, `/uncached/…` | `uncached by NAME`, `private, no-store` |
/// | `/files/…` | what [`Nginx::write`] put there, a minute |
/// | `*.php` | PHP-FPM, if the node was started with one |
/// | `/-/health` | 200 |
/// | `/who` | the visitor's address as nginx has it, after the whole body, `private, no-store` |
/// | `/who/cached` | the same, a second, and a minute of stale-while-revalidate |
#[derive(Debug)]
pub struct Nginx {
    name: String,
    port: Port,
    folder: TempDir,
    process: Option<Process>,
    announced: bool,
}

impl Nginx {
    /// Starts one.
    pub async fn start(name: &str) -> Self {
        Self::with(name, "").await
    }

    /// Starts one that takes the visitor's address from the PROXY header with which every connection has to begin; with a certificate
    /// it speaks TLS behind that.
    ///
    /// # Panics
    ///
    /// If it does not begin to listen.
    pub async fn announced(name: &str, certificate: Option<&Certificate>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for nginx");
        let (words, files) = match certificate {
            None => ("proxy_protocol", String::new()),
            Some(certificate) => {
                let (cert, key) = certificate.write(folder.path());
                let files =
                    format!("ssl_certificate {}; ssl_certificate_key {};", cert.display(), key.display());
                ("ssl proxy_protocol", files)
            }
        };
        let locations = format!("{files} set_real_ip_from 127.0.0.0/8; real_ip_header proxy_protocol;");
        Self::listening(name, folder, words, &locations).await
    }

    /// Starts one that hands `*.php` under `pages` to a FastCGI socket.
    pub(super) async fn before_php(name: &str, pages: &Path, socket: &Path) -> Self {
        let (pages, socket) = (pages.display(), socket.display());
        let php = format!(
            "location ~ \\.php$ {{
                fastcgi_pass unix:{socket};
                fastcgi_param SCRIPT_FILENAME {pages}$fastcgi_script_name;
                fastcgi_param REQUEST_METHOD $request_method;
                fastcgi_param REQUEST_URI $request_uri;
                fastcgi_param QUERY_STRING $query_string;
                fastcgi_param CONTENT_TYPE $content_type;
                fastcgi_param CONTENT_LENGTH $content_length;
                fastcgi_param SERVER_PROTOCOL $server_protocol;
                fastcgi_param REMOTE_ADDR $remote_addr;
            }}"
        );
        Self::with(name, &php).await
    }

    async fn with(name: &str, locations: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for nginx");
        Self::listening(name, folder, "", locations).await
    }

    async fn listening(name: &str, folder: TempDir, words: &str, locations: &str) -> Self {
        let port = Port::claim();
        fs::create_dir(folder.path().join("files")).expect("a folder for pages");
        let configuration =
            configuration(name, &format!("{} {words}", port.address()), folder.path(), locations);
        fs::write(folder.path().join("nginx.conf"), configuration).expect("writing the configuration");
        let mut nginx =
            Self { name: name.to_owned(), port, folder, process: None, announced: !words.is_empty() };
        nginx.start_again().await;
        nginx
    }

    /// Its name, which stands in its pages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts a file under `/files/`.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join("files").join(file), content).expect("writing a page");
    }

    /// Starts it again on the same port.
    pub async fn start_again(&mut self) {
        // One that was killed leaves it behind, and nginx does not take it away.
        let _ = std::fs::remove_file(self.folder.path().join("inner.sock"));
        let mut command = Command::new(program(&["nginx"]));
        command.arg("-p").arg(self.folder.path()).arg("-c").arg(self.folder.path().join("nginx.conf"));
        command.arg("-e").arg(self.folder.path().join("error.log"));
        let mut process = Process::start(&self.name, &command, self.folder.path());
        if self.announced {
            let begun = async || {
                assert!(process.ended().is_none(), "nginx ended:\n{}", process.log());
                TcpStream::connect(self.port.address()).await.ok().map(drop)
            };
            wait::until("nginx to listen", begun).await;
        } else {
            answers(&mut process, self.port.address()).await;
        }
        self.process = Some(process);
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Sends a signal to the server.
    pub fn signal(&mut self, signal: Signal) {
        if let Some(process) = &mut self.process {
            process.signal(signal);
        }
    }

    /// Finishes the requests under way and ends, as a deployment does.
    pub async fn stop_gracefully(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::Quit);
            process.exit(wait::PATIENCE).await;
        }
    }

    /// Requests for anything but probes, by the access log.
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
        log.lines().filter(|line| !line.contains(crate::node::HEALTH_PATH)).map(str::to_owned).collect()
    }
}

impl Address for Nginx {
    fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

/// One process without a master, so that `kill -9` on it is the death of the whole node.
fn configuration(name: &str, listen: &str, folder: &Path, locations: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
        master_process off;
        pid {folder}/nginx.pid;
        error_log {folder}/error.log;
        events {{ worker_connections 1024; }}
        http {{
            log_format short '$request_method $request_uri $status';
            access_log {folder}/access.log short;
            client_body_temp_path {folder}/body;
            proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi;
            uwsgi_temp_path {folder}/uwsgi;
            scgi_temp_path {folder}/scgi;
            default_type text/plain;
            keepalive_requests 1000000;
            server {{
                listen {listen};
                client_max_body_size 0;
                location = /-/health {{ return 200 'alive'; }}
                location /cached {{
                    add_header Cache-Control 'public, max-age=60';
                    add_header xkey 'c1 l2';
                    return 200 'cached by {name}';
                }}
                location /uncached {{
                    add_header Cache-Control 'private, no-store';
                    return 200 'uncached by {name}';
                }}
                location /files/ {{
                    root {folder};
                    add_header Cache-Control 'public, max-age=60';
                }}
                location /who {{
                    proxy_pass http://unix:{folder}/inner.sock;
                    proxy_set_header X-Seen $remote_addr;
                }}
                {locations}
            }}
            server {{
                listen unix:{folder}/inner.sock;
                client_max_body_size 0;
                location /who {{
                    add_header Cache-Control 'private, no-store';
                    return 200 $http_x_seen;
                }}
                location /who/cached {{
                    add_header Cache-Control 'public, max-age=1, stale-while-revalidate=60';
                    return 200 $http_x_seen;
                }}
            }}
        }}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Connection, Request};
    use crate::load::Load;
    use crate::wait;

    #[tokio::test]
    async fn nginx_serves_its_pages_and_comes_back_after_kill() {
        let mut nginx = Nginx::start("web1").await;
        nginx.write("a.txt", vec![b'x'; 100_000]);
        let mut connection = Connection::open(nginx.address()).await;
        let cached = connection.get("/cached").await.expect_status(200);
        assert_eq!((cached.text().as_str(), cached.header("xkey")), ("cached by web1", Some("c1 l2")));
        assert_eq!(connection.get("/uncached").await.header("cache-control"), Some("private, no-store"));
        assert_eq!(connection.get("/files/a.txt").await.body.len(), 100_000);
        assert_eq!(connection.ask(&Request::head("/files/a.txt")).await.body.len(), 0);
        // nginx writes its log after the answer.
        wait::until_true("four lines in the access log", || nginx.requests().len() == 4).await;

        nginx.kill();
        connection.closed().await.expect("a dead server's connection ends");
        assert!(Connection::try_open(nginx.address()).await.is_err());
        nginx.start_again().await;
        Connection::open(nginx.address()).await.get("/cached").await.expect_status(200);
        nginx.stop_gracefully().await;
        assert!(Connection::try_open(nginx.address()).await.is_err());
    }

    #[tokio::test]
    async fn a_load_notices_a_death() {
        let mut nginx = Nginx::start("web1").await;
        let load =
            || Load::start(nginx.address(), 4, [(Request::get("/cached"), Some("cached by web1".into()))]);
        let good = load();
        good.go_on(200).await;
        let report = good.stop().await;
        assert!(report.failures() == 0 && report.answers() >= 200, "{report}");

        let bad = load();
        bad.go_on(50).await;
        nginx.kill();
        bad.go_on(50).await;
        let report = bad.stop().await;
        assert!(report.errors > 0, "{report}");
    }
}
