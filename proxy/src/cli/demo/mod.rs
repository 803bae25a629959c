//! `demo`: everything in one process and nothing to set up.
//!
//! Three small web nodes listen on free ports of 127.0.0.1 and run on a thread of their own ([`nodes`], [`pages`]); in
//! front of them runs the edge itself, with a configuration that could as well stand in a file. The admin listener gets
//! routes to kill and start nodes ([`switch`]). Once the edge is ready, a tour of commands to paste is printed ([`tour`]).

mod nodes;
mod pages;
mod switch;
mod tour;

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use self::nodes::Nodes;
use self::switch::Switch;
use self::tour::Tour;
use super::client::Request;
use super::run::quoted;
use super::{Run, Trouble, check, ports, print};

/// How many web nodes there are: one to lose, and two to go on with.
const NODES: usize = 3;

/// The edge is ready after its first probes; when it is not by then, the tour says so and is printed all the same.
const PATIENCE: Duration = Duration::from_secs(10);

/// Try it: three small web nodes, the edge in front of them, and a tour to paste.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to point the browser; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where metrics are read and nodes are killed; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8081")]
    admin: SocketAddr,
}

/// Runs the demonstration until Ctrl-C.
pub(super) fn command(arguments: &Arguments, run: Run) -> Result<(), Trouble> {
    if arguments.listen == arguments.admin && arguments.listen.port() != 0 {
        return Err(Trouble::Usage("--listen and --admin must differ".into()));
    }
    // Its switches have no password.
    if !arguments.admin.ip().is_loopback() {
        return Err(Trouble::Usage(format!(
            "--admin {}: only loopback, such as 127.0.0.1:8081",
            arguments.admin
        )));
    }
    let listen = ports::settle(arguments.listen, "--listen")?;
    let admin = ports::settle(arguments.admin, "--admin")?;
    let nodes = Arc::new(Nodes::start(NODES)?);
    let config = clearcoat_conf::parse(&configuration(listen, admin, &nodes.addresses()), "demo", &|_| None)?;
    check::begin_log(&config)?;
    let tour = Tour { listen, admin, colour: colour(), program: program() };
    thread::Builder::new()
        .name("tour".into())
        .spawn(move || guide(&tour))
        .context("starting the thread that prints the tour")?;
    Ok(run(config, None, Some(Arc::new(Switch::new(nodes))))?)
}

/// The configuration, as it would stand in a file.
fn configuration(listen: SocketAddr, admin: SocketAddr, nodes: &[SocketAddr]) -> String {
    let nodes: Vec<String> = nodes.iter().map(|node| quoted(&node.to_string())).collect();
    format!(
        r#"shutdown_timeout = "1s"

[[listen]]
address = "{listen}"

[admin]
address = "{admin}"

[cache]
memory = "128MiB"
grace = "30s"

[pools.web]
nodes = [{nodes}]
balance = "round-robin"
health = {{ path = "/healthz", interval = "500ms", timeout = "400ms", fall = 2, rise = 1 }}
passive = {{ errors = 2, eject = "5s" }}
slow_start = "2s"

[[site]]
hosts = ["*"]
pool = "web"

[purge]
allow = ["127.0.0.1", "::1"]
keep_tag_headers = true

[log]
level = "warn"
"#,
        nodes = nodes.join(", ")
    )
}

/// Waits until the edge is ready, so that every command of the tour works at once, and prints the tour.
fn guide(tour: &Tour) {
    let admin = tour.reachable_admin();
    let started = Instant::now();
    let warning = loop {
        let request = Request { to: &admin, method: "GET", target: "/ready", host: &admin, fields: &[] };
        let refusal = match request.send() {
            Ok(answer) if answer.status == 200 => break None,
            Ok(answer) => String::from_utf8_lossy(&answer.body).trim().to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if started.elapsed() > PATIENCE {
            break Some(format!("\nThe edge is not ready after {} seconds: {refusal}\n", PATIENCE.as_secs()));
        }
        thread::sleep(Duration::from_millis(50));
    };
    let text = tour.text() + &warning.unwrap_or_default();
    if let Err(error) = print(&text) {
        tracing::warn!(%error, "the tour could not be printed");
    }
}

/// Colour only where it is seen, and where nobody asked to do without (<https://no-color.org>).
fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What to type for this program: as it was called, for that has just worked.
fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if !called.is_empty() && called.bytes().all(plain) { called } else { "clearcoat".into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn addresses_that_make_no_sense_are_refused_before_anything_starts() {
        for (listen, admin) in [("127.0.0.1:8080", "127.0.0.1:8080"), ("127.0.0.1:8080", "0.0.0.0:8081")] {
            let arguments = Arguments { listen: listen.parse().unwrap(), admin: admin.parse().unwrap() };
            let trouble = command(&arguments, |_, _, _| panic!("nothing may be run")).unwrap_err();
            assert!(matches!(trouble, Trouble::Usage(_)), "{listen} {admin}: {trouble}");
        }
    }

    #[test]
    fn the_configuration_is_good() {
        let nodes = ["127.0.0.1:4001".parse().unwrap(), "127.0.0.1:4002".parse().unwrap()];
        for (listen, admin) in [
            ("127.0.0.1:8080", "127.0.0.1:8081"),
            ("0.0.0.0:8080", "127.0.0.2:8081"),
            ("[::1]:8080", "[::1]:8081"),
        ] {
            let text = configuration(listen.parse().unwrap(), admin.parse().unwrap(), &nodes);
            let config =
                clearcoat_conf::parse(&text, "demo", &|_| None).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(config.listen[0].address.to_string(), listen);
            assert_eq!(config.admin.unwrap().address.to_string(), admin);
        }
    }
}
