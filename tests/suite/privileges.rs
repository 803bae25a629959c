//! Who the process is once it listens, what it gives up, and whose its sockets are.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use clearcoat_tests::ports::Port;
use clearcoat_tests::process::{Process, Signal};
use clearcoat_tests::proxy::{binary, run_command};
use clearcoat_tests::tls::{Certificate, TlsVisitor};
use clearcoat_tests::{Address, Node, Page, Proxy, Request, Served, Setup, client, wait};
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
    if !is_root() {
        return eprintln!("not run: only root can become another user");
    }
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
            node.address()
        );
        fs::write(&file, text).unwrap();
        let output = run_command(&["run", "--config", file.to_str().unwrap()]).await;
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
    proxy.signal(Signal::Term);
    assert_eq!(proxy.exit_code().await, Some(0));
}

/// An address on loopback with a port that takes privileges.
fn low_port() -> SocketAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    let mut addresses = (600..1024).map(|port| SocketAddr::from(([127, 91, high, low], port)));
    addresses.find(|address| TcpListener::bind(address).is_ok()).unwrap()
}

/// Puts a certificate and its key where certbot does: files with a number, to which links lead.
fn issue(certificate: &Certificate, number: u32, folder: &Path) {
    for (name, text) in [("cert", &certificate.certificate), ("key", &certificate.key)] {
        let file = folder.join(format!("archive/{name}{number}.pem"));
        fs::write(&file, text).unwrap();
        chown(&file, None, Some(NOBODY)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let (new, link) = (folder.join(format!("live/{name}.new")), folder.join(format!("live/{name}.pem")));
        symlink(format!("../archive/{name}{number}.pem"), &new).unwrap();
        fs::rename(new, link).unwrap();
    }
}

#[tokio::test]
async fn what_root_opened_is_kept_and_what_changes_is_followed() {
    if !is_root() {
        return eprintln!("not run: only root can become another user");
    }
    const NAME: &str = "www.example.com";
    let node = Node::start().await;
    node.serve_everything(Page::echo().no_store());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["live", "archive", "log", "run"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    for name in ["log", "run"] {
        chown(folder.join(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let (old, new) = (Certificate::of(&[NAME]), Certificate::of(&[NAME]));
    issue(&old, 1, folder);
    let (low, tls) = (low_port(), Port::claim());
    let file = folder.join("clearcoat.toml");
    let [http, admin] =
        ["http", "admin"].map(|name| folder.join(format!("run/{name}.sock")).display().to_string());
    let text = format!(
        "[[listen]]\naddress = \"{low}\"\n\
         [[listen]]\naddress = \"{tls}\"\n\
         tls.certificates = [{{ cert = \"live/cert.pem\", key = \"live/key.pem\" }}]\n\
         [[listen]]\naddress = \"unix:{http}\"\ntrusted_proxies = [\"unix:\"]\n\
         [admin]\naddress = \"unix:{admin}\"\n\
         [pools.web]\nnodes = [\"localhost:{node}\"]\n\
         [[site]]\nhosts = [\"*\"]\npool = \"web\"\n\
         [process]\nuser = \"nobody\"\n\
         [log.access]\nfile = \"log/access.log\"\n",
        tls = tls.address(),
        node = node.address().port(),
    );
    fs::write(&file, text).unwrap();
    let name = file.to_str().unwrap();
    let told = run_command(&["check", "--config", name]).await;
    assert_eq!(String::from_utf8_lossy(&told.stdout), format!("{name}: no mistakes\n"));
    let mut command = std::process::Command::new(binary());
    command.args(["run", "--config", name]);
    let mut process = Process::start("clearcoat", &command, folder);
    let ready =
        async || curl(&admin, "http://localhost/ready").await.starts_with("HTTP/1.1 200").then_some(());
    wait::until("the proxy to be ready", ready).await;
    assert!(!process.log().contains(" WARN "), "{}", process.log());

    // The port was bound by root, and the name of the node is looked up within the sandbox.
    client::ask(low, &Request::get("/low").host(NAME)).await.expect_status(200);
    // Whoever comes over the socket is believed; nothing else is known of them.
    let forwarded =
        ["-s", "-H", "X-Forwarded-For: 192.0.2.9", "--unix-socket", &http, "http://localhost/unix"];
    Command::new("curl").args(forwarded).output().await.unwrap();
    assert_eq!(node.last("/unix").headers("x-forwarded-for"), ["192.0.2.9"]);
    curl(&http, "http://localhost/alone").await;
    assert_eq!(node.last("/alone").headers("x-forwarded-for"), [""; 0]);

    let shows = async |certificate: &Certificate| {
        let visitor = TlsVisitor::trusting(&[certificate]);
        visitor.connect(tls.address(), NAME).await.ok().map(drop)
    };
    assert!(shows(&old).await.is_some());
    issue(&new, 2, folder);
    wait::until("the new certificate", async || shows(&new).await).await;

    let (log, moved) = (folder.join("log/access.log"), folder.join("log/access.log.1"));
    fs::rename(&log, moved).unwrap();
    process.signal(Signal::Usr1);
    wait::until_true("the log to be made anew", || log.exists()).await;
    client::ask(low, &Request::get("/logged").host(NAME)).await.expect_status(200);
    wait::until_true("the line", || fs::read_to_string(&log).is_ok_and(|text| text.contains("/logged")))
        .await;
    assert_eq!(fs::metadata(&log).unwrap().uid(), NOBODY);

    // What it reads of itself it may read.
    let metrics = curl(&admin, "http://localhost/metrics").await;
    for name in ["clearcoat_process_resident_bytes ", "clearcoat_process_open_files "] {
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert!(value.parse::<f64>().unwrap() > 1.0, "{name}{value}");
    }
    assert_eq!(fs::metadata(&admin).unwrap().permissions().mode() & 0o777, 0o600);

    let second = folder.join("second.toml");
    let text = format!(
        "[[listen]]\naddress = \"unix:{http}\"\n[admin]\nenabled = false\n\
         [pools.web]\nnodes = [\"127.0.0.1:1\"]\n[[site]]\nhosts = [\"*\"]\npool = \"web\"\n"
    );
    fs::write(&second, text).unwrap();
    let told = run_command(&["run", "--config", second.to_str().unwrap()]).await;
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains(&format!("listening on {http}: another process does already")), "{told}");
    assert!(curl(&http, "http://localhost/still").await.starts_with("HTTP/1.1 200"));

    process.signal(Signal::Term);
    assert_eq!(process.exit(wait::PATIENCE).await.code(), Some(0));
    assert!(!Path::new(&http).exists() && !Path::new(&admin).exists(), "sockets go with their process");
}

#[tokio::test]
async fn check_tells_what_the_user_will_not_read_again() {
    if !is_root() {
        return eprintln!("not run: only root can look as another user");
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (certificate, key) = Certificate::of(&["www.example.com"]).write(folder.path());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let file = folder.path().join("clearcoat.toml");
    let text = format!(
        "[[listen]]\naddress = \"127.0.0.1:443\"\ntls.certificates = [{{ cert = {certificate:?}, key = {key:?} }}]\n\
         [pools.web]\nnodes = [\"127.0.0.1:1\"]\n[[site]]\nhosts = [\"*\"]\npool = \"web\"\n\
         [process]\nuser = \"nobody\"\n[log.access]\nfile = \"access.log\"\n"
    );
    fs::write(&file, text).unwrap();
    let told = run_command(&["check", "--config", file.to_str().unwrap()]).await;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(
        told.contains(&format!("warning: nobody cannot read {} (Permission denied", key.display())),
        "{told}"
    );
    assert!(!told.contains(&format!("cannot read {}", certificate.display())), "{told}");
    assert!(
        told.contains("chmod 0640") && told.contains("cannot open") && told.contains("SIGUSR1"),
        "{told}"
    );
    assert!(told.ends_with("no mistakes\n"), "{told}");
}
