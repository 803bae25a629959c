//! The configuration as an operator meets it: every mistake at once, with its place, before anything is touched.

use std::fs;

use clearcoat_tests::ports::Port;
use clearcoat_tests::proxy::run_command;

/// Eight mistakes, each marked with the words that its message must have.
const MISTAKES: &str = r#"shutdown_timeout = "10"            # shutdown_timeout
[[listen]]
address = "LISTEN"
[cache]
memory = "lots"                    # memory
max_variants = 0                   # max_variants
gracee = "1s"                      # grace
[pools.web]
nodes = ["127.0.0.1"]              # port
balance = "fastest"                # balance
[[site]]
hosts = ["*"]
pool = "wep"                       # web
[purge]
allow = ["300.1.1.1"]              # 300.1.1.1
"#;

#[tokio::test]
async fn all_mistakes_are_told_in_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::claim();
    let file = folder.path().join("clearcoat.toml");
    let text = MISTAKES.replace("LISTEN", &port.address().to_string());
    fs::write(&file, &text).unwrap();
    let name = file.to_str().unwrap();
    for command in ["check", "run"] {
        let output = run_command(&[command, "--config", name]).await;
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}: {errors}");
        let told: Vec<(usize, usize, &str)> = errors.lines().filter_map(|line| place(line, name)).collect();
        for (number, line) in text.lines().enumerate() {
            let Some((_, word)) = line.split_once("# ") else { continue };
            let here: Vec<_> = told.iter().filter(|(at, ..)| *at == number + 1).collect();
            assert_eq!(here.len(), 1, "{command}: one message for {line:?}:\n{errors}");
            let (_, column, message) = here[0];
            assert!(message.contains(word), "{command}: {message:?} does not name {word:?}");
            assert!((1..=line.len()).contains(column), "{command}: column {column} of {line:?}");
        }
        assert_eq!(told.len(), 8, "{command}:\n{errors}");
        std::net::TcpListener::bind(port.address()).expect("nothing was bound");
    }
}

/// Line, column and text of `FILE:LINE:COLUMN: text`.
fn place<'a>(line: &'a str, file: &str) -> Option<(usize, usize, &'a str)> {
    let rest = line.strip_prefix(file)?.strip_prefix(':')?;
    let (number, rest) = rest.split_once(':')?;
    let (column, message) = rest.split_once(':')?;
    Some((number.parse().ok()?, column.parse().ok()?, message.trim()))
}

#[tokio::test]
async fn a_broken_file_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clearcoat.toml");
    fs::write(&file, "[[listen]]\naddress = \"127.0.0.1:80\n").unwrap();
    let name = file.to_str().unwrap();
    let output = run_command(&["check", "--config", name]).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    let told: Vec<_> = errors.lines().filter_map(|line| place(line, name)).collect();
    assert!(told.len() == 1 && told[0].0 == 2, "{errors}");
}

#[tokio::test]
async fn a_missing_file_is_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("none.toml");
    for command in ["check", "run"] {
        let output = run_command(&[command, "--config", file.to_str().unwrap()]).await;
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("none.toml"), "{output:?}");
    }
}

#[tokio::test]
async fn a_good_file_passes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clearcoat.toml");
    let text = r#"
        [[listen]]
        address = "127.0.0.1:8080"
        [pools.web]
        nodes = ["127.0.0.1:8001", { address = "127.0.0.1:8002", weight = 2, backup = false, max_connections = 10 }, "unix:/run/web.sock"]
        balance = "hash"
        hash_on = "cookie:eZSESSID*"
        health = { type = "tcp", interval = "2s" }
        passive = { errors = 5, eject = "10s", eject_max = "5m", max_ejected_percent = 50 }
        slow_start = "10s"
        queue = { length = 1024, timeout = "5s" }
        retry = { attempts = 3, budget_percent = 20, min_per_second = 10 }
        timeouts = { connect = "1s", first_byte = "60s", between_bytes = "30s", idle = "60s" }
        [[site]]
        hosts = ["*"]
        pool = "web"
        "#;
    fs::write(&file, text).unwrap();
    let output = run_command(&["check", "--config", file.to_str().unwrap()]).await;
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_file_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clearcoat.toml");
    let text = r#"
        listen = [{ address = "127.0.0.1:8080" }]
        pools.web.nodes = ["127.0.0.1:8001"]
        [cache]
        stale_if_error = "1d"
        [[site]]
        hosts = ["*"]
        pool = "web"
        preset = "ez-platform"
        keep = "1h"
        route = [{ path = "/api/*", esi = false }]
        "#;
    fs::write(&file, text).unwrap();
    let output = run_command(&["check", "--explain", "--config", file.to_str().unwrap()]).await;
    assert!(output.status.success(), "{output:?}");
    let page = String::from_utf8(output.stdout).unwrap();
    let told = |line: &str, from: &str| {
        page.lines()
            .any(|found| found.split_once("  # ").is_some_and(|(rule, of)| rule.trim() == line && of == from))
    };
    for (line, from) in [
        ("grace = \"1h\"", "preset ez-platform"),
        ("esi = true", "preset ez-platform"),
        ("keep = \"1h\"", "site"),
        ("esi = false", "route"),
        ("stale_if_error = \"1d\"", "[cache]"),
        ("set_cookie = \"refuse\"", "default"),
    ] {
        assert!(told(line, from), "{line} from {from} in\n{page}");
    }
    // What is told is a configuration itself.
    fs::write(&file, &page).unwrap();
    let output = run_command(&["check", "--config", file.to_str().unwrap()]).await;
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn the_schema_is_json() {
    let output = run_command(&["schema"]).await;
    assert!(output.status.success(), "{output:?}");
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for key in ["listen", "admin", "cache", "pools", "site", "purge", "limits", "log"] {
        assert!(schema["properties"][key].is_object(), "{key} is not described");
    }
}
