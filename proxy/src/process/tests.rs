//! What is given up stays given up for the whole of a process, so each test does it in a process of its own: it starts
//! itself once more and has that tell what it still can.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;

const SETTINGS: Settings = Settings {
    user: None,
    group: None,
    sandbox: Sandbox::Auto,
    core_dumps: false,
    reads: Vec::new(),
    writes: Vec::new(),
    removes: Vec::new(),
    renewed: Vec::new(),
};

/// Says to a process that it is the one that gives up, and in which folder it may write.
const FOLDER: &str = "CLEARCOAT_TEST_SETTLED";

/// Runs the test of this name once more, as the one that gives up; its lines.
fn once_more(test: &str, folder: &std::path::Path) -> Vec<String> {
    let name = format!("process::tests::{test}");
    let output = Command::new(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().filter_map(|line| line.split_once("told: ").map(|(_, told)| told.to_owned())).collect()
}

fn held(restricted: &Result<String, String>) -> &'static str {
    if restricted.is_ok() { "works" } else { "is missing" }
}

fn told<T>(what: &str, result: Result<T, std::io::Error>) {
    println!(
        "told: {what} {}",
        result.err().map_or("works".to_owned(), |error| format!("{:?}", error.kind()))
    );
}

#[test]
fn nothing_is_executed_or_opened_that_is_not_needed() {
    const NAME: &str = "nothing_is_executed_or_opened_that_is_not_needed";
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = PathBuf::from(folder);
        let settings = Settings {
            reads: vec![folder.join("live/cert")],
            writes: vec![folder.join("log/access.log")],
            removes: vec![folder.join("run/http.sock")],
            ..SETTINGS
        };
        let _settled = settle(&settings).unwrap();
        println!("told: files {}", held(&files::restrict(&settings)));
        println!("told: calls {}", held(&calls::restrict()));
        told("execve", Command::new("/bin/true").spawn());
        told("a file elsewhere", fs::read(folder.join("secret")));
        told("hosts", fs::read("/etc/hosts"));
        told("own status", fs::read("/proc/self/status"));
        told("status of init", fs::read("/proc/1/status"));
        told("a certificate", fs::read(folder.join("live/cert")));
        // As certbot renews: a new file where the old ones are, and the link swapped.
        let log = |name: &str| OpenOptions::new().append(true).create(true).open(folder.join(name));
        told("the log, made anew", log("log/access.log"));
        told("a file made elsewhere", log("run/made"));
        told("removing the socket", fs::remove_file(folder.join("run/http.sock")));
        told("removing the certificate", fs::remove_file(folder.join("live/cert")));
        told("a thread", std::thread::Builder::new().spawn(|| {}).map(|thread| thread.join().unwrap()));
        told("a listener", TcpListener::bind("127.0.0.1:0"));
        told("a name", std::net::ToSocketAddrs::to_socket_addrs("localhost:80"));
        let raw = socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, None);
        told("a raw socket", raw);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["live", "archive", "log", "run"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    for name in ["secret", "archive/cert1", "run/http.sock"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    symlink("../archive/cert1", folder.path().join("live/cert")).unwrap();
    let told = once_more(NAME, folder.path());
    let is =
        |what: &str, how: &str| assert!(told.contains(&format!("{what} {how}")), "{what} {how}: {told:#?}");
    // Where the kernel has it, it has it twice.
    let has = |what: &str| told.contains(&format!("{what} works"));
    for what in
        ["hosts", "own status", "a certificate", "the log, made anew", "removing the socket", "a thread"]
    {
        is(what, "works");
    }
    for what in ["a listener", "a name"] {
        is(what, "works");
    }
    if has("calls") {
        is("execve", "PermissionDenied");
        is("a raw socket", "PermissionDenied");
    }
    if has("files") {
        for what in
            ["a file elsewhere", "a file made elsewhere", "removing the certificate", "status of init"]
        {
            is(what, "PermissionDenied");
        }
    }
}

#[test]
fn root_is_given_up_for_good() {
    const NAME: &str = "root_is_given_up_for_good";
    if std::env::var_os(FOLDER).is_some() {
        let user = Some("65534".to_owned());
        let settings = Settings { user: user.clone(), group: user, sandbox: Sandbox::Off, ..SETTINGS };
        let _settled = settle(&settings).unwrap();
        println!("told: dumpable {}", prctl::get_dumpable().unwrap());
        // Of the thread that did it, and of the one that the test harness had before: ids are those of both.
        for status in ["/proc/thread-self/status", "/proc/self/status"] {
            for line in fs::read_to_string(status).unwrap().lines() {
                println!("told: {}", line.replace('\t', " "));
            }
        }
        told("chown", std::os::unix::fs::chown("/", Some(0), None));
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("not run: only root can give root up");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let told = once_more(NAME, folder.path());
    for line in [
        "dumpable false",
        "Uid: 65534 65534 65534 65534",
        "Gid: 65534 65534 65534 65534",
        "CapInh: 0000000000000000",
        "CapPrm: 0000000000000000",
        "CapEff: 0000000000000000",
        "CapAmb: 0000000000000000",
        "NoNewPrivs: 1",
        "chown PermissionDenied",
    ] {
        assert!(told.iter().any(|other| other == line), "{line}: {told:#?}");
    }
    let ids: Vec<_> = told.iter().filter(|line| line.starts_with("Uid:")).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
}
