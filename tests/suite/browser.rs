//! A real browser before the proxy: a page with its assets over one connection, WebSocket, events, uploads and downloads, all by HTTP/2
//! under TLS. The page is `browser.html` beside this; it tells what it saw.

use std::env;
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clearcoat_tests::real::Chromium;
use clearcoat_tests::scripted::Talk;
use clearcoat_tests::{Certificate, Request, Scripted, Setup, wait, websocket};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

const NAME: &str = "www.example.com";
const MIB: u64 = 1 << 20;
const ASSETS: usize = 50;

/// How long all of it may take; usually it takes a quarter of that.
const PATIENCE: Duration = Duration::from_secs(240);

/// A size in MiB that may be set for a longer look: `CLEARCOAT_BROWSER_UPLOAD=1024`.
fn size(variable: &str, usual: u64) -> u64 {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// A whole answer.
async fn answer(talk: &mut Talk, status: u16, lines: &str, body: &str) -> Result<()> {
    let length = body.len();
    talk.say(format!("HTTP/1.1 {status} So\r\nContent-Length: {length}\r\n{lines}\r\n{body}")).await
}

async fn node(mut talk: Talk, told: UnboundedSender<Value>, download: u64) -> Result<()> {
    let path = talk.path().to_owned();
    match path.as_str() {
        "/page" => {
            let lines = "Content-Type: text/html\r\nCache-Control: max-age=60\r\nSurrogate-Control: content=\"ESI/1.0\"\r\n";
            answer(&mut talk, 200, lines, include_str!("browser.html")).await
        }
        "/fragment/text" => answer(&mut talk, 200, "Cache-Control: max-age=60\r\n", "put together").await,
        "/fragment/assets" => {
            let scripts: String =
                (0..ASSETS).map(|number| format!("<script src=\"/asset/{number}.js\"></script>\n")).collect();
            answer(&mut talk, 200, "Cache-Control: max-age=60\r\n", &scripts).await
        }
        "/socket" => websocket::echo(talk).await,
        "/events" => {
            talk.say(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
            )
            .await?;
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
                talk.say_chunk(format!("data: {now}\n\n").as_bytes()).await?;
            }
        }
        "/upload" => {
            let mut taken = 0;
            loop {
                match talk.piece().await?.len() {
                    0 => return answer(&mut talk, 200, "", &taken.to_string()).await,
                    length => taken += length,
                }
            }
        }
        "/refused" => {
            talk.piece().await?;
            answer(&mut talk, 413, "Connection: close\r\n", "too much").await?;
            talk.finish().await?;
            while !talk.piece().await?.is_empty() {}
            Ok(())
        }
        "/download" => {
            talk.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", download * MIB)).await?;
            let piece = vec![0; MIB as usize];
            for _ in 0..download {
                talk.say(&piece).await?;
            }
            Ok(())
        }
        "/result" => {
            let mut body = Vec::new();
            loop {
                let piece = talk.piece().await?;
                if piece.is_empty() {
                    break;
                }
                body.extend_from_slice(&piece);
            }
            told.send(serde_json::from_slice(&body)?)?;
            answer(&mut talk, 204, "", "").await
        }
        asset if asset.starts_with("/asset/") => {
            let lines = "Content-Type: text/javascript\r\nCache-Control: max-age=60\r\n";
            answer(&mut talk, 200, lines, "window.assets = (window.assets || 0) + 1;").await
        }
        _ => answer(&mut talk, 404, "", "").await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_gets_all_of_it_over_one_connection() {
    // The one program that not every machine with the others has.
    let Some(program) = Chromium::program() else { return };
    let upload = size("CLEARCOAT_BROWSER_UPLOAD", 256);
    let download = size("CLEARCOAT_BROWSER_DOWNLOAD", 1024);
    let (tell, mut told) = unbounded_channel();
    let node = Scripted::start(move |talk: Talk| node(talk, tell.clone(), download)).await;
    let certificate = Certificate::of(&[NAME]);
    let proxy = Setup::before(&node)
        .site("esi = true")
        .tls(&[&certificate])
        .more("[log.access]\nfile = \"access.log\"\nformat = \"json\"")
        .start()
        .await;
    proxy.ask(&Request::get("/asset/0.js").host(NAME)).await.expect_status(200);
    let before = proxy.resident_bytes();
    let url = format!("https://{NAME}:{}/page?upload={upload}", proxy.tls_address().port());
    let browser = Chromium::open(&program, &url, &certificate, proxy.folder());

    // Others are served meanwhile, and nothing piles up.
    let (mut most, mut slowest) = (before, Duration::ZERO);
    let begun = Instant::now();
    let result = loop {
        assert!(
            begun.elapsed() < PATIENCE,
            "the page has not told what it saw; it said: {:#?}",
            browser.console()
        );
        if let Ok(Some(result)) = tokio::time::timeout(Duration::from_millis(50), told.recv()).await {
            break result;
        }
        let asked = Instant::now();
        proxy.get("/asset/0.js").await.expect_status(200);
        slowest = slowest.max(asked.elapsed());
        most = most.max(proxy.resident_bytes());
    };
    let growth = (most - before) / MIB;
    let seen = format!("{result:#}\n{growth} MiB more at most, others waited {slowest:?} at most");
    if env::var_os("CLEARCOAT_BROWSER_SHOW").is_some() {
        fs::write(env::temp_dir().join("clearcoat-browser.txt"), &seen).unwrap();
    }

    assert_eq!(result["errors"], Value::Array(Vec::new()), "{seen}");
    assert_eq!(browser.console(), Vec::<String>::new(), "{seen}");
    assert_eq!(
        (result["assets"].as_u64(), result["fragment"].as_str()),
        (Some(ASSETS as u64), Some("put together"))
    );
    let protocols = result["protocols"].as_object().unwrap();
    let by_http2 = protocols.len() == 2 && protocols["h2"].as_u64() > Some(ASSETS as u64);
    assert!(by_http2 && protocols["connections"].as_u64() <= Some(1), "{seen}");
    let socket = &result["socket"];
    assert_eq!((socket["messages"].as_u64(), socket["wrong"].as_u64()), (Some(1000), Some(0)), "{seen}");
    assert_eq!((socket["clean"].as_bool(), socket["code"].as_u64()), (Some(true), Some(1000)), "{seen}");
    assert_eq!(result["events"]["count"].as_u64(), Some(50), "{seen}");
    // Beside an upload and a download that take all of two processors.
    assert!(result["events"]["median"].as_u64() < Some(500), "{seen}");
    assert_eq!(result["upload"]["bytes"].as_u64(), Some(upload * MIB), "{seen}");
    assert_eq!(result["download"]["bytes"].as_u64(), Some(download * MIB), "{seen}");
    assert_eq!(result["streamed"]["bytes"].as_u64(), Some(64 * MIB), "{seen}");
    assert_eq!(result["refused"]["status"].as_u64(), Some(413), "{seen}");
    assert!(growth <= 48, "{seen}");
    assert!(slowest < Duration::from_secs(3), "{seen}");

    // The WebSocket was a stream beside all others (RFC 8441).
    let log = wait::until("the socket to be in the log", async || {
        let text = fs::read_to_string(proxy.folder().join("access.log")).ok()?;
        text.lines().find(|line| line.contains("/socket")).map(str::to_owned)
    })
    .await;
    let record: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(record["status"].as_u64(), Some(200), "{log}");
}
