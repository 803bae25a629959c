"""What a stored object takes: a million pages of 1 KiB with the same headers at each server, in one run."""

from .drive import fetch_all
from .machine import say
from .workloads import CACHES, Workload

PAGE = Workload("memory", "pages of 1 KiB, each fetched once", path="/1k/o", servers=CACHES)


def measure_all(context, contestants, objects):
    """Bytes an object, by server: of the processes (proportional), and of files in memory where bodies are files."""
    found = {}
    for server in contestants:
        # HAProxy's cache is one block of shared memory of a fixed size.
        if server.name not in ("clearcoat", "varnish", "nginx"):
            continue
        server.start(PAGE)
        try:
            # Threads, tables and connections are there before the first of the pages counts.
            fetch_all(context, server.port, "/1k/before", 1000)
            _, before = server.server.memory()
            fetch_all(context, server.port, PAGE.path, objects)
            _, after = server.server.memory()
            files = context.folder / f"{server.name}-cache"
            blocks = sum(file.stat().st_blocks * 512 for file in files.rglob("*") if file.is_file()) if files.is_dir() else 0
        finally:
            server.stop()
        found[server.name] = round((after - before) / objects), round(blocks / objects)
        say(f"memory       {server.name:10} {found[server.name][0]:,} bytes an object in the process, {found[server.name][1]:,} in files")
    return found
