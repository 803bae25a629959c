"""One measurement: start a server, see that its answers are right, warm it, load it, stop it."""

import contextlib
import http.client
import itertools
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from .drive import Failed, drive, fetch_all, run


@dataclass
class Context:
    """What every measurement needs to know."""

    folder: Path
    clearcoat: Path
    epoll: Path
    loader: Path
    server_core: str
    load_core: str
    open_files: int
    # Seconds of a measurement and of the warm-up before it.
    seconds: float
    warm: float
    # Fewer pages where time is short.
    most_keys: int = 1 << 30
    # Only that everything runs.
    smoke: bool = False
    node: object = None
    counter: itertools.count = field(default_factory=itertools.count)

    def number(self):
        """A number that no other call gets."""
        return next(self.counter)

    def keys(self, workload):
        return min(workload.keys, self.most_keys)


def measure(context, server, workload, rate=0.0):
    """Requests, seconds, latencies, CPU microseconds a request, and memory of one server under one workload."""
    server.start(workload)
    try:
        etag = verify(context, server, workload)
        if workload.keys:
            fetch_all(context, server.port, workload.path, context.keys(workload))
        if context.warm:
            drive(context, workload, server.port, context.warm, rate, etag)
        clock = []
        with purger(server.port, workload.purges, context.keys(workload)) as purged:
            result = drive(
                context, workload, server.port, context.seconds, rate, etag,
                lambda: clock.append((server.server.cpu_seconds(), context.node.requests())),
            )
        cpu, node = (after - before for before, after in zip(*clock))
        server.server.require_running()
        result["cpu_us"] = cpu * 1e6 / result["requests"]
        result["rps"] = result["requests"] / result["seconds"]
        result["node_requests"] = node
        result["resident"], result["proportional"] = server.server.memory()
        if workload.purges:
            result["purges"] = purged()
        require_right(context, workload, result)
        return result
    finally:
        server.stop()


def require_right(context, workload, result):
    """That hits were hits and misses misses, as the node saw it, and that bodies were as long as they have to be."""
    requests, node = result["requests"], result["node_requests"]
    # Probes, and what was under way at either end.
    right = {"none": node <= 100 + requests * 0.001, "all": node >= requests - 100, "some": 0 < node < requests / 2}
    if not right[workload.node]:
        raise Failed(f"the node had {node} requests of {requests}")
    if result.get("bytes", requests * workload.length) < requests * workload.length:
        raise Failed(f"{result['bytes']} bytes in {requests} answers are too few")
    least = 0 if context.smoke else workload.purges * result["seconds"] * 0.5
    if workload.purges and result["purges"] <= least:
        raise Failed(f"only {result['purges']} purges went out")


def verify(context, server, workload):
    """Asks for the page until it is a hit, and looks at what comes; its ETag."""
    if "h2c" in workload.needs:
        # These listeners speak nothing else.
        url = f"http://127.0.0.1:{server.port}{workload.path}"
        text = run(context, ["h2load", "-n20", "-c1", url], 10)
        if "20 2xx" not in text or f"({20 * workload.length}) data" not in text:
            raise Failed(f"{server.name} answers {workload.name} with\n{text}")
        return ""
    path = workload.path + ("0" if workload.keys else "")
    headers = dict(line.split(": ", 1) for line in workload.headers if "@" not in line)
    method = "POST" if workload.script == "post.lua" else "GET"
    until = time.monotonic() + 30
    while True:
        status, fields, body = ask(server.port, workload.tls, method, path, headers)
        length = workload.length if workload.status == 200 else 1024
        if status == 200 and len(body) != length:
            raise Failed(f"{server.name} answers {path} with {len(body)} bytes in the place of {length}:\n{body[:200]}")
        hit = workload.node == "all" or server.is_hit(fields)
        if status == 200 and hit:
            break
        # Clearcoat's node may not have been probed yet; and the first request is a miss.
        if time.monotonic() > until:
            raise Failed(f"{server.name} answers {path} with {status} {dict(fields)}")
        time.sleep(0.02)
    if "ez" in workload.needs and fields.get("Cache-Control", "").find("private") < 0:
        raise Failed(f"{server.name} lets a session's page out as {fields.get('Cache-Control')}")
    if workload.status == 304:
        status, _, body = ask(server.port, False, method, path, {"If-None-Match": fields["ETag"]})
        if status != 304 or body:
            raise Failed(f"{server.name} answers If-None-Match with {status}")
    return fields.get("ETag", "")


def ask(port, tls, method, path, headers):
    if tls:
        trust = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=trust)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        body = "name=value" if method == "POST" else None
        connection.request(method, path, body=body, headers={"Host": "bench.test", **headers})
        response = connection.getresponse()
        return response.status, response.headers, response.read()


@contextlib.contextmanager
def purger(port, rate, keys):
    """Purges pages by tag beside the load: a connection for each, as PHP clients do. Gives how many were done."""
    done, stopped, failed = [0], threading.Event(), []

    def work():
        next_at = time.monotonic()
        for page in itertools.count():
            next_at += 1 / rate
            if stopped.wait(max(0.0, next_at - time.monotonic())):
                return
            try:
                with socket.create_connection(("127.0.0.1", port), 10) as connection:
                    text = f"PURGEKEYS / HTTP/1.1\r\nHost: bench.test\r\nxkey-purge: page-{page * 7919 % keys}\r\n"
                    connection.sendall(f"{text}Connection: Close\r\n\r\n".encode())
                    status = connection.recv(4096)[9:12]
                if status != b"200":
                    failed.append(status)
            except OSError as error:
                failed.append(error)
            done[0] += 1

    def count():
        if failed:
            raise Failed(f"{len(failed)} purges failed, the first with {failed[0]}")
        return done[0]

    thread = threading.Thread(target=work, daemon=True)
    if rate:
        thread.start()
    try:
        yield count
    finally:
        stopped.set()
        if rate:
            thread.join()


