//! `[process]`, and the files of Unix sockets.

use std::ops::Range;

use super::Check;
use crate::config::{ListenAddress, Process, Sandbox, SocketFile};
use crate::file::{At, ProcessTable, SandboxWord};

pub(super) fn check(check: &mut Check<'_>, table: Option<At<ProcessTable>>) -> Process {
    let ProcessTable { user, group, sandbox, core_dumps } = table.map(|at| at.value).unwrap_or_default();
    if let (None, Some(group)) = (&user, &group)
        && !check.is_wrong("process.user")
    {
        check.report(&group.span, "a group is given up for together with a user", "add user = \"clearcoat\"");
    }
    Process {
        user: user.and_then(|at| account(check, at)),
        group: group.and_then(|at| account(check, at)),
        sandbox: sandbox.map_or(Sandbox::default(), |at| match at.value {
            SandboxWord::Auto => Sandbox::Auto,
            SandboxWord::Require => Sandbox::Require,
            SandboxWord::Off => Sandbox::Off,
        }),
        core_dumps: core_dumps.is_some_and(|at| at.value),
    }
}

/// A name or number of a user or group. Whether there is one is seen when the process starts.
fn account(check: &mut Check<'_>, at: At<String>) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-$".contains(&byte);
    if at.value.is_empty() || !at.value.bytes().all(fits) {
        check.report(
            &at.span,
            format!("{:?} is no name", at.value),
            "write a name, such as clearcoat, or a number",
        );
        return None;
    }
    Some(at.value)
}

/// The keys of a Unix socket's file.
#[derive(Default)]
pub(super) struct SocketKeys {
    pub(super) mode: Option<At<String>>,
    pub(super) user: Option<At<String>>,
    pub(super) group: Option<At<String>>,
}

impl SocketKeys {
    /// Reads them; where nobody listens on a Unix socket they mean nothing.
    pub(super) fn check(
        self,
        check: &mut Check<'_>,
        address: Option<&ListenAddress>,
        default: SocketFile,
    ) -> SocketFile {
        let spans: Vec<Range<usize>> =
            [&self.mode, &self.user, &self.group].into_iter().flatten().map(|at| at.span.clone()).collect();
        if let Some(ListenAddress::Tcp(address)) = address {
            for span in spans {
                let message = format!("{address} is no Unix socket, so this means nothing");
                check.report(&span, message, "take it out, or listen on unix:/run/clearcoat/http.sock");
            }
        }
        SocketFile {
            mode: self.mode.and_then(|at| mode(check, &at)).unwrap_or(default.mode),
            user: self.user.and_then(|at| account(check, at)),
            group: self.group.and_then(|at| account(check, at)),
        }
    }
}

/// Bits as chmod has them.
fn mode(check: &mut Check<'_>, at: &At<String>) -> Option<u32> {
    let is_octal =
        (3..=4).contains(&at.value.len()) && at.value.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(&at.value, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    if mode.is_none() {
        check.report(
            &at.span,
            format!("{:?} is no mode of a file", at.value),
            "write it as chmod does, such as \"0660\"",
        );
    }
    mode
}
