//! A real browser, without a window: it opens a page, and what is on the page does the rest.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Process;
use crate::tls::Certificate;

/// A Chromium that shows one page. Ended on drop.
#[derive(Debug)]
pub struct Chromium {
    process: Process,
}

impl Chromium {
    /// Whether there is one on this machine; `tests/run` installs it.
    pub fn program() -> Option<PathBuf> {
        let names = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
        names.into_iter().map(PathBuf::from).find(|path| path.exists())
    }

    /// Opens `url`, whose host is at 127.0.0.1 and shows `certificate`. What it keeps goes to `folder`.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn open(program: &Path, url: &str, certificate: &Certificate, folder: &Path) -> Self {
        let mut command = Command::new(program);
        command
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            // Asks nobody for updates, lists and models.
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            // What pages say on the console goes to the log.
            .args(["--enable-logging=stderr", "--log-level=0"])
            .arg("--host-resolver-rules=MAP * 127.0.0.1")
            .arg(format!("--ignore-certificate-errors-spki-list={}", certificate.fingerprint()))
            .arg(format!("--user-data-dir={}", folder.join("chromium").display()))
            .arg(url);
        Self { process: Process::start("chromium", &command, folder) }
    }

    /// What its pages have said on the console.
    pub fn console(&self) -> Vec<String> {
        self.process.log().lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect()
    }
}
