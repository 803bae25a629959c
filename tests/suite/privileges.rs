//! Who the process is once it listens, what it gives up, and whose its sockets are.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};

use clearcoat_tests::tls::{Certificate, TlsVisitor};
use clearcoat_tests::{Node, Page, Proxy, Request, Served, Setup, wait};
use tokio::process::Command;

/// The user `nobody` and the group `nogroup` of Debian.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A line of the process's `status`.
fn status(proxy: &mut Proxy, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.process().id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Asks over a Unix socket, by real curl.
async fn curl(socket: &str, url: &str) -> String {
    let output =
        Command::new("curl").args(["-s", "-i", "--unix-socket", socket, url]).output().await.unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn root_becomes_another_user_once_it_listens() {
    assert!(is_root(), "only root can become another user: run the tests as root");
    let node = Node::start().await;
    node.serve_everything(Page::text("in").fresh_for(60));
    let certificate = Certificate::of(&["www.example.com"]);
    let setup = Setup::before(&node).tls(&[&certificate]).more(
        "[process]\nuser = \"nobody\"\n[log.access]\nfile = \"/tmp/clearcoat-privileges/access.log\"\n",
    );
    let folder = std::path::Path::new("/tmp/clearcoat-privileges");
    let _ = fs::remove_dir_all(folder);
    fs::create_dir(folder).unwrap();
    chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut proxy = setup.start().await;
    assert_eq!(status(&mut proxy, "Uid"), "65534 65534 65534 65534");
    assert_eq!(status(&mut proxy, "Gid"), "65534 65534 65534 65534");
    assert_eq!(status(&mut proxy, "Groups"), "65534");
    for capabilities in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(&mut proxy, capabilities), "0000000000000000", "{capabilities}");
    }
    assert_eq!(status(&mut proxy, "NoNewPrivs"), "1");
    let id = proxy.process().id();
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    // Each thread is as restricted as the first.
    for task in fs::read_dir(format!("/proc/{id}/task")).unwrap() {
        let text = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(line("Uid:").contains("65534") && line("NoNewPrivs:").ends_with('1'), "{text}");
        assert!(!proxy.log().contains("calls given up") || line("Seccomp:").ends_with('2'), "{text}");
    }
    // It serves, by TLS too, and writes its log.
    assert_eq!(proxy.get("/").await.served(), Served::Miss);
    let visitor = TlsVisitor::trusting(&[&certificate]);
    let (mut secure, _) = visitor.connect(proxy.tls_address(), "www.example.com").await.unwrap();
    secure.ask(&Request::get("/")).await.expect_status(200);
    wait::until("the access log", async || {
        fs::read_to_string(folder.join("access.log")).is_ok_and(|log| log.lines().count() >= 2).then_some(())
    })
    .await;
    assert_eq!(fs::metadata(folder.join("access.log")).unwrap().uid(), NOBODY);
    assert!(proxy.log().contains("user=nobody"), "{}", proxy.log());
    drop(proxy);
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn who_cannot_be_become_is_told_before_anything_is_served() {
    let node = Node::start().await;
    for (process, expected) in [
        ("user = \"no-such-user\"", "there is no user no-such-user: useradd --system"),
        ("user = \"nobody\"\ngroup = \"no-such-group\"", "there is no group no-such-group"),
        ("user = \"4711\"", "has no name and so no group: add group"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clearcoat.toml");
        let text = format!(
            "[[listen]]\naddress = \"127.0.0.1:0\"\n[admin]\nenabled = false\n[pools.web]\nnodes = [\"{}\"]\n\
             [[site]]\nhosts = [\"*\"]\npool = \"web\"\n[process]\n{process}\n",
            clearcoat_tests::Address::address(&node)
        );
        fs::write(&file, text).unwrap();
        let output = clearcoat_tests::proxy::run_command(&["run", "--config", file.to_str().unwrap()]).await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(expected), "{process}: {told}");
    }
}

#[tokio::test]
async fn the_sandbox_tells_what_is_in_force() {
    let node = Node::start().await;
    node.serve_everything(Page::text("in").fresh_for(60));
    let mut off =
        Setup::before(&node).more("[process]\nsandbox = \"off\"\ncore_dumps = true\n").start().await;
    assert_eq!(status(&mut off, "Seccomp"), "0");
    assert!(off.log().contains("sandbox=\"off\""), "{}", off.log());
    // Without a word about it, as far as the kernel can.
    let mut usual = Proxy::before(&node).await;
    let log = usual.log();
    let line = log.lines().find(|line| line.contains("privileges")).unwrap();
    assert!(line.contains("landlock=") && line.contains("seccomp="), "{line}");
    if line.contains("calls given up") {
        assert_eq!(status(&mut usual, "Seccomp"), "2");
    }
    assert_eq!(usual.get("/").await.served(), Served::Miss);
}

#[tokio::test]
async fn certificates_are_renewed_within_the_sandbox() {
    let node = Node::start().await;
    node.serve_everything(Page::text("in").fresh_for(60));
    let (old, new) = (Certificate::of(&["www.example.com"]), Certificate::of(&["www.example.com"]));
    let proxy = Setup::before(&node).tls(&[&old]).start().await;
    TlsVisitor::trusting(&[&old]).connect(proxy.tls_address(), "www.example.com").await.unwrap();
    let beside = tempfile::tempdir().unwrap();
    let (certificate, key) = new.write(beside.path());
    let (here, own_key) = old.write(proxy.folder());
    fs::copy(key, own_key).unwrap();
    fs::copy(certificate, here).unwrap();
    wait::until("the new certificate", async || {
        let visitor = TlsVisitor::trusting(&[&new]);
        visitor.connect(proxy.tls_address(), "www.example.com").await.ok().map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_unix_socket_is_for_whom_it_is_said_to_be() {
    let node = Node::start().await;
    node.serve_everything(Page::text("in").fresh_for(60));
    let folder = tempfile::tempdir().unwrap();
    let [http, tight] =
        ["http.sock", "tight.sock"].map(|name| folder.path().join(name).display().to_string());
    // Left behind by a process that was killed.
    drop(std::os::unix::net::UnixListener::bind(&http).unwrap());
    let owner = if is_root() { "socket_user = \"nobody\"\nsocket_group = \"nogroup\"\n" } else { "" };
    let mut proxy = Setup::before(&node)
        .listen(&format!(
            "[[listen]]\naddress = \"unix:{http}\"\n{owner}[[listen]]\naddress = \"unix:{tight}\"\n\
             socket_mode = \"0600\"\nhosts = [\"only.example.com\"]\n"
        ))
        .start()
        .await;
    let file = fs::metadata(&http).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o660);
    if is_root() {
        assert_eq!((file.uid(), file.gid()), (NOBODY, NOBODY));
    }
    assert_eq!(fs::metadata(&tight).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(curl(&http, "http://www.example.com/").await.starts_with("HTTP/1.1 200"));
    // Listeners may have hosts of their own.
    assert!(curl(&tight, "http://only.example.com/").await.starts_with("HTTP/1.1 200"));
    assert!(curl(&tight, "http://www.example.com/").await.starts_with("HTTP/1.1 421"));
    proxy.signal(clearcoat_tests::process::Signal::Term);
    assert_eq!(proxy.exit_code().await, Some(0));
}
