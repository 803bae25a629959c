//! Real servers: nginx, PHP's own server and PHP-FPM behind nginx as nodes, memcached beside them, HAProxy in front, and Chromium
//! as a visitor.
//!
//! Each runs in a folder of its own with a configuration written here, in the foreground, and is found on the `PATH` or where Debian
//! puts it. `tests/run` installs what is missing.

mod chromium;
mod haproxy;
pub mod memcached;
mod nginx;
mod php;

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use chromium::Chromium;
pub use haproxy::Haproxy;
pub use memcached::Memcached;
pub use nginx::Nginx;
pub use php::{PhpFpm, PhpServer, run_script};

use crate::client::{self, Request};
use crate::process::Process;
use crate::wait;

/// The first of these programs that is installed.
///
/// # Panics
///
/// If none is.
fn program(names: &[&str]) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    // Servers live in `sbin`, which is not on every user's PATH.
    let folders: Vec<PathBuf> =
        env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]).collect();
    let found = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("none of {names:?} is installed; tests/run does that"))
}

/// Waits until a server answers anything at all.
async fn answers(process: &mut Process, address: SocketAddr) {
    let ready = async || {
        if let Some(status) = process.ended() {
            panic!("the server ended with {status} instead of listening:\n{}", process.log());
        }
        client::try_ask(address, &Request::get(crate::node::HEALTH_PATH)).await.ok().map(drop)
    };
    wait::until("the server to answer", ready).await;
}
