//! The printed tour: numbered steps, each a sentence and commands that work when pasted into a POSIX shell.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the tour has to know.
pub(super) struct Tour {
    /// Where the edge listens for visitors.
    pub(super) listen: SocketAddr,
    /// Where its admin listener is.
    pub(super) admin: SocketAddr,
    /// Whether to use colour.
    pub(super) colour: bool,
    /// How to call this program in a shell.
    pub(super) program: String,
}

/// One step: what it shows, and the commands.
struct Step {
    what: &'static str,
    commands: Vec<String>,
}

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";

impl Tour {
    /// The whole text.
    pub(super) fn text(&self) -> String {
        let mut text = format!("\n{}\n\n", self.paint(BOLD, "Clearcoat is running. Ctrl-C ends it."));
        let (site, admin) = (self.site(), self.admin());
        for (name, url, what) in [
            ("Site", site.as_str(), "the edge, with three web nodes behind it"),
            ("Admin", admin.as_str(), "metrics, health, status, switches for the nodes"),
        ] {
            let _ = writeln!(
                text,
                "  {name:<7}{}  {}",
                self.paint(CYAN, &format!("{url:<28}")),
                self.paint(DIM, what)
            );
        }
        for (step, number) in self.steps().iter().zip(1..) {
            let _ = writeln!(
                text,
                "\n{}  {}",
                self.paint(BOLD, &format!("{number:>2}")),
                self.paint(BOLD, step.what)
            );
            for command in &step.commands {
                let _ = writeln!(text, "    {}", self.paint(CYAN, command));
            }
        }
        text.push('\n');
        text
    }

    /// The admin listener's address as this machine reaches it.
    pub(super) fn reachable_admin(&self) -> String {
        reachable(self.admin).to_string()
    }

    fn site(&self) -> String {
        format!("http://{}", reachable(self.listen))
    }

    fn admin(&self) -> String {
        format!("http://{}", reachable(self.admin))
    }

    fn steps(&self) -> Vec<Step> {
        let (site, admin, program) = (self.site(), self.admin(), &self.program);
        // GET with the body thrown away, so that what is shown is what a browser gets.
        let look = |path: &str| {
            format!("curl -s -o /dev/null -D - {site}{path} | grep -i -E '^(cache-status|age|x-node|xkey):'")
        };
        vec![
            Step {
                what: "A page comes from a node once and from memory after that: a miss, then a hit.",
                commands: vec![look("/article/1"), look("/article/1")],
            },
            Step {
                what: "Ask what the next visitor would get, and why.",
                commands: vec![format!("{program} why {site}/article/1 --admin {}", reachable(self.admin))],
            },
            Step {
                what: "Purge it by its tag, as a CMS does when an editor publishes. The next look is a miss.",
                commands: vec![
                    format!("curl -i -X PURGEKEYS -H 'xkey-purge: article-1' {site}/"),
                    look("/article/1"),
                ],
            },
            Step {
                what: "Soft purge: the stale copy is served at once while a node makes a new one; then that is there.",
                commands: vec![
                    look("/news"),
                    format!("curl -i -X PURGEKEYS -H 'xkey-softpurge: news' {site}/"),
                    look("/news"),
                    look("/news"),
                ],
            },
            Step {
                what: "Purge one URL.",
                commands: vec![format!("curl -i -X PURGE {site}/article/1"), look("/article/1")],
            },
            Step {
                what: "The same from the command line; a tag may name many pages.",
                commands: vec![format!(
                    "{program} purge --to {} --tag article --tag front",
                    reachable(self.listen)
                )],
            },
            Step {
                what: "What may not be stored is not: each request goes to the next node.",
                commands: vec![format!("for i in 1 2 3; do curl -s '{site}/now?plain'; done")],
            },
            Step {
                what: "A hundred ask for a page that takes two seconds; a node is asked once. (The second line: without oha.)",
                commands: vec![
                    format!("oha --no-tui -n 100 -c 100 {site}/slow"),
                    format!(
                        "seq 30 | xargs -P 30 -I N curl -s -o /dev/null -w '%{{http_code}} %{{time_total}} s\\n' {site}/slow"
                    ),
                    format!(
                        "curl -s {admin}/metrics | grep -E '^clearcoat_requests_total.*(hit|miss|collapsed)'"
                    ),
                ],
            },
            Step {
                what: "Kill a node and go on asking: no request fails, and the node is soon left out.",
                commands: vec![
                    format!("curl -X POST {admin}/demo/nodes/2/kill"),
                    format!("for i in $(seq 9); do curl -s '{site}/now?plain'; done"),
                    format!("sleep 2; curl -s {admin}/metrics | grep '^clearcoat_node_up'"),
                    format!("curl -X POST {admin}/demo/nodes/2/start"),
                ],
            },
            Step {
                what: "See what it says about itself.",
                commands: vec![
                    format!("{program} status --admin {}", reachable(self.admin)),
                    format!("curl -s {admin}/ready; curl -s {admin}/demo/nodes; curl -s {admin}/metrics"),
                ],
            },
            Step { what: "How fast is a hit?", commands: vec![format!("oha -z 10s -c 64 {site}/article/1")] },
        ]
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
    }
}

/// An address to connect to: who listens everywhere is reached by loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::process::Command;

    use super::*;

    fn tour(listen: &str, colour: bool) -> Tour {
        let (listen, admin) = (listen.parse().unwrap(), "127.0.0.1:9998".parse().unwrap());
        Tour { listen, admin, colour, program: "target/release/clearcoat".into() }
    }

    #[test]
    fn it_names_the_addresses_that_were_asked_for() {
        let text = tour("127.0.0.1:9999", false).text();
        assert!(text.contains("curl -X POST http://127.0.0.1:9998/demo/nodes/2/kill\n"), "{text}");
        assert!(text.contains("oha -z 10s -c 64 http://127.0.0.1:9999/article/1\n"), "{text}");
        assert!(text.contains("target/release/clearcoat status --admin 127.0.0.1:9998\n"), "{text}");
        assert!(!text.contains(":8080") && !text.contains(":8081"), "{text}");
    }

    #[test]
    fn who_listens_everywhere_is_reached_by_loopback() {
        assert!(tour("0.0.0.0:80", false).text().contains("http://127.0.0.1:80/"));
        assert!(tour("[::]:80", false).text().contains("http://[::1]:80/"));
        assert!(tour("10.1.2.3:80", false).text().contains("http://10.1.2.3:80/"));
    }

    #[test]
    fn colour_is_only_paint() {
        let plain = tour("127.0.0.1:1", false).text();
        let mut painted = tour("127.0.0.1:1", true).text();
        assert!(!plain.contains('\x1b') && painted.contains('\x1b'));
        for code in [BOLD, DIM, CYAN, PLAIN] {
            painted = painted.replace(code, "");
        }
        assert_eq!(painted, plain);
    }

    #[test]
    fn a_shell_can_read_every_command() {
        for step in tour("[::1]:9999", false).steps() {
            for command in step.commands {
                let read = Command::new("sh").args(["-n", "-c", &command]).output().unwrap();
                assert!(read.status.success(), "{command}: {}", String::from_utf8_lossy(&read.stderr));
            }
        }
    }
}
