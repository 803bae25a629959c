"""The workloads: one list, one paragraph each. Everything that measures reads it here."""

from dataclasses import dataclass

KILO = 1024

# What a browser of today sends with a page.
BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7",
    "Accept-Encoding: gzip, deflate, br, zstd",
    'Sec-CH-UA: "Chromium";v="131", "Not_A Brand";v="24"',
    "Sec-CH-UA-Mobile: ?0",
    'Sec-CH-UA-Platform: "Linux"',
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-User: ?1",
    "Upgrade-Insecure-Requests: 1",
    "Referer: https://bench.test/",
)
SESSION = "Cookie: eZSESSID21232f297a57a5a743894a0e4a801fc3=4lq1n0v0q6fbt7tihmm1rpdbd3; consent=all; _ga=GA1.2.1403.1700"


@dataclass(frozen=True)
class Workload:
    """One kind of load."""

    name: str
    what: str
    # wrk, h2load, or loader (fixed rate).
    driver: str = "wrk"
    # What is asked for; with keys, the beginning of it.
    path: str = "/1k/a"
    # Bytes of a body.
    length: int = KILO
    status: int = 200
    headers: tuple = ()
    # A file in lua/, with its arguments.
    script: str = "report.lua"
    arguments: tuple = ()
    # How many URLs there are, each fetched once before the clock starts. 0: the one path.
    keys: int = 0
    # What the node may see while the clock runs: none, all, or some of the requests.
    node: str = "none"
    # What a server must be able to do: tls, h2, h2c, ez, esi, tags.
    needs: tuple = ()
    # Who takes part; empty: all that can. And why the others do not.
    servers: tuple = ()
    others: str = "not of interest here"
    # Connections that wait beside the load.
    idle: int = 0
    # Purges a second beside the load.
    purges: int = 0
    # Workloads of the same group are measured in turns, so that they can be compared with each other too.
    group: str = ""

    @property
    def tls(self):
        return "tls" in self.needs or "h2" in self.needs


CACHES = ("clearcoat", "varnish", "nginx", "haproxy")
WITH_YARDSTICK = (*CACHES, "nginx-log", "epoll")

WORKLOADS = [
    Workload("hit-1k", "one page of 1 KiB", servers=WITH_YARDSTICK),
    Workload("hit-16k", "one page of 16 KiB", path="/16k/a", length=16 * KILO, servers=CACHES),
    Workload("hit-256k", "one file of 256 KiB", path="/256k/a", length=256 * KILO, servers=CACHES),
    Workload(
        "zipf-100k", "100,000 pages of 1 KiB, popular by Zipf's law with an exponent of 0.95",
        path="/1k/z", keys=100_000, script="many.lua", arguments=("zipf", "0.95"), servers=CACHES,
    ),
    Workload("browser", "one page of 1 KiB, a browser's headers", headers=BROWSER, servers=WITH_YARDSTICK),
    Workload(
        "ez-session", "one page of 16 KiB that varies by the user-context hash, for a visitor with a session",
        path="/ez/a", length=16 * KILO, headers=(*BROWSER, SESSION), needs=("ez",), servers=CACHES,
    ),
    Workload(
        # Five fragments, and what stands around them in the node's page.html.
        "esi-5", "one page with five fragments of 1 KiB, all warm",
        path="/esi/a", length=5 * (KILO + 20) + 28, needs=("esi",), servers=CACHES,
    ),
    Workload("tls-1k", "one page of 1 KiB over TLS 1.3, kept connections", needs=("tls",), servers=CACHES),
    Workload("h2-1k", "one page of 1 KiB, HTTP/2 over TLS 1.3", driver="h2load", needs=("h2",), servers=CACHES),
    Workload("h2c-1k", "one page of 1 KiB, HTTP/2 by prior knowledge", driver="h2load", needs=("h2c",), servers=CACHES),
    Workload(
        "miss", "every URL new, 1 KiB, stored",
        path="/1k/m", script="many.lua", arguments=("new",), node="all", servers=CACHES,
    ),
    Workload(
        "pass", "a page of 1 KiB that may not be stored, 1,000 URLs",
        path="/no-store/", keys=1000, script="many.lua", arguments=("even",), node="all", servers=CACHES,
    ),
    Workload("post", "a form of 100 bytes to the node", path="/post/", length=7, script="post.lua", node="all", servers=CACHES),
    Workload(
        "304", "one page of 1 KiB, If-None-Match with its ETag",
        headers=("If-None-Match: @ETAG@",), status=304, length=0, needs=("304",), servers=CACHES,
    ),
    Workload(
        "purge-storm", "1,000 pages of 1 KiB, 200 of them purged by tag a second",
        path="/tagged/", keys=1000, script="many.lua", arguments=("even",), node="some", purges=200,
        needs=("tags",), servers=CACHES,
    ),
    Workload("rate-1k", "one page of 1 KiB at half of what the slowest can", driver="loader", servers=WITH_YARDSTICK, group="rate"),
    Workload(
        "idle-10k", "the same, beside 10,000 connections that wait",
        driver="loader", idle=10_000, servers=(*CACHES, "epoll"), group="rate",
    ),
]
