//! What a listener offers under TLS, seen by OpenSSL and by `tests/tls/offers`: old versions and weak suites are not to be had.

use std::path::Path;
use std::process::{Output, Stdio};

use clearcoat_tests::{Certificate, Node, Page, Proxy, Setup};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const NAME: &str = "www.example.com";

async fn secure() -> (Proxy, Node) {
    let node = Node::start().await;
    node.serve_everything(Page::text("page").no_store());
    (Setup::before(&node).site("hsts = {}").tls(&[&Certificate::of(&[NAME])]).start().await, node)
}

/// What `openssl s_client` says of a handshake with these arguments.
async fn client(proxy: &Proxy, arguments: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-servername", NAME, "-connect", &proxy.tls_address().to_string()]);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"Q\n").await.unwrap();
    let Output { stdout, stderr, .. } = child.wait_with_output().await.unwrap();
    [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}

#[tokio::test]
async fn openssl_gets_the_versions_of_today_and_none_before() {
    let (proxy, _node) = secure().await;
    // At this level OpenSSL itself would take them.
    const ALL: &str = "DEFAULT:@SECLEVEL=0";
    for (version, good) in
        [("-tls1", None), ("-tls1_1", None), ("-tls1_2", Some("TLSv1.2")), ("-tls1_3", Some("TLSv1.3"))]
    {
        let said = client(&proxy, &[version, "-cipher", ALL]).await;
        match good {
            Some(name) => assert!(said.contains(&format!("New, {name}, Cipher is ")), "{version}: {said}"),
            // By which alert depends on what else it says.
            None => assert!(
                said.contains("Cipher is (NONE)") && said.contains("SSL alert number"),
                "{version}: {said}"
            ),
        }
    }
    for weak in [
        "AES128-SHA",
        "AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-SHA",
        "DHE-RSA-AES256-GCM-SHA384",
        "aNULL",
        "eNULL",
    ] {
        let said = client(&proxy, &["-tls1_2", "-cipher", &format!("{weak}:@SECLEVEL=0")]).await;
        assert!(said.contains("alert handshake failure"), "{weak}: {said}");
    }
    for (offered, chosen) in
        [("h2", "h2"), ("http/1.1", "http/1.1"), ("h2,http/1.1", "h2"), ("http/1.1,h2", "h2")]
    {
        let said = client(&proxy, &["-alpn", offered]).await;
        assert!(said.contains(&format!("ALPN protocol: {chosen}\n")), "{offered}: {said}");
    }
    assert!(client(&proxy, &["-alpn", "spdy/3"]).await.contains("alert no application protocol"));
}

#[tokio::test]
async fn the_table_is_as_the_manual_has_it() {
    let (proxy, _node) = secure().await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("tls/offers"));
    command.arg(proxy.tls_address().to_string()).arg(NAME).kill_on_drop(true);
    let Output { status, stdout, stderr } = command.output().await.unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    let said = String::from_utf8(stdout).unwrap();
    let manual = std::fs::read_to_string(root.join("../docs/tls.md")).unwrap();
    let rows = |text: &str| -> Vec<String> {
        // Names of the certificate's holder are this test's own.
        let rows = text.lines().filter(|line| line.starts_with("| ") && !line.contains("(SNI)"));
        rows.map(str::to_owned).collect()
    };
    let (said, manual) = (rows(&said), rows(&manual));
    assert!(said.len() > 20, "{said:?}");
    for row in &said {
        assert!(manual.contains(row), "not in docs/tls.md: {row}");
    }
}
