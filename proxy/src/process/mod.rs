//! Who the process is once it listens, and what it gives up then.
//!
//! Everything that takes privileges comes before: reading keys, binding ports. Then, while there is one thread still and before a byte of
//! a stranger's is read, the process becomes another user ([`user`]), shuts itself out of files that it never needs ([`files`]) and of
//! calls that it never makes ([`calls`]). User, group and the filter of calls are changed for all threads, by the C library and by the
//! kernel; capabilities, "no new privileges" and Landlock for the present one and those that it starts, which is all of them.
//!
//! What the kernel cannot do is left out, and told in the one line that says what is in force.

mod calls;
mod files;
#[cfg(test)]
mod tests;
mod user;

use std::fs::File;
use std::path::PathBuf;

use anyhow::Context as _;
use clearcoat_conf::Sandbox;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{AccessFlags, access};
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
    /// Files that it makes and appends to.
    pub(crate) writes: Vec<PathBuf>,
    /// Sockets that it takes away, and puts others beside.
    pub(crate) removes: Vec<PathBuf>,
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

/// What has to be kept for as long as the process runs.
#[derive(Debug)]
#[must_use]
pub(crate) struct Settled {
    /// The folder of the process in `/proc`: what may be read of it is so by its inode, which stays the same while somebody has it open.
    _own: Option<File>,
}

/// Whom files are given to that this process makes before it becomes that user; `None`: they are its own.
///
/// # Errors
///
/// If there is no such user or group.
pub(crate) fn future_owner(name: Option<&str>, group: Option<&str>) -> anyhow::Result<Option<(u32, u32)>> {
    let Some(name) = name.filter(|_| user::present().is_root) else { return Ok(None) };
    let (user, group) = user::numbers(name, group)?;
    Ok(Some((user.as_raw(), group.as_raw())))
}

/// Makes the process what it is to be, and tells what is in force.
///
/// # Errors
///
/// If there is no such user, it may not become that, or something of the sandbox is missing that is required.
pub(crate) fn settle(settings: &Settings) -> anyhow::Result<Settled> {
    let threads = threads();
    let user = settings.become_user()?;
    if !user.is_root {
        user::give_up_capabilities().context("giving up capabilities")?;
    }
    // After the user: the kernel sets it anew with each change of that.
    prctl::set_dumpable(settings.core_dumps).context("process.core_dumps (PR_SET_DUMPABLE)")?;
    if !settings.core_dumps {
        setrlimit(Resource::RLIMIT_CORE, 0, 0).context("process.core_dumps (RLIMIT_CORE)")?;
    }
    // Nothing is ever run, so that this holds whether there is a sandbox or not.
    if let Err(error) = prctl::set_no_new_privs() {
        warn!(%error, "privileges may be had anew (PR_SET_NO_NEW_PRIVS)");
    }
    for line in settings.out_of_reach(&user) {
        warn!("{line}");
    }
    if user.is_root && settings.user.is_none() {
        warn!("this process stays root: process.user names somebody else for it to become once it listens");
    }
    let settled = Settled { _own: File::open("/proc/self").ok() };
    if settings.sandbox == Sandbox::Off {
        info!(%user, sandbox = "off", no_new_privileges = no_new_privileges(), "privileges");
        return Ok(settled);
    }
    let files = files::restrict(settings);
    // Last: some of what is done above is denied then.
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
    Ok(settled)
}

/// What would fail later, each with what to do; found out as the user whom the process is to become, which this one becomes. For a
/// process that only looks.
///
/// # Errors
///
/// If there is no such user or group.
pub(crate) fn look_ahead(settings: &Settings) -> anyhow::Result<Vec<String>> {
    let Some(name) = &settings.user else { return Ok(Vec::new()) };
    if !user::present().is_root && !user::is_present(name, settings.group.as_deref())? {
        return Ok(vec![format!("what {name} may read is not looked at: only root can do that")]);
    }
    let user = settings.become_user()?;
    Ok(settings.out_of_reach(&user))
}

impl Settings {
    fn become_user(&self) -> anyhow::Result<user::Present> {
        match &self.user {
            Some(name) => user::become_user(name, self.group.as_deref())
                .with_context(|| format!("becoming the user {name} (process.user)")),
            None => Ok(user::present()),
        }
    }

    /// What the process has no right to, as it is by now.
    fn out_of_reach(&self, user: &user::Present) -> Vec<String> {
        let mut out = Vec::new();
        for path in &self.renewed {
            if let Err(error) = File::open(path) {
                let path = path.display();
                out.push(format!(
                    "{user} cannot read {path} ({error}), so it will not be read again when it changes: give it to a group \
                     of {user} (chgrp, chmod 0640) and let that into its folders (chmod 0750)"
                ));
            }
        }
        // Nobody renames pipes and devices.
        let is_special = |path: &PathBuf| path.metadata().is_ok_and(|found| !found.is_file());
        for path in self.writes.iter().filter(|path| !is_special(path)) {
            let folder = files::folder(path);
            let makes = access(&folder, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
            let writes = access(path, AccessFlags::W_OK) != Err(Errno::EACCES);
            if !makes || !writes {
                let (path, folder) = (path.display(), folder.display());
                out.push(format!(
                    "{user} cannot open {path} anew (SIGUSR1) once it was renamed: give it and {folder} to {user} (chown)"
                ));
            }
        }
        out
    }
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
