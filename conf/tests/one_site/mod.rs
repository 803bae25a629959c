//! What a file needs besides the part that a test is about.

/// A file with one site; its own keys may follow at once.
pub(crate) const FILE: &str = r#"
listen = [{ address = "0.0.0.0:80" }]
pools.web.nodes = ["10.0.0.11:80"]
[[site]]
hosts = ["*"]
pool = "web"
"#;
