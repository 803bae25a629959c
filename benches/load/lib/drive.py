"""The drivers: wrk, h2load and the loader, each with its result in one form.

A result has requests, seconds, errors, and p50_us, p99_us, p999_us; bytes where the driver counts them.
"""

import json
import re
import subprocess

from .machine import LOAD

CONNECTIONS = 64


class Failed(RuntimeError):
    """A measurement that may not count."""


def drive(context, workload, port, seconds, rate=0.0, etag="", clock=lambda: None):
    """Loads a server that runs; the result. `clock` is called before the first request and after the last answer."""
    headers = [line.replace("@ETAG@", etag) for line in workload.headers]
    if workload.driver == "loader":
        result = loader(context, workload, port, seconds, rate, headers, clock)
    else:
        clock()
        result = {"wrk": wrk, "h2load": h2load}[workload.driver](context, workload, port, seconds, headers)
        clock()
    if result["errors"] or not result["requests"]:
        raise Failed(f"{result['errors']} errors in {result['requests']} requests")
    return result


def run(context, command, seconds, **options):
    command = ["taskset", "-c", str(context.load_core), *map(str, command)]
    done = subprocess.run(command, capture_output=True, timeout=seconds + 120, check=False, **options)
    if done.returncode:
        raise Failed(f"{' '.join(command)}\n{done.stdout.decode()[-1000:]}{done.stderr.decode()[-1000:]}")
    return done.stdout.decode()


def wrk(context, workload, port, seconds, headers):
    scheme = "https" if workload.tls else "http"
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", workload.script, "-H", "Host: bench.test"]
    for line in headers:
        command += ["-H", line]
    command.append(f"{scheme}://127.0.0.1:{port}{workload.path}")
    if workload.arguments:
        law, *exponent = workload.arguments
        # New URLs have to be new in the warm-up and in each round.
        path = f"{workload.path}{context.number()}-" if law == "new" else workload.path
        command += ["--", law, path, context.keys(workload), *exponent]
    return json.loads(run(context, command, seconds, cwd=LOAD / "lua").splitlines()[-1])


def h2load(context, workload, port, seconds, headers):
    log = context.folder / "h2load.log"
    log.unlink(missing_ok=True)
    scheme = "https" if workload.tls else "http"
    # 64 requests at once, as at wrk, but by eight on a connection.
    command = ["h2load", "-t1", f"-c{CONNECTIONS // 8}", "-m8", "-D", max(1, round(seconds)), f"--log-file={log}"]
    for line in headers:
        command += ["-H", line]
    text = run(context, [*command, f"{scheme}://127.0.0.1:{port}{workload.path}"], seconds)
    if "Application protocol: h2" not in text:
        raise Failed(f"this was not HTTP/2:\n{text}")
    # Time, status and microseconds of each; one that was cut off at the end has the status -1.
    times, errors = [], 0
    with open(log) as lines:
        for line in lines:
            _, status, time = line.split()
            if int(status) == workload.status:
                times.append(int(time))
            elif int(status) != -1:
                errors += 1
    if not times:
        raise Failed(text)
    times.sort()
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))]
    moved = int(re.search(r"(\d+)\) data", text).group(1))
    seconds = float(re.search(r"finished in ([\d.]+)s", text).group(1))
    return {
        "requests": len(times), "seconds": seconds, "errors": errors, "bytes": moved,
        "p50_us": at(0.5), "p99_us": at(0.99), "p999_us": at(0.999),
    }


def loader(context, workload, port, seconds, rate, headers, clock):
    command = ["taskset", "-c", str(context.load_core), context.loader, "--server", f"127.0.0.1:{port}", "--wait"]
    command += ["--path", workload.path, "--length", workload.length, "--expect", workload.status]
    command += ["--connections", CONNECTIONS, "--idle", workload.idle, "--rate", rate, "--seconds", seconds]
    for line in headers:
        command += ["--header", line]
    with subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout.readline().strip() == "ready":
            clock()
            process.stdin.write("\n")
            process.stdin.flush()
        text = process.stdout.readline()
        # The connections are still there.
        clock()
    if process.returncode:
        raise Failed("the loader failed, see above")
    return json.loads(text)


def fetch_all(context, port, path, keys):
    """Asks once for each of many URLs, over eight connections."""
    command = [context.loader, "--server", f"127.0.0.1:{port}", "--path", path, "--keys", keys, "--once"]
    result = json.loads(run(context, [*command, "--connections", 8], 3600))
    if result["errors"]:
        raise Failed(f"{result['errors']} errors while it was filled")
