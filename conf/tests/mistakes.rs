//! Files with mistakes: every one is found in one run, once, at its place, with a hint.
#![allow(clippy::unwrap_used)]

use clearcoat_conf::{Mistakes, parse};

/// What a file needs besides the part that a test is about.
const LISTEN: &str = "listen = [{ address = \"0.0.0.0:80\" }]\n";
const POOL: &str = "pools.web.nodes = [\"10.0.0.11:80\"]\n";
const SITE: &str = "site = [{ hosts = [\"*\"], pool = \"web\" }]\n";

#[test]
fn one_run_finds_forty_mistakes() {
    let text = include_str!("many_mistakes.toml");
    let mistakes = mistakes_of(text);
    let expected = [
        (2, 11, "threads", "0 is out of range", "1 to 1024"),
        (
            3,
            20,
            "shutdown_timeout",
            "a duration is expected, not the number 30",
            "shutdown_timeout = \"30s\"",
        ),
        (4, 1, "colour", "there is no key \"colour\"", "the keys here are admin, cache,"),
        (
            9,
            11,
            "listen[1].address",
            "127.0.0.1:80 and 0.0.0.0:80 in line 7 are the same port",
            "another port",
        ),
        (11, 11, "listen[2].address", "0.0.0.0:80 is listened on twice, first in line 7", "another port"),
        (13, 11, "listen[3].address", "\":80\" is not an address", "such as 0.0.0.0:80"),
        (16, 11, "admin.address", "whoever reaches 0.0.0.0:6082", "add a token"),
        (17, 1, "admin.tokn", "there is no key \"tokn\"", "did you mean token?"),
        (20, 10, "cache.memory", "1MiB is not possible", "4MiB or more"),
        (22, 9, "cache.grace", "\"5\" has no unit", "5s"),
        (23, 8, "cache.keep", "\"soon\" is not a duration", "such as 250ms"),
        (26, 26, "pools.web.nodes[1]", "10.0.0.11:80 is in the pool twice", "take it out"),
        (26, 42, "pools.web.nodes[2]", "\"10.0.0.12\" is not the address", "add a port: 10.0.0.12:80"),
        (26, 92, "pools.web.nodes[3].weight", "0 is out of range", "1 to 256"),
        (27, 11, "pools.web.balance", "\"least-request\" is not known", "did you mean \"least-requests\"?"),
        (28, 19, "pools.web.health.path", "\"health\" is not a path", "begin with /"),
        (28, 36, "pools.web.health.fall", "0 is out of range", "1 to 1000"),
        (28, 49, "pools.web.health.expect[0]", "\"200-\" is not a status", "200-299"),
        (28, 70, "pools.web.health.body", "\"(\" is not a regex", "special characters"),
        (28, 87, "pools.web.health.interval", "zero is not possible", "type = \"off\""),
        (29, 1, "pools.web.helth", "there is no key \"helth\"", "did you mean health?"),
        (32, 9, "pools.empty.nodes", "at least one node", "10.0.0.11:80"),
        (34, 9, "pools.spare.nodes", "every node of the pool is a backup", "take backup = true away"),
        (35, 11, "pools.spare.hash_on", "only means something with balance = \"hash\"", "take this key out"),
        (38, 15, "site[0].hosts[1]", "\"example.com:80\" is not a host", "leave out the port: example.com"),
        (39, 8, "site[0].pool", "there is no pool \"wbe\"", "did you mean \"web\"?"),
        (42, 10, "site[1].hosts[0]", "the host * stands in line 38 already", "keep one"),
        (45, 10, "site[1].route[0].path", "\"api\" is not a path pattern", "begin with /"),
        (46, 11, "site[1].route[0].cache", "\"no\" is not known", "cache, pass"),
        (47, 3, "site[1].route[1].path", "is missing", "add path = \"/api/*\""),
        (48, 17, "site[1].route[1].default_ttl", "nothing is stored on this route", "cache = \"cache\""),
        (52, 23, "purge.allow[1]", "\"10.0.0.5/8\" has bits set", "10.0.0.0/8"),
        (52, 37, "purge.allow[2]", "\"all\" is not a network", "192.168.0.0/16"),
        (53, 16, "purge.tag_headers[0]", "\"X Tags\" is not a header name", "Surrogate-Key"),
        (53, 34, "purge.tag_headers[2]", "xkey stands in this list already", "take it out"),
        (54, 17, "purge.token.env", "\"NOT_SET\" is not set", "set it"),
        (57, 16, "limits.header_bytes", "2MiB is not possible", "1KiB to 1MiB"),
        (58, 12, "limits.max_body", "zero is not possible", "leave the key out"),
        (61, 9, "log.level", "\"inof\" is not known", "did you mean \"info\"?"),
        (62, 1, "log.memory", "there is no key \"memory\"", "it belongs in [cache]"),
    ];
    for (mistake, (line, column, key, message, hint)) in mistakes.iter().zip(expected) {
        let place = mistake.place.unwrap();
        assert_eq!((place.line, place.column, mistake.key.as_str()), (line, column, key), "{mistake}");
        assert!(mistake.message.contains(message), "{message:?} in {mistake}");
        assert!(mistake.hint.contains(hint), "{hint:?} in {mistake}");
    }
    assert_eq!(mistakes.len(), expected.len(), "{mistakes}");
    assert_eq!(mistakes.to_string().lines().count(), expected.len());
}

#[test]
fn a_syntax_error_is_reported_alone() {
    check("threads = 0\ngrace = \n", &["2:9 : not TOML"]);
    check("threads = 1\nthreads = 2\n", &["2:1 : not TOML: duplicate key; keep one of the two"]);
    check("[cache]\n[cache]\n", &["2:2 : not TOML: duplicate key"]);
    check(&"[".repeat(10_000), &[": not TOML"]);
}

#[test]
fn what_is_missing_is_named() {
    check("", &["1:1 listen: is missing; add [[listen]]", "1:1 site: is missing; add [[site]]"]);
    check(
        &format!("listen = []\nsite = []\n{POOL}"),
        &["1:10 listen: there is no listener", "2:8 site: there is no site"],
    );
    check(&format!("listen = [{{}}]\n{POOL}{SITE}"), &["1:11 listen[0].address: is missing"]);
    check(&format!("{LISTEN}{SITE}"), &["2:33 site[0].pool: there is no pool \"web\"; define one"]);
    check(&format!("{LISTEN}{SITE}pools.web = {{}}\n"), &["3:13 pools.web.nodes: is missing"]);
    check(
        &format!("{LISTEN}{POOL}site = [{{}}]\n"),
        &["3:9 site[0].hosts: is missing", "3:9 site[0].pool: is missing"],
    );
    check(
        &format!("{LISTEN}{POOL}site = [{{ hosts = [], pool = \"web\" }}]\n"),
        &["3:19 site[0].hosts: a site needs"],
    );
    everyday("pools.two.nodes = [{ weight = 2 }]", &["4:20 pools.two.nodes[0].address: is missing"]);
}

#[test]
fn one_mistake_does_not_make_another() {
    // The pool exists although it is not readable, the list was not empty, the memory was meant to be larger.
    check(&format!("{LISTEN}{SITE}pools = 3\n"), &["3:9 pools: a table is expected"]);
    check(&format!("{LISTEN}{SITE}pools.web = 3\n"), &["3:13 pools.web: a table is expected"]);
    check(
        &format!("{LISTEN}{SITE}pools.web.nodes = [3]\n"),
        &["3:20 pools.web.nodes[0]: a node is expected"],
    );
    check(
        &format!("{LISTEN}{SITE}pools.web.nodes = [\"x\"]\n"),
        &["3:20 pools.web.nodes[0]: \"x\" is not the address"],
    );
    check(&format!("listen = [5]\n{POOL}{SITE}"), &["1:11 listen[0]: a table is expected"]);
    everyday("cache = { memory = 1, max_entry = \"1GiB\" }", &["4:20 cache.memory: 1B is not possible"]);
    everyday("cache = { memory = true, max_entry = \"1GiB\" }", &["4:20 cache.memory: a size is expected"]);
    everyday("admin = { address = \"0.0.0.0:1\", token = 5 }", &["4:42 admin.token: a secret is expected"]);
    everyday(
        "pools.two = { nodes = [\"a:1\"], balance = \"hahs\", hash_on = \"path\" }",
        &["4:42 pools.two.balance"],
    );
    everyday("pools.two = { nodes = [\"1.1.1.1:1\"], tls = { sni = \"-\" } }", &["4:52 pools.two.tls.sni"]);
    everyday("purge.token = { envv = \"A\" }", &["4:17 purge.token.envv: there is no key"]);
}

#[test]
fn wrong_types_say_what_is_expected() {
    everyday("threads = \"8\"", &["4:11 threads: a whole number is expected, not text"]);
    everyday(
        "threads = 99999999999999999999999999999999999999999999",
        &["4:11 threads: the number is out of range"],
    );
    everyday("threads = 1.5", &["4:11 threads: a whole number is expected, not the number 1.5"]);
    everyday("cache.keep = 2020-01-01", &["4:14 cache.keep: a duration is expected, not a date"]);
    everyday("cache.max_entry = -1", &["4:19 cache.max_entry: -1 is out of range"]);
    everyday("admin.enabled = \"no\"", &["4:17 admin.enabled: true or false is expected, not text"]);
    everyday("purge.allow = \"127.0.0.1\"", &["4:15 purge.allow: a list is expected, not text"]);
    everyday(
        "log = { format = 1 }",
        &["4:18 log.format: text is expected, not the number 1; write one of pretty, json"],
    );
    let text = format!("{POOL}{SITE}[listen]\naddress = \"0.0.0.0:80\"\n");
    check(&text, &["3:1 listen: a list is expected, not a table; begin each one with [[listen]]"]);
}

#[test]
fn listeners_share_the_machine() {
    let listen = |extra: &str| format!("{POOL}{SITE}listen = [{{ address = \"0.0.0.0:6082\" }}]\n{extra}");
    check(
        &listen(""),
        &["3:23 listen[0].address: the admin API at 127.0.0.1:6082 and the listener at 0.0.0.0:6082"],
    );
    check(
        &listen("admin.address = \"0.0.0.0:6082\"\nadmin.token = \"x\"\n"),
        &["4:17 admin.address: the admin API"],
    );
    check(&listen("admin.enabled = false\n"), &[]);
    everyday("admin.address = \"[::]:6082\"", &["4:17 admin.address: whoever reaches [::]:6082"]);
    everyday("admin.address = \"unix:/run/admin.sock\"", &[]);
}

#[test]
fn listeners_with_tls_and_http2() {
    let listen = |keys: &str| format!("{POOL}{SITE}listen = [{{ address = \"0.0.0.0:443\", {keys} }}]\n");
    let pair = "{ cert = \"a.pem\", key = \"a.key\" }";
    check(&listen("http2 = true"), &[]);
    check(&listen("http2 = true").replace("0.0.0.0:443", "unix:/run/edge.sock"), &[]);
    check(&listen(&format!("http2 = false, tls = {{ certificates = [{pair}], http2 = false }}")), &[]);
    check(
        &listen(&format!("http2 = true, tls = {{ certificates = [{pair}] }}")),
        &[
            "3:46 listen[0].http2: this is HTTP/2 without TLS, and the listener has TLS; take it out: with TLS it is tls.http2",
        ],
    );
    for (tls, expected) in [
        (
            "{}",
            "listen[0].tls.certificates: is missing; add certificates = [{ cert = \"/etc/clearcoat/www.pem\"",
        ),
        ("{ certificates = [] }", "listen[0].tls.certificates: TLS needs at least one certificate"),
        (
            "{ certificates = [{ cert = \"a\" }] }",
            "listen[0].tls.certificates[0].key: is missing; add key = ",
        ),
        (
            "{ certificates = [{ cert = \"\", key = \"k\" }] }",
            "certificates[0].cert: the path is empty; name a PEM",
        ),
        (
            "{ certificates = [{ cert = \"a\", key = \"k\" }, { cert = \"a\", key = \"l\" }] }",
            "listen[0].tls.certificates[1].cert: the certificate \"a\" stands in this list already",
        ),
        (
            "true",
            "listen[0].tls: a table is expected, not true; write for instance tls = { certificates = [{",
        ),
        (
            "{ cert = \"a\" }",
            "listen[0].tls.cert: there is no key \"cert\" here; it belongs in [listen.tls.certificates]",
        ),
    ] {
        let text = listen(&format!("tls = {tls}"));
        let mistakes = parse(&text, "edge.toml", &|_| None).unwrap_err().to_string();
        assert!(mistakes.contains(expected), "{expected:?} in {mistakes}");
    }
}

#[test]
fn certificates_of_visitors() {
    let read = |auth: &str| {
        let tls = format!(
            "tls = {{ certificates = [{{ cert = \"a\", key = \"b\" }}], client_auth = {{ {auth} }} }}"
        );
        let text = format!(
            "listen = [{{ address = \"0.0.0.0:443\", {tls} }}]\npools.web.nodes = [\"10.0.0.11:80\"]\nsite = [{{ hosts = [\"*\"], pool = \"web\" }}]"
        );
        parse(&text, "edge.toml", &|_| None)
    };
    let auth = |keys: &str| read(keys).unwrap().listen[0].tls.as_ref().unwrap().client_auth.clone().unwrap();
    let usual = auth("ca = \"/ca.pem\"");
    assert!(usual.required && usual.subject_header.is_none() && usual.ca.ends_with("ca.pem"));
    let told = auth("ca = \"/ca.pem\", required = false, subject_header = \"X-Client-Subject\"");
    assert!(!told.required);
    assert_eq!(told.subject_header.unwrap().as_str(), "x-client-subject");
    for (keys, expected) in [
        ("required = true", "ca"),
        ("ca = \"\"", "the path is empty"),
        ("ca = \"/a\", subject_header = \"a b\"", "is not a header name"),
        ("ca = \"/a\", subject_header = \"Cookie\"", "\"Cookie\" cannot tell nodes of a certificate"),
        ("ca = \"/a\", subject_header = \"X-Forwarded-User\"", "cannot tell nodes"),
        ("ca = \"/a\", subject_header = \"X_Subject\"", "cannot tell nodes"),
        ("ca = \"/a\", subject_header = \"X-Real-IP\"", "choose a name of your own"),
    ] {
        let mistakes = read(keys).unwrap_err().to_string();
        assert!(mistakes.contains(expected), "{expected:?} in {mistakes}");
    }
}

#[test]
fn balancers_and_proxies_in_front() {
    let listen = |address: &str, line: &str| {
        format!(
            "listen = [{{ address = \"{address}\", {line} }}]\npools.web.nodes = [\"10.0.0.11:80\"]\nsite = [{{ hosts = [\"*\"], pool = \"web\" }}]"
        )
    };
    let read = |address, line| parse(&listen(address, line), "edge.toml", &|_| None);
    let tcp = read(
        "0.0.0.0:80",
        "proxy_protocol = [\"10.0.0.4\", \"fd00::/8\"], trusted_proxies = [\"10.0.0.0/8\"], client_header = \"forwarded\"",
    );
    let listener = &tcp.unwrap().listen[0];
    assert_eq!(
        listener.proxy_protocol.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.4/32", "fd00::/8"]
    );
    read("unix:/run/a.sock", "proxy_protocol = [\"unix\"], trusted_proxies = [\"unix:\"]").unwrap();
    for (address, line, expected) in [
        (
            "0.0.0.0:80",
            "proxy_protocol = [\"unix\"]",
            "nobody comes to 0.0.0.0:80 as unix; write addresses or networks",
        ),
        (
            "unix:/run/a.sock",
            "trusted_proxies = [\"10.0.0.0/8\"]",
            "as 10.0.0.0/8; on a Unix socket, write \"unix\"",
        ),
        ("0.0.0.0:80", "proxy_protocol = [\"10.0.0.5/8\"]", "has bits set beyond its prefix"),
        ("0.0.0.0:80", "trusted_proxies = [\"balancer\"]", "\"balancer\" is not a network"),
        ("0.0.0.0:80", "trusted_proxies = [\"10.0.0.1\", \"10.0.0.1\"]", "stands in this list already"),
        ("0.0.0.0:80", "client_header = \"x-real-ip\"", "client_header"),
    ] {
        let mistakes = read(address, line).unwrap_err().to_string();
        assert!(mistakes.contains(expected), "{expected:?} in {mistakes}");
    }
}

/// Checks that a site with these keys has exactly these mistakes.
#[track_caller]
fn site(keys: &str, expected: &[&str]) {
    check(&format!("{LISTEN}{POOL}[[site]]\nhosts = [\"*\"]\npool = \"web\"\n{keys}\n"), expected);
}

#[test]
fn who_may_come() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let cdn =
        file("cdn.txt", "# made by the CDN\n173.245.48.0/20  # v4\n\n2400:cb00::/32\n173.245.48.0/20\n");
    let parsed = |keys: &str| {
        let text = format!("{LISTEN}{POOL}[[site]]\nhosts = [\"*\"]\npool = \"web\"\n{keys}\n");
        parse(&text, "edge.toml", &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}")).sites.remove(0)
    };
    let good = parsed(&format!("access = {{ allow = [\"10.0.0.1\", \"unix\", \"file:{cdn}\"], deny = [] }}"));
    let allow: Vec<_> = good.gate.access.allow.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(allow, ["10.0.0.1/32", "unix", "173.245.48.0/20", "2400:cb00::/32", "173.245.48.0/20"]);
    site(
        "access.allow = [\"10.0.0.1\", \"10.0.0.1\"]",
        &["access.allow[1]: the peer 10.0.0.1/32 stands in this list"],
    );
    site("access.deny = [\"everybody\"]", &["site[0].access.deny[0]: \"everybody\" is not a network"]);
    site("access.deny = [\"file:\"]", &["the path is empty; write file:/path"]);
    site("access.deny = [\"file:/nowhere/at.all\"]", &["\"/nowhere/at.all\" cannot be read"]);
    let bad = file("bad.txt", "10.0.0.0/8\n10.0.0.5/8\n");
    site(&format!("access.deny = [\"file:{bad}\"]"), &["has bits set beyond its prefix; write 10.0.0.0/8"]);

    let hash = format!("$2y$10${}", "a".repeat(53));
    let users = file("htpasswd", &format!("anna:{hash}\n\n# gone\nbert:{hash}\n"));
    let good = parsed(&format!("basic_auth = {{ file = \"{users}\", users = [\"carl:{hash}\"] }}"));
    let auth = good.gate.basic_auth.unwrap();
    assert_eq!((auth.users.len(), auth.realm.as_str()), (3, "restricted"));
    site("basic_auth = true", &["true says nothing here; name users or a file"]);
    site("basic_auth = {}", &["nobody would be let in; add file"]);
    site("basic_auth.users = [\"anna\"]", &["this is not NAME:HASH; write what htpasswd -nB"]);
    site("basic_auth.users = [\"anna:secret\"]", &["this is not a password's hash"]);
    site("basic_auth.users = [\"anna:$apr1$x$y\"]", &["MD5 is too weak"]);
    site(
        &format!("basic_auth.users = [\"a:{hash}\", \"a:{hash}\"]"),
        &["this user stands in the list already"],
    );
    site(
        &format!("basic_auth = {{ users = [\"a:{hash}\"], realm = 'a \"b\"' }}"),
        &["a realm has no quotes"],
    );
    let nobody = file("nobody", "# none yet\n");
    site(&format!("basic_auth.file = \"{nobody}\""), &["nobody is in"]);
    let weak = file("weak", &format!("anna:{hash}\nbert:{{SHA}}x\n"));
    site(&format!("basic_auth.file = \"{weak}\""), &["line 2 of"]);
    // What is wrong never tells the secret.
    let told =
        mistakes_of(&format!("{LISTEN}{POOL}[[site]]\nbasic_auth.users = [\"anna:hunter2\"]\n")).to_string();
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn rates_maintenance_and_headers() {
    site("rate_limit = [{}]", &["site[0].rate_limit[0].rate: is missing; add rate = \"10/s\""]);
    site("rate_limit = [{ rate = \"10\" }]", &["\"10\" is not a rate; write requests per time"]);
    site("rate_limit = [{ rate = \"1/s\", by = \"query\" }]", &["\"query\" is nothing to count by"]);
    site("rate_limit = [{ rate = \"1/s\", methods = [\"post\"] }]", &["\"post\" is not a method"]);
    site("rate_limit = [{ rate = \"1/s\", burst = 0 }]", &["0 is out of range"]);
    site(
        "rate_limit = [{ rate = \"1/s\", name = \"a\" }, { rate = \"2/s\", name = \"a\" }]",
        &["another limit is called a"],
    );
    site("max_concurrent = 0", &["0 is out of range"]);
    site("max_body = 0", &["zero is not possible here"]);
    site("maintenance.flag = \"\"", &["the path is empty; name a file, such as /run"]);
    site("maintenance.retry_after = 0", &["maintenance.retry_after"]);
    site("hsts.preload = true", &["browsers have only those built in"]);
    site("hsts = { preload = true, subdomains = true }", &[]);
    site("response_headers = { Content-Length = \"0\" }", &["content-length cannot be set here; it frames"]);
    site("response_headers = { Vary = \"*\" }", &["vary cannot be set here; caches live by it"]);
    site("response_headers = { Strict-Transport-Security = \"x\" }", &["write hsts = {}"]);
    site("response_headers = { X-A = \"a\\nb\" }", &["this is not the value of a header"]);
    site("response_headers = { \"X A\" = \"a\" }", &["is not a header name"]);
    let text = format!(
        "{LISTEN}{POOL}[[site]]\nhosts = [\"*\"]\npool = \"web\"\nresponse_headers = {{ X-A = \"1\", X-B = \"2\" }}\n\
         access.deny = [\"10.0.0.0/8\"]\n[[site.route]]\npath = \"/x\"\nresponse_headers = {{ X-B = \"\", X-C = \"3\" }}\n\
         access.allow = [\"::1\"]\n"
    );
    let config = parse(&text, "edge.toml", &|_| None).unwrap();
    let gate = &config.sites[0].routes[0].gate;
    let headers: Vec<_> =
        gate.response_headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(headers, ["x-a: 1", "x-c: 3"]);
    assert_eq!((gate.access.allow.as_ref().unwrap().len(), gate.access.deny.len()), (1, 1));
    assert_eq!(parse(&config.to_toml(), "again.toml", &|_| None).unwrap(), config);
}

#[test]
fn sockets_and_the_process() {
    everyday(
        "process = { user = \"www-data\", group = \"33\", sandbox = \"require\", core_dumps = true }",
        &[],
    );
    everyday(
        "process.group = \"adm\"",
        &["4:17 process.group: a group is given up for together with a user"],
    );
    everyday("process.user = \"a b\"", &["\"a b\" is no name; write a name, such as clearcoat"]);
    everyday("process.sandbox = \"no\"", &["process.sandbox: \"no\" is not known"]);
    everyday("admin.socket_mode = \"0600\"", &["127.0.0.1:6082 is no Unix socket, so this means nothing"]);
    let admin = "admin.address = \"unix:/run/a.sock\"\n";
    everyday(&format!("{admin}admin.socket_mode = \"0600\"\nadmin.socket_group = \"adm\""), &[]);
    everyday(
        &format!("{admin}admin.socket_mode = \"rw\""),
        &["\"rw\" is no mode of a file; write it as chmod does"],
    );
    everyday(&format!("{admin}admin.socket_mode = \"7777\""), &["is no mode of a file"]);
    check(
        &format!(
            "listen = [{{ address = \"0.0.0.0:80\", socket_user = \"www-data\", hosts = [\"a:80\"] }}]\n{POOL}{SITE}"
        ),
        &[
            "listen[0].socket_user: 0.0.0.0:80 is no Unix socket",
            "listen[0].hosts[0]: \"a:80\" is not a host",
        ],
    );
}

#[test]
fn the_access_log() {
    everyday("log.access = { file = \"stdout\", format = \"json\", buffer = \"64KiB\" }", &[]);
    everyday("log.access = {}", &["4:14 log.access.file: is missing; add file = \"/var/log/"]);
    everyday("log.access.file = \"\"", &["4:19 log.access.file: the path is empty"]);
    everyday(
        "log.access = { file = \"a\", format = \"jsn\" }",
        &["log.access.format: \"jsn\" is not known here; did you mean \"json\"?"],
    );
    everyday(
        "log.access = { file = \"a\", buffer = \"2GiB\" }",
        &["log.access.buffer: 2GiB is not possible here; write a size from 64KiB to 1GiB"],
    );
}

#[test]
fn masked_parameters() {
    everyday("log.mask = []", &[]);
    everyday("log.mask = [\"*token\", \"a*b\"]", &["log.mask[1]: \"a*b\" is not the name of a parameter"]);
    everyday(
        "log.mask = [\"sig\", \"SIG\"]",
        &["log.mask[1]: the parameter sig stands in this list already"],
    );
}

#[test]
fn ids_of_requests() {
    everyday("log.request_id = { enabled = false, header = \"X-Correlation-Id\" }", &[]);
    for name in ["Cookie", "X-Forwarded-For", "X_Request_Id"] {
        let line = format!("log.request_id.header = \"{name}\"");
        everyday(&line, &["log.request_id.header:"]);
    }
}

#[test]
fn bounds_of_limits() {
    for (line, expected) in [
        ("limits.esi_depth = 33", "4:20 limits.esi_depth: 33 is out of range; write a number from 1 to 32"),
        ("limits.esi_fragments = 0", "limits.esi_fragments: 0 is out of range"),
        ("limits.esi_bytes = 0", "limits.esi_bytes: 0B is not possible here; write 1B or more"),
        ("limits.esi_timeout = \"0s\"", "limits.esi_timeout: zero is not possible here; write a long time"),
        ("limits.connections_per_client = 0", "limits.connections_per_client: 0 is out of range"),
        ("limits.min_body_rate = \"2MiB\"", "limits.min_body_rate: 2MiB is not possible here; write a size"),
        ("limits.min_response_rate = \"-1B\"", "limits.min_response_rate: \"-1B\" is not a size"),
        (
            "limits.request_lifetime = \"0s\"",
            "limits.request_lifetime: zero is not possible here; leave the key",
        ),
        (
            "limits.tunnel_timeout = \"0s\"",
            "limits.tunnel_timeout: zero is not possible here; write a long time",
        ),
        ("limits.http2_streams = 65537", "limits.http2_streams: 65537 is out of range"),
    ] {
        everyday(line, &[expected]);
    }
}

#[test]
fn settings_that_contradict_each_other() {
    let pool = |settings: &str| format!("pools.two = {{ nodes = [\"a.b:1\"], {settings} }}");
    everyday(&pool("health = { timeout = \"9s\" }"), &[]);
    everyday(&pool("health = { type = \"off\", path = \"/x\" }"), &[]);
    everyday(
        &pool("health = { type = \"tcp\", path = \"/x\" }"),
        &["health.path: means nothing to a tcp probe"],
    );
    everyday(
        &pool("health = { method = \"HEAD\", body = \"x\" }"),
        &["health.body: the answer to HEAD has no body"],
    );
    everyday(&pool("health = { host = \"*\" }"), &["health.host: \"*\" is not a host"]);
    everyday(&pool("health = { host = \"a.b:8080\" }"), &[]);
    everyday(&pool("health = { expect = [] }"), &["health.expect: no status is expected"]);
    everyday(&pool("health = { expect = [700] }"), &["health.expect[0]: 700 is out of range"]);
    everyday(&pool("passive = { eject = \"10m\" }"), &["passive.eject: the first ejection is longer"]);
    everyday(&pool("passive = { eject_max = \"1s\" }"), &["passive.eject_max: the first ejection is longer"]);
    everyday(&pool("dns = { min_ttl = \"1ms\" }"), &["dns.min_ttl: names cannot be looked up that often"]);
    everyday(&pool("dns = { min_ttl = \"2m\" }"), &["dns.min_ttl: max_ttl is shorter than min_ttl"]);
    everyday(&pool("balance = \"hash\", hash_balance_factor = 100"), &["hash_balance_factor: 100 percent"]);
    everyday(&pool("balance = \"hash\", hash_on = \"ip\""), &["hash_on: \"ip\" cannot be hashed"]);
    everyday(
        &pool("balance = \"hash\", hash_on = \"cookie:a*b\""),
        &["hash_on: \"a*b\" is not a cookie name"],
    );
    everyday(&pool("tls = { verify = true }"), &[]);
    let ip = |tls: &str| format!("pools.two = {{ nodes = [\"10.0.0.1:443\"], tls = {tls} }}");
    everyday(&ip("{}"), &["pools.two.tls: the node 10.0.0.1:443 has no name"]);
    everyday(&ip("{ verify = false }"), &[]);
    everyday(&ip("{ sni = \"web.internal\" }"), &[]);
    everyday("cache.max_entry = \"257MiB\"", &["cache.max_entry: 257MiB is more than cache.memory, 256MiB"]);
    everyday("limits.url_bytes = \"65KiB\"", &["limits.url_bytes: a URL of 65KiB does not fit"]);
    everyday("limits.header_bytes = \"8KiB\"", &["limits.header_bytes: a URL of 16KiB does not fit"]);
    everyday("limits.idle_timeout = \"0s\"", &["limits.idle_timeout: zero is not possible"]);
}

#[test]
fn routes_that_are_never_reached() {
    let site = |routes: &str| {
        format!("{LISTEN}{POOL}site = [{{ hosts = [\"*\"], pool = \"web\", route = [{routes}] }}]\n")
    };
    check(&site("{ path = \"/a*\" }, { path = \"/*\" }"), &[]);
    check(
        &site("{ path = \"/*\" }, { path = \"/a\" }"),
        &["site[0].route[1].path: this route is never reached: /* in line 3"],
    );
    check(
        &site("{ path = \"/a\", pool = \"wbe\" }"),
        &["site[0].route[0].pool: there is no pool \"wbe\"; did you mean"],
    );
}

#[test]
fn columns_count_characters() {
    check(
        &format!("{LISTEN}{POOL}site = [{{ hosts = [\"ü\", \"*\"], pool = \"wéb\" }}]\n"),
        &["3:20 site[0].hosts[0]", "3:38 site[0].pool: there is no pool \"wéb\"; did you mean \"web\"?"],
    );
}

#[test]
fn files_from_windows_are_read() {
    let text = format!("\u{feff}{LISTEN}{POOL}{SITE}threads = 0\nlog.level = 1\n").replace('\n', "\r\n");
    check(&text, &["4:11 threads: 0 is out of range", "5:13 log.level: text is expected"]);
    check("\u{feff}threads = 0\r\n", &["1:1 listen", "1:1 site", "1:11 threads"]);
}

#[test]
fn secrets_come_from_three_places() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "from-file\r\n").unwrap();
    std::fs::write(folder.path().join("empty"), "\n").unwrap();
    let name = folder.path().join("edge.toml").display().to_string();
    let read = |token: &str| {
        let text = format!("{LISTEN}{POOL}{SITE}purge.token = {token}\n");
        let env = |variable: &str| match variable {
            "TOKEN" => Some("from-env".to_owned()),
            "EMPTY" => Some(String::new()),
            "SPACES" => Some("a b".to_owned()),
            _ => None,
        };
        parse(&text, &name, &env).map(|config| config.purge.token.unwrap().expose().to_owned())
    };
    assert_eq!(read("\"in-text\"").unwrap(), "in-text");
    assert_eq!(read("{ env = \"TOKEN\" }").unwrap(), "from-env");
    assert_eq!(read("{ file = \"token\" }").unwrap(), "from-file");
    for (token, message) in [
        ("\"\"", "purge.token: the secret is empty"),
        ("\"zwei wörter\"", "purge.token: the secret has characters"),
        ("{}", "purge.token: the source of the secret is missing"),
        ("{ env = \"NONE\" }", "purge.token.env: the environment variable \"NONE\" is not set"),
        ("{ env = \"EMPTY\" }", "purge.token.env: the environment variable \"EMPTY\" is empty"),
        ("{ env = \"SPACES\" }", "purge.token.env: the secret has characters"),
        ("{ file = \"empty\" }", "empty\" is empty"),
        ("{ file = \"none\" }", "purge.token.file: "),
        ("{ env = \"TOKEN\", file = \"token\" }", "purge.token.file: a secret has one source"),
    ] {
        let mistakes = read(token).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{mistakes}");
        let text = mistakes.to_string();
        assert!(text.contains(message), "{message:?} in {text}");
        assert!(!text.contains("wörter"), "a secret in {text}");
    }
}

/// Checks a good everyday file with one more line, its fourth.
#[track_caller]
fn everyday(line: &str, expected: &[&str]) {
    check(&format!("{LISTEN}{POOL}{SITE}{line}\n"), expected);
}

/// Checks that exactly these mistakes are found; each is a part of `LINE:COLUMN KEY: MESSAGE; HINT`.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let Err(mistakes) = parse(text, "edge.toml", &|_| None) else {
        assert!(expected.is_empty(), "no mistake was found in\n{text}");
        return;
    };
    assert_eq!(mistakes.len(), expected.len(), "in\n{text}\n{mistakes}");
    for (mistake, part) in mistakes.iter().zip(expected) {
        let place = mistake.place.unwrap();
        let shown =
            format!("{}:{} {}: {}; {}", place.line, place.column, mistake.key, mistake.message, mistake.hint);
        assert!(shown.contains(part), "{part:?} in {shown:?}");
        assert!(!mistake.hint.is_empty(), "{mistake}");
    }
}

fn mistakes_of(text: &str) -> Mistakes {
    parse(text, "edge.toml", &|_| None).unwrap_err()
}
