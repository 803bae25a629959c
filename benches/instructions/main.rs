//! Calls one operation so many times, for `instructions/run` to count what it takes under callgrind.
//!
//!     instructions                    the names, one a line
//!     instructions NAME COUNT [SIZE]  makes NAME ready and calls it COUNT times; SIZE is what stores are divided by [1]
//!
//! It prints nothing then and measures nothing: callgrind is told to count in [`instructions_are_counted_here`] only, so that
//! making ready is not in the numbers, however long it takes and whatever the seeds of hash tables are.

use std::hint::black_box;

use anyhow::{Context as _, bail};
use clearcoat::measured::Format;
use clearcoat_benches::operations::{serve, store};
use clearcoat_benches::site::HOST;
use clearcoat_benches::visit::Client;

/// An operation, ready to be called.
type Ready = Box<dyn FnMut()>;

/// How often it will be called, and how large a store of so many entries is now.
#[derive(Clone, Copy)]
struct Scale {
    count: u64,
    divisor: u64,
}

impl Scale {
    fn entries(self, full: u64) -> u64 {
        (full / self.divisor).max(1)
    }
}

/// Makes an operation ready.
type Make = fn(Scale) -> Ready;

/// Names as in the micro benches.
const OPERATIONS: [(&str, Make); 16] = [
    ("lookup_hit_1k", |scale| ready(store::lookup_hit(scale.entries(1000)))),
    ("lookup_hit_100k", |scale| ready(store::lookup_hit(scale.entries(100_000)))),
    ("key_of_url", |_| ready(store::key_of_url())),
    ("assess_freshness", |_| ready(store::assess_page())),
    ("freshness_of_entry", |_| ready(store::freshness_of_entry())),
    ("purge_tag_1_of_10k", |scale| ready(store::purge_tag(scale.entries(10_000), scale.count))),
    ("route_of_twelve", |_| ready(serve::route(HOST, "/news/archive/river-summer-12345?page=2"))),
    ("read_head_curl", |_| ready(serve::read_head(Client::Curl))),
    ("read_head_browser", |_| ready(serve::read_head(Client::Browser))),
    ("write_head_of_hit", |_| ready(serve::hit_head())),
    ("decide_hit_browser", |scale| ready(serve::decide(Client::Browser, scale.entries(1000)))),
    ("answer_hit_browser", |scale| ready(serve::answer_hit(Client::Browser, scale.entries(1000)))),
    ("line_combined", |_| ready(serve::log_line(Client::Browser, Format::Combined))),
    ("line_json", |_| ready(serve::log_line(Client::Browser, Format::Json))),
    ("read_page_16k_0_includes", |_| ready(serve::read_page(0))),
    ("read_page_16k_5_includes", |_| ready(serve::read_page(5))),
];

fn ready<T>(mut operation: impl FnMut() -> T + 'static) -> Ready {
    Box::new(move || drop(black_box(operation())))
}

/// `run` knows it by this name.
#[inline(never)]
fn instructions_are_counted_here(count: u64, operation: &mut dyn FnMut()) {
    for _ in 0..count {
        operation();
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, count, divisor) = match &*arguments {
        [] => {
            let names = OPERATIONS.map(|(name, _)| name).join("\n");
            return std::io::Write::write_all(&mut std::io::stdout(), format!("{names}\n").as_bytes())
                .context("writing the names");
        }
        [name, count] => (name, count, "1"),
        [name, count, divisor] => (name, count, &**divisor),
        [..] => bail!("name, count and size are all that is taken"),
    };
    let number = |text: &str| text.parse::<u64>().with_context(|| format!("{text:?} is no number"));
    let scale = Scale { count: number(count)?, divisor: number(divisor)?.max(1) };
    let (_, make) = OPERATIONS
        .iter()
        .find(|(known, _)| known == name)
        .with_context(|| format!("there is no operation {name}"))?;
    let mut operation = make(scale);
    instructions_are_counted_here(scale.count, black_box(&mut *operation));
    Ok(())
}
