//! The examples are good, complete and true.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clearcoat_conf::{Config, parse, schema};
use serde_json::Value;

const EVERY_KEY: &str = include_str!("../examples/every-key.toml");

/// Name and text of every example.
fn examples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut examples: Vec<_> =
        files.map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap())).collect();
    examples.sort();
    assert!(examples.len() >= 4);
    examples
}

fn read(text: &str, name: &str) -> Config {
    parse(text, name, &|_| Some("token-for-tests".to_owned())).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// The text as JSON, as the schema sees it.
fn as_json(text: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
}

#[test]
fn every_example_fits_the_schema_and_is_good() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for (name, text) in examples() {
        read(&text, &name);
        let errors: Vec<_> = validator
            .iter_errors(&as_json(&text))
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}

#[test]
fn the_schema_refuses_what_the_check_refuses_by_it() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    assert!(!validator.is_valid(&as_json(include_str!("many_mistakes.toml"))));
    for line in ["threads = 0", "threads = \"1\"", "color = 1", "cache.keep = \"5\"", "purge.token = {}"] {
        let text = format!("{}\n{}", line, include_str!("../examples/minimal.toml"));
        assert!(!validator.is_valid(&as_json(&text)), "{line}");
        assert!(parse(&text, "x.toml", &|_| None).is_err(), "{line}");
    }
}

#[test]
fn every_example_reads_back_from_what_explain_writes() {
    for (name, text) in examples() {
        let mut config = read(&text, &name);
        assert!(!config.to_toml().contains("token-for-tests"), "{name}");
        // Secrets are not written, and an address for everyone needs one.
        if let Some(admin) = &mut config.admin {
            admin.token = None;
            admin.address = "127.0.0.1:6082".parse().unwrap();
        }
        config.purge.token = None;
        assert_eq!(read(&config.to_toml(), &name), config, "{}", config.to_toml());
    }
}

#[test]
fn every_key_shows_the_defaults() {
    let rest_left_out = r#"
        [[listen]]
        address = "0.0.0.0:80"
        [[listen]]
        address = "0.0.0.0:443"
        [[listen.tls.certificates]]
        cert = "/etc/clearcoat/www.pem"
        key = "/etc/clearcoat/www.key"
        [[listen.tls.certificates]]
        cert = "/etc/clearcoat/shop.pem"
        key = "/etc/clearcoat/shop.key"
        ocsp = "/etc/clearcoat/shop.ocsp"

        [[listen]]
        address = "unix:/run/clearcoat/http.sock"

        [pools.web]
        nodes = ["10.0.0.11:80", "10.0.0.12:80", { address = "web3.internal:8080", max_connections = 48 }]
        health = { type = "http" }

        [pools.images]
        nodes = ["images.internal:443"]
        balance = "hash"
        tls = {}

        [[site]]
        hosts = ["*"]
        pool = "web"
        route = [{ path = "/images/*" }, { path = "/search" }]
        [[site.normalise]]
        header = "Accept-Language"
        languages = ["en", "de", "fr"]
        [[site.normalise]]
        header = "User-Agent"
        classes = [{ value = "mobile", pattern = "(?i)mobi|android" }]
        otherwise = "desktop"
        as = "X-Device"
        [[site.rate_limit]]
        name = "login"
        paths = ["/login", "/user/*"]
        methods = ["POST"]
        rate = "10/m"

        [[site]]
        hosts = ["static.example.com"]
        pool = "web"
        route = [{ path = "/thumbnail" }]

        [[site]]
        hosts = ["shop.example.com"]
        pool = "web"
        user_context = {}

        [log.access]
        file = "/var/log/clearcoat/access.log"
    "#;
    assert_eq!(read(EVERY_KEY, "every-key.toml"), read(rest_left_out, "defaults.toml"));
}

#[test]
fn every_key_mentions_every_key() {
    let schema = schema();
    let mut known = BTreeSet::new();
    keys_of_schema(&schema, &schema, "", &mut known);
    assert!(known.len() > 70 && known.contains("pools.NAME.nodes.weight"), "{known:?}");

    let mut shown = BTreeSet::new();
    keys_of_file(&as_json(&without_comment_marks()), "", &mut shown);
    let missing: Vec<_> = known.difference(&shown).collect();
    assert!(missing.is_empty(), "not in every-key.toml: {missing:?}");
}

#[test]
fn the_keys_in_comments_are_good_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("purge-token");
    fs::write(&secret, "token-for-tests\n").unwrap();
    let passwords = folder.path().join("htpasswd");
    fs::write(&passwords, format!("# staging\nbert:$2y$10${}\n", "b".repeat(53))).unwrap();
    let text = without_comment_marks()
        .replace("/run/secrets/purge-token", &secret.display().to_string())
        .replace("/etc/clearcoat/htpasswd", &passwords.display().to_string())
        .replace("address = \"127.0.0.1:6082\"", "address = \"unix:/run/clearcoat/admin.sock\"")
        .replace("listen = \"127.0.0.1:11311\"", "listen = \"unix:/run/clearcoat/memcached.sock\"");
    let config = read(&text, "every-key.toml");
    assert_eq!(config.threads.unwrap().get(), 8);
    assert_eq!(config.purge.token.unwrap().expose(), "token-for-tests");
}

#[test]
fn descriptions_tell_the_same_defaults() {
    let schema = schema();
    let file = as_json(EVERY_KEY);
    let mut compared = 0;
    for (section, table) in [
        ("", "File"),
        ("/listen/0", "ListenTable"),
        ("/listen/1/tls", "ListenTlsTable"),
        ("/admin", "AdminTable"),
        ("/cache", "CacheTable"),
        ("/cache/compress", "CompressTable"),
        ("/pools/web", "PoolTable"),
        ("/pools/images", "PoolTable"),
        ("/pools/images/tls", "NodeTlsTable"),
        ("/pools/web/health", "HealthTable"),
        ("/pools/web/passive", "PassiveTable"),
        ("/pools/web/queue", "QueueTable"),
        ("/pools/web/retry", "RetryTable"),
        ("/pools/web/timeouts", "TimeoutsTable"),
        ("/pools/web/dns", "DnsTable"),
        ("/site/0", "SiteTable"),
        ("/site/2/user_context", "UserContextTable"),
        ("/purge", "PurgeTable"),
        ("/sessions", "SessionsTable"),
        ("/limits", "LimitsTable"),
        ("/process", "ProcessTable"),
        ("/log", "LogTable"),
        ("/log/access", "AccessLogTable"),
    ] {
        let properties = match table {
            "File" => &schema["properties"],
            table => &schema["$defs"][table]["properties"],
        };
        for (key, value) in file.pointer(section).unwrap().as_object().unwrap() {
            let description = properties[key]["description"].as_str().unwrap_or_default();
            let shown = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                Value::Array(_) | Value::Object(_) | Value::Null => continue,
            };
            // These two defaults are rules; what has no default says nothing; the second pool chose to hash.
            let excepted = matches!(key.as_str(), "max_entry" | "type")
                || section.ends_with("images") && key == "balance";
            if let (Some((_, default)), false) = (description.split_once("Default "), excepted) {
                assert_eq!(default.trim_end_matches('.'), shown, "{section}/{key}");
                compared += 1;
            }
        }
    }
    assert!(compared > 40, "only {compared} were compared");
}

/// `every-key.toml` with the keys in comments put in force: lines that begin with `#` and a key at once.
fn without_comment_marks() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|first: char| first.is_ascii_lowercase()) => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    EVERY_KEY.lines().map(line).collect()
}

/// The keys of the schema, lists and names of pools left out: `pools.NAME.nodes.weight`.
fn keys_of_schema(root: &Value, schema: &Value, path: &str, keys: &mut BTreeSet<String>) {
    if let Some(target) = schema["$ref"].as_str() {
        return keys_of_schema(root, root.pointer(target.trim_start_matches('#')).unwrap(), path, keys);
    }
    // A secret's own two keys are described once, with the first secret.
    if schema["title"] == "secret" {
        return;
    }
    for choice in schema["anyOf"].as_array().into_iter().flatten() {
        keys_of_schema(root, choice, path, keys);
    }
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{key}").trim_start_matches('.').to_owned();
        keys_of_schema(root, property, &path, keys);
        keys.insert(path);
    }
    if schema["items"].is_object() {
        keys_of_schema(root, &schema["items"], path, keys);
    }
    if schema["additionalProperties"].is_object() {
        keys_of_schema(root, &schema["additionalProperties"], &format!("{path}.NAME"), keys);
    }
}

fn keys_of_file(value: &Value, path: &str, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                let key = if path == "pools" { "NAME" } else { key };
                let path = format!("{path}.{key}").trim_start_matches('.').to_owned();
                keys_of_file(value, &path, keys);
                keys.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys_of_file(item, path, keys)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
