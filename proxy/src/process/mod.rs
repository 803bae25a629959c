//! Who the process is once it listens, and what it gives up then.
//!
//! Everything that takes privileges comes before: reading keys, binding ports. Then, while there is one thread still and before a byte of
//! a stranger's is read, the process becomes another user ([`user`]), shuts itself out of files that it never needs ([`files`]) and of
//! calls that it never makes ([`calls`]). Landlock holds for the threads that are started afterwards, which is all of them.
//!
//! What the kernel cannot do is left out, and told in the one line that says what is in force.

mod calls;
mod files;
mod user;

use std::path::PathBuf;

use anyhow::Context as _;
use clearcoat_conf::Sandbox;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

pub(crate) use user::group_id;
pub(crate) use user::user_id;

/// What the process is to be.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) sandbox: Sandbox,
    pub(crate) core_dumps: bool,
    /// Files and folders that it reads while it runs, besides the system's.
    pub(crate) reads: Vec<PathBuf>,
    /// Folders in which it makes and removes files.
    pub(crate) writes: Vec<PathBuf>,
    /// Files that are read again when they change.
    pub(crate) renewed: Vec<PathBuf>,
}

/// Lets the process have as many files open as it may. Each connection is one.
pub(crate) fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        warn!(%error, "the limit of open files cannot be raised");
    }
}

/// Makes the process what it is to be, and tells what is in force.
///
/// # Errors
///
/// If there is no such user, it may not become that, or something of the sandbox is missing that is required.
pub(crate) fn settle(settings: &Settings) -> anyhow::Result<()> {
    if !settings.core_dumps {
        forbid_core_dumps().context("forbidding core dumps (process.core_dumps)")?;
    }
    let user = match &settings.user {
        Some(user) => user::become_user(user, settings.group.as_deref())
            .with_context(|| format!("becoming the user {user} (process.user)"))?,
        None => user::present(),
    };
    for path in &settings.renewed {
        if let Err(error) = std::fs::File::open(path) {
            warn!(
                file = %path.display(), %user, %error,
                "this file will not be read again when it changes: let the user's group read it"
            );
        }
    }
    if settings.sandbox == Sandbox::Off {
        info!(%user, sandbox = "off", "privileges");
        return Ok(());
    }
    let threads = threads();
    let files = files::restrict(&settings.reads, &settings.writes);
    let calls = calls::restrict();
    let [files_held, calls_held] = [&files, &calls].map(Result::is_ok);
    let said = |held: &Result<String, String>| held.clone().unwrap_or_else(|why| format!("none ({why})"));
    info!(%user, landlock = said(&files), seccomp = said(&calls), no_new_privileges = no_new_privileges(), "privileges");
    if settings.sandbox == Sandbox::Require {
        anyhow::ensure!(files_held, "Landlock is required (process.sandbox): {}", said(&files));
        anyhow::ensure!(calls_held, "seccomp is required (process.sandbox): {}", said(&calls));
        anyhow::ensure!(
            threads <= 1,
            "the sandbox is required (process.sandbox), and {threads} threads run already"
        );
    }
    if user.is_root {
        warn!("this process stays root: process.user names somebody else for it to become once it listens");
    }
    Ok(())
}

/// A crash writes no memory, and other processes of the same user may not look into it.
fn forbid_core_dumps() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)
}

fn no_new_privileges() -> bool {
    prctl::get_no_new_privs().unwrap_or(false)
}

/// How many threads there are, from `Threads` of proc(5); one where nobody tells.
fn threads() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(1)
}
