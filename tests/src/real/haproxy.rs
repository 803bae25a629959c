//! HAProxy as the balancer in front, and as a node that is told of visitors by the PROXY protocol.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::program;
use crate::Address;
use crate::ports::Port;
use crate::process::Process;
use crate::tls::Certificate;
use crate::wait;

/// A running HAProxy with one frontend and one server behind it.
#[derive(Debug)]
pub struct Haproxy {
    port: Port,
    _process: Process,
    _folder: TempDir,
}

impl Haproxy {
    /// Asks `server` for what it is asked itself, on connections that have to begin with a PROXY header, and tells it in `X-Seen`
    /// whom that named: address and port.
    ///
    /// # Panics
    ///
    /// If it does not begin to listen.
    pub async fn announced(server: SocketAddr) -> Self {
        let port = Port::claim();
        let configuration = format!(
            "global\n  user root\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
             listen web\n  bind {} accept-proxy\n  http-request set-header X-Seen %[src]:%[src_port]\n  server web {server}\n",
            port.address()
        );
        Self::with(tempfile::tempdir().expect("a folder for HAProxy"), port, &configuration).await
    }

    /// Hands connections to `server`, in mode `tcp` (an address, or `unix@PATH`), with these words behind it, such as `send-proxy-v2`; with a
    /// certificate it ends TLS.
    ///
    /// # Panics
    ///
    /// If it does not begin to listen.
    pub async fn before(server: &str, words: &str, certificate: Option<&Certificate>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for HAProxy");
        let port = Port::claim();
        let tls = certificate.map_or_else(String::new, |certificate| {
            let (cert, key) = certificate.write(folder.path());
            let both = [cert, key].map(|file| fs::read_to_string(file).expect("a PEM file")).concat();
            let file = folder.path().join("both.pem");
            fs::write(&file, both).expect("writing the certificate");
            format!("ssl crt {}", file.display())
        });
        let configuration = format!(
            "global\n  user root\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
             listen edge\n  bind {} {tls}\n  server edge {server} {words}\n",
            port.address()
        );
        Self::with(folder, port, &configuration).await
    }

    async fn with(folder: TempDir, port: Port, configuration: &str) -> Self {
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, configuration).expect("writing HAProxy's configuration");
        let mut command = Command::new(program(&["haproxy"]));
        command.arg("-db").arg("-f").arg(&file);
        let mut process = Process::start("haproxy", &command, folder.path());
        wait::until("HAProxy to listen", async || {
            assert!(process.ended().is_none(), "HAProxy ended:\n{}", process.log());
            TcpStream::connect(port.address()).await.ok().map(drop)
        })
        .await;
        Self { port, _process: process, _folder: folder }
    }
}

impl Address for Haproxy {
    fn address(&self) -> SocketAddr {
        self.port.address()
    }
}
