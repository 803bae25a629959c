//! The rules of the house, read off the manifests and the sources: who may know what.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The workspace's folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn manifest(folder: &str) -> toml::Table {
    let file =
        if folder.is_empty() { root().join("Cargo.toml") } else { root().join(folder).join("Cargo.toml") };
    fs::read_to_string(&file).unwrap().parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Names of what a crate is built on, tests aside.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest = manifest(folder);
    let tables = [manifest.get("dependencies"), manifest.get("build-dependencies")];
    tables
        .into_iter()
        .flatten()
        .filter_map(toml::Value::as_table)
        .flat_map(|table| table.keys().cloned())
        .collect()
}

#[test]
fn the_house_has_six_rooms() {
    let workspace = manifest("");
    let members: BTreeSet<&str> = workspace["workspace"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(toml::Value::as_str)
        // A room may have chambers.
        .filter_map(|member| member.split('/').next())
        .collect();
    assert_eq!(members, BTreeSet::from(["benches", "cache", "conf", "proxy", "purge", "tests"]));
}

#[test]
fn who_knows_whom() {
    let ours = |folder: &str| -> Vec<String> {
        dependencies(folder).into_iter().filter(|name| name.starts_with("clearcoat")).collect()
    };
    assert_eq!(ours("cache"), [""; 0]);
    assert_eq!(ours("conf"), [""; 0]);
    assert_eq!(ours("purge"), ["clearcoat-cache"]);
    assert_eq!(ours("tests/fuzz"), ["clearcoat", "clearcoat-cache", "clearcoat-purge"]);
    assert_eq!(ours("tests"), [""; 0], "the suite knows the binary only, over the wire");
}

#[test]
fn only_the_proxy_knows_the_network() {
    let network = [
        "pingora",
        "hyper",
        "reqwest",
        "h2",
        "rustls",
        "hickory",
        "socket2",
        "mio",
        "axum",
        "async-std",
        "smol",
    ];
    // What a client needs to visit the proxy in HTTP/2 and under TLS.
    let for_visitors = |folder: &str, name: &str| folder == "tests" && ["h2", "rustls"].contains(&name);
    for folder in ["cache", "purge", "conf", "benches", "tests"] {
        for name in dependencies(folder) {
            let network = network.iter().any(|word| name.starts_with(word));
            assert!(!network || for_visitors(folder, &name), "{folder} depends on {name}");
        }
    }
    // Waking waiters is all that the cache needs of tokio, and the two others need nothing.
    for folder in ["purge", "conf"] {
        assert!(!dependencies(folder).contains("tokio"), "{folder} depends on tokio");
    }
}

#[test]
fn the_rule_crates_open_no_sockets_and_read_no_clock() {
    let words = [
        "std::net::Tcp",
        "std::net::Udp",
        "TcpStream",
        "TcpListener",
        "UnixStream",
        "tokio::net",
        "tokio::spawn",
        "tokio::time",
        "tokio::fs",
        "thread::spawn",
        "SystemTime::now",
        "Instant::now",
        "env::var",
        "pingora",
    ];
    let mut read = 0;
    for folder in ["cache", "purge", "conf"] {
        for file in sources(&root().join(folder).join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            read += 1;
            for (number, line) in product_lines(&text) {
                let found = words.iter().find(|word| line.contains(**word));
                assert!(found.is_none(), "{}:{number}: {line}", file.display());
            }
        }
    }
    assert!(read >= 3, "the sources are where they were");
}

/// The page on security names the test of each guard; none may be named that is not there.
#[test]
fn the_tests_that_the_security_page_names_exist() {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let mut named = 0;
    for (file, name) in page.split('`').filter_map(|text| text.split_once("::")) {
        let source = root().join("tests/suite").join(file).with_extension("rs");
        let source = fs::read_to_string(&source).unwrap_or_else(|error| panic!("{file}::{name}: {error}"));
        let test =
            |attribute: &str, function: &str| source.contains(&format!("#[{attribute}]\n{function} {name}("));
        assert!(test("tokio::test", "async fn") || test("test", "fn"), "{file}::{name} is no test");
        named += 1;
    }
    assert!(named >= 50, "{named} tests are named");
}

/// All Rust sources of a folder, files that hold nothing but tests aside.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if matches!(name.as_str(), "tests" | "test") {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Lines with their numbers, without comments and without the test module at the end of a file.
fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let test_module = |line: &&str| !line.starts_with("#[cfg(test)]");
    let lines = text.lines().take_while(test_module).enumerate();
    lines.map(|(number, line)| (number + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn nothing_is_ignored_or_left_for_later() {
    // Put together here, so that this file does not find itself.
    let words = ["to", "do!("].concat();
    let others = [["#[ig", "nore"].concat(), ["unimple", "mented!("].concat(), words];
    for folder in ["cache", "purge", "conf", "proxy", "benches", "tests"] {
        for place in ["src", "suite", "tests"] {
            let place = root().join(folder).join(place);
            if !place.is_dir() {
                continue;
            }
            for file in sources(&place) {
                let text = fs::read_to_string(&file).unwrap();
                let found = others.iter().find(|word| text.contains(word.as_str()));
                assert!(found.is_none(), "{} has {found:?}", file.display());
            }
        }
    }
}
