//! `run`: the edge, from a file or from a few options.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clearcoat_conf::{Config, ListenAddress, NodeAddress, Preset};

use super::{Run, Trouble, check, ports};
use crate::assemble::Source;

/// Run the edge in the foreground.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["config", "to"]))]
pub(super) struct Arguments {
    /// The configuration.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A web node to send requests to; may be given several times.
    #[arg(long, value_name = "HOST:PORT")]
    to: Vec<NodeAddress>,
    /// Where visitors come in [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR", conflicts_with = "config")]
    listen: Option<ListenAddress>,
    /// Where metrics and health are read [default: 127.0.0.1:6082]
    #[arg(long, value_name = "ADDR", conflicts_with = "config")]
    admin: Option<ListenAddress>,
    /// The memory for stored pages, such as 512MiB or 2GiB.
    #[arg(long, value_name = "SIZE", conflicts_with = "config")]
    memory: Option<String>,
    /// Ready-made rules: http, symfony, ez-platform, ez-platform-2 or ez-platform-1 [default: http]
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    preset: Option<Preset>,
    /// Write a line for each request to this file, in the combined format; stdout writes it there [default: none]
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    access_log: Option<String>,
}

/// Where a listener without a file is: a port that needs no privileges, for all who can reach this machine.
const LISTEN: &str = "0.0.0.0:8080";

/// Runs the edge until a signal ends it.
pub(super) fn command(arguments: Arguments, run: Run) -> Result<(), Trouble> {
    let config = match &arguments.config {
        Some(path) => clearcoat_conf::load(path, &super::check::environment)?,
        None => without_file(&arguments)?,
    };
    let (listen, admin) = match &arguments.config {
        Some(_) => ("listen.address", "admin.address"),
        None => ("--listen", "--admin"),
    };
    for socket in &config.listen {
        ports::require_free(&socket.address, listen)?;
    }
    if let Some(socket) = &config.admin {
        ports::require_free(&socket.address, admin)?;
    }
    check::begin_log(&config)?;
    let source = arguments
        .config
        .map(|path| -> Source { Arc::new(move || clearcoat_conf::load(&path, &super::check::environment)) });
    Ok(run(config, source, None)?)
}

/// The options as a configuration. They become text first, so that they go through the same checks as a file.
fn without_file(arguments: &Arguments) -> Result<Config, Trouble> {
    let listen = arguments.listen.as_ref().map_or_else(|| LISTEN.to_owned(), ToString::to_string);
    let nodes: Vec<String> = arguments.to.iter().map(|node| quoted(&node.to_string())).collect();
    let mut text = format!("[[listen]]\naddress = {}\n", quoted(&listen));
    if let Some(admin) = &arguments.admin {
        let _ = write!(text, "[admin]\naddress = {}\n", quoted(&admin.to_string()));
    }
    if let Some(memory) = &arguments.memory {
        let _ = write!(text, "[cache]\nmemory = {}\n", quoted(memory));
    }
    if let Some(file) = &arguments.access_log {
        let _ = write!(text, "[log.access]\nfile = {}\n", quoted(file));
    }
    let _ = write!(text, "[pools.web]\nnodes = [{}]\n", nodes.join(", "));
    text.push_str("[[site]]\nhosts = [\"*\"]\npool = \"web\"\n");
    if let Some(preset) = arguments.preset {
        let _ = writeln!(text, "preset = {}", quoted(preset.as_str()));
    }
    clearcoat_conf::parse(&text, "command line", &|variable| std::env::var(variable).ok()).map_err(
        |mistakes| {
            // Lines and columns of a text that nobody has seen would only confuse.
            let lines: Vec<String> = mistakes
                .iter()
                .map(|mistake| format!("{}: {}; {}", mistake.key, mistake.message, mistake.hint))
                .collect();
            Trouble::Usage(lines.join("\n"))
        },
    )
}

/// A TOML basic string. JSON's escapes are among TOML's; what TOML refuses beyond that, the reader of the text reports.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn options(to: &str, listen: Option<&str>, memory: Option<&str>) -> Arguments {
        Arguments {
            config: None,
            to: vec![to.parse().unwrap()],
            listen: listen.map(|address| address.parse().unwrap()),
            admin: None,
            memory: memory.map(Into::into),
            preset: Some(Preset::EzPlatform),
            access_log: None,
        }
    }

    #[test]
    fn options_become_a_configuration() {
        let config = without_file(&options("10.0.0.11:80", None, Some("64MiB"))).unwrap();
        assert_eq!(config.listen.len(), 1);
        assert_eq!(config.listen[0].address.to_string(), LISTEN);
        assert!(config.sites[0].rules.esi && config.sites[0].preset == Preset::EzPlatform);
        let config = without_file(&options("10.0.0.11:80", Some("127.0.0.1:81"), None)).unwrap();
        assert_eq!(config.listen[0].address.to_string(), "127.0.0.1:81");
    }

    #[test]
    fn there_is_an_access_log_when_it_is_asked_for() {
        let without = options("10.0.0.11:80", None, None);
        assert_eq!(without_file(&without).unwrap().log.access, None);
        let with = Arguments { access_log: Some("/tmp/a \"b\".log".into()), ..without };
        let access = without_file(&with).unwrap().log.access.unwrap();
        assert_eq!(access.target, clearcoat_conf::AccessTarget::File("/tmp/a \"b\".log".into()));
        let with = Arguments { access_log: Some("stdout".into()), ..with };
        let access = without_file(&with).unwrap().log.access.unwrap();
        assert_eq!(access.target, clearcoat_conf::AccessTarget::Stdout);
    }

    #[test]
    fn an_option_cannot_write_configuration() {
        let sneaky = "1GiB\"\n[purge]\nallow = [\"0.0.0.0/0\"]\nx = \"";
        without_file(&options("10.0.0.11:80", None, Some(sneaky))).unwrap_err();
        let trouble = without_file(&options("10.0.0.11:80", None, Some("5"))).unwrap_err();
        assert!(matches!(&trouble, Trouble::Usage(text) if text.starts_with("cache.memory: ")), "{trouble}");
    }
}
