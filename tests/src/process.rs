//! A child process that never outlives its test.
//!
//! Each child leads a process group of its own, so that workers it forks are ended with it. The group is killed on drop, also while a
//! panic unwinds; should the test process itself be killed, `setpriv` (part of every Debian) has told the kernel to end the child.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait;

/// Lines of a child's log shown when its test fails.
const SHOWN_LINES: usize = 60;

/// Sets the parent-death signal, then becomes the program.
const SETPRIV: &str = "/usr/bin/setpriv";

/// What may be told to a child.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// Finish what is under way, then end.
    Term,
    /// nginx: finish what is under way, then end.
    Quit,
    /// Read the configuration again.
    Hup,
    /// Open the access log anew.
    Usr1,
    /// End at once, without a word to anybody.
    Kill,
    /// Hold still: sockets stay open, nobody answers.
    Stop,
    /// Go on after [`Signal::Stop`].
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Quit => "QUIT",
            Self::Hup => "HUP",
            Self::Usr1 => "USR1",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// A running (or ended) child with its log.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`; whatever it prints goes to `NAME.log` in `folder`, behind what an earlier child of that name left there.
    ///
    /// # Panics
    ///
    /// If the program cannot be started.
    pub fn start(name: &str, command: &Command, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap_or_else(|error| panic!("opening {}: {error}", log.display()));
        let errors = output.try_clone().expect("a file handle can be doubled");
        let mut child = guarded(command);
        child.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child = child.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        Self { name: name.to_owned(), child, log, ended: None }
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All it has printed so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be asked");
        }
        self.ended
    }

    /// Sends a signal to the child alone, not to its group.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            kill(signal, &self.id().to_string());
        }
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    ///
    /// If it is still there after `limit`.
    pub async fn exit(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} to end", self.name);
        wait::until_within(limit, &what, async || self.ended()).await
    }

    /// Kills the whole group, as `kill -9` or a power cut does, and waits for the child's end.
    pub fn kill(&mut self) {
        // The group may outlive its leader, so it is killed even when the leader is gone; its number cannot have been given to another
        // process while the leader was not waited for, and an already awaited leader had its group killed before.
        if self.ended.is_none() {
            kill(Signal::Kill, &format!("-{}", self.id()));
            // Should the shell have failed, the child itself still ends, or waiting for it would never.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// Resident memory in bytes (`VmRSS` of `/proc/PID/status`), or nothing when the process has ended.
    pub fn resident_bytes(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    }

    /// Open file handles, sockets included, or nothing when the process has ended.
    pub fn open_files(&self) -> Option<usize> {
        Some(fs::read_dir(format!("/proc/{}/fd", self.id())).ok()?.count())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("--- last lines of {} ({:?}) ---\n{}\n---", self.name, self.ended, shown.join("\n"));
        }
    }
}

/// The same command, ended by the kernel when the thread that starts it is gone.
fn guarded(command: &Command) -> Command {
    let mut guarded = if Path::new(SETPRIV).exists() {
        let mut setpriv = Command::new(SETPRIV);
        setpriv.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program());
        setpriv
    } else {
        Command::new(command.get_program())
    };
    guarded.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => guarded.env(name, value),
            None => guarded.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        guarded.current_dir(folder);
    }
    guarded
}

/// The shell's own `kill`, because a small Debian has no other.
fn kill(signal: Signal, target: &str) {
    let line = format!("kill -s {} -- {target} 2>/dev/null", signal.name());
    // A process that is gone already is what was wanted.
    let _ = Command::new("/bin/sh").args(["-c", &line]).status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_and_its_own_children_end_on_drop() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 300 & echo $!; wait"]);
        let process = Process::start("parent", &command, folder.path());
        let grandchild = wait::until("the number of the grandchild", async || {
            process.log().lines().next().and_then(|line| line.parse::<u32>().ok())
        })
        .await;
        drop(process);
        let gone = || {
            let state = fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
            // A zombie waits for its new parent only; it runs no more.
            state.is_empty() || state.contains(") Z ")
        };
        wait::until_true("the grandchild to end", gone).await;
    }

    #[tokio::test]
    async fn an_exit_status_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exit 7"]);
        let mut process = Process::start("seven", &command, folder.path());
        assert_eq!(process.exit(wait::PATIENCE).await.code(), Some(7));
    }
}
