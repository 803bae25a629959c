"""The servers, one class each: how they are started for a workload, and how they say that an answer was a hit."""

import json
import re
import socket
import subprocess
import time

from .machine import fill
from .process import Server

NODE_PORT = 18300


class Contestant:
    """One server. `name` is its column."""

    name = ""
    port = 18301
    # What it cannot do, with the reason for the table.
    cannot = {}

    def __init__(self, context):
        self.context = context
        self.server = None

    def reason_against(self, workload):
        """Why it does not take part, or nothing."""
        if workload.servers and self.name not in workload.servers:
            return workload.others
        return next((reason for need, reason in self.cannot.items() if need in workload.needs), None)

    def values(self, workload):
        return {"PORT": self.port, "NODE_PORT": NODE_PORT, "DIR": self.context.folder}

    def launch(self, command):
        self.server = Server(command, self.context.server_core, self.context.folder / f"{self.name}.out")
        wait_for(self.port, self.server)

    def stop(self):
        if self.server:
            self.server.stop()
            self.server = None

    def is_hit(self, headers):
        raise NotImplementedError


class Clearcoat(Contestant):
    name = "clearcoat"
    port = 18301

    # A need of a workload, and the key of the configuration that serves it.
    KEYS = {"tls": "certificates", "h2": "certificates", "h2c": "http2", "ez": "preset", "esi": "esi"}

    def __init__(self, context):
        super().__init__(context)
        self.threads = 1
        self.memory = "4GiB"
        schema = json.loads(subprocess.run([context.clearcoat, "schema"], capture_output=True, check=True).stdout)
        self.keys = set(names(schema))

    def reason_against(self, workload):
        missing = [key for need, key in self.KEYS.items() if need in workload.needs and key not in self.keys]
        if missing:
            return f"this build has no key `{missing[0]}`"
        return super().reason_against(workload)

    def values(self, workload):
        folder = self.context.folder
        site = {"ez": 'preset = "ez-platform"', "esi": "esi = true"}
        tls = f'[listen.tls]\ncertificates = [{{ cert = "{folder}/cert.pem", key = "{folder}/key.pem" }}]'
        log = f'[log.access]\nfile = "{folder}/clearcoat-access.log"'
        return super().values(workload) | {
            "ADMIN_PORT": self.port + 50,
            "THREADS": self.threads,
            "MEMORY": self.memory,
            "HTTP2": "http2 = true" if "h2c" in workload.needs else "",
            "TLS": tls if workload.tls else "",
            "SITE": "\n".join(site[need] for need in workload.needs if need in site),
            "ACCESS_LOG": log if "access" in self.keys else "",
        }

    def start(self, workload):
        config = self.context.folder / "clearcoat.toml"
        fill("clearcoat.toml", config, self.values(workload))
        self.launch([self.context.clearcoat, "run", "--config", config])

    def is_hit(self, headers):
        return "hit" in headers.get("Cache-Status", "")


class Varnish(Contestant):
    name = "varnish"
    port = 18302
    cannot = {"tls": "Varnish has no TLS", "h2": "Varnish has no TLS"}

    def start(self, workload):
        folder = self.context.folder
        vcl = folder / "varnish.vcl"
        fill("varnish-ez.vcl" if "ez" in workload.needs else "varnish.vcl", vcl, self.values(workload))
        options = ["-a", f"127.0.0.1:{self.port}", "-f", vcl, "-s", "malloc,4G", "-n", folder / "varnish", "-j", "none"]
        # Idle connections stay, as they do at the others; as shipped they are closed after five seconds.
        parameters = ["-p", "timeout_idle=600"]
        if "h2c" in workload.needs:
            parameters += ["-p", "feature=+http2"]
        self.launch(["varnishd", "-F", *options, *parameters])

    def is_hit(self, headers):
        return len(headers.get("X-Varnish", "").split()) == 2


class Nginx(Contestant):
    name = "nginx"
    port = 18303
    cannot = {
        "ez": "nginx has no look-up before the look-up", "esi": "nginx has no ESI", "tags": "nginx has no purge by tag",
    }
    access_log = "access_log off;"

    def values(self, workload):
        listen = {"h2": "ssl http2", "tls": "ssl", "h2c": "http2"}
        return super().values(workload) | {
            "LISTEN": next((listen[need] for need in workload.needs if need in listen), ""),
            "ACCESS_LOG": self.access_log.replace("@DIR@", str(self.context.folder)),
            "NOFILE": self.context.open_files,
            # Connections and the like take some of the files that may be open.
            "CACHED_FILES": max(self.context.open_files - 24_000, 1000),
        }

    def start(self, workload):
        config = self.context.folder / f"{self.name}.conf"
        fill("nginx.conf", config, self.values(workload))
        # Each start begins with an empty cache, as at the others.
        subprocess.run(["rm", "-rf", self.context.folder / "nginx-cache"], check=True)
        self.launch(["nginx", "-c", config])

    def is_hit(self, headers):
        return headers.get("X-Cache-Status") == "HIT"


class NginxLog(Nginx):
    """nginx with its access log as shipped: a line is written for every request."""

    name = "nginx-log"
    port = 18304
    access_log = "access_log @DIR@/nginx-access.log;"


class Haproxy(Contestant):
    name = "haproxy"
    port = 18305
    cannot = {
        "304": "HAProxy's 304 has a Content-Length, and wrk waits for that body",
        "ez": "HAProxy has no look-up before the look-up", "esi": "HAProxy has no ESI", "tags": "HAProxy's cache has no purge",
    }

    def values(self, workload):
        folder = self.context.folder
        bind = {"h2": f"ssl crt {folder}/both.pem alpn h2,http/1.1", "tls": f"ssl crt {folder}/both.pem", "h2c": "proto h2"}
        return super().values(workload) | {
            "BIND": next((bind[need] for need in workload.needs if need in bind), ""),
            # All of it is taken at the start.
            "MEGABYTES": 64 if self.context.smoke else 4095,
        }

    def start(self, workload):
        config = self.context.folder / "haproxy.cfg"
        fill("haproxy.cfg", config, self.values(workload))
        self.launch(["haproxy", "-db", "-q", "-f", config])

    def is_hit(self, headers):
        return "Age" in headers


class Epoll(Contestant):
    """The yardstick. It has nothing but the one answer."""

    name = "epoll"
    port = 18306

    def start(self, workload):
        self.launch([self.context.epoll, "--listen", f"127.0.0.1:{self.port}", "--path", workload.path])

    def is_hit(self, headers):
        return "Age" in headers


ALL = [Clearcoat, Varnish, Nginx, NginxLog, Haproxy, Epoll]


class Node:
    """The nginx behind the servers, on the load's core."""

    def __init__(self, context):
        fill("node.conf", context.folder / "node.conf", {"DIR": context.folder, "NODE_PORT": NODE_PORT})
        command = ["nginx", "-c", context.folder / "node.conf"]
        self.server = Server(command, context.load_core, context.folder / "node.out")
        wait_for(NODE_PORT, self.server)
        self.connection = None

    def requests(self):
        """How many it has had, those for this number left out."""
        with socket.create_connection(("127.0.0.1", NODE_PORT)) as connection:
            connection.sendall(b"GET /count HTTP/1.0\r\n\r\n")
            text = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
        self.asked = getattr(self, "asked", 0) + 1
        return int(re.search(r"\n (\d+) (\d+) (\d+) ", text).group(3)) - self.asked

    def stop(self):
        self.server.stop()


def wait_for(port, server, seconds=20):
    """Until somebody listens. A child of Varnish needs a second, for its VCL is compiled first."""
    end = time.monotonic() + seconds
    while True:
        server.require_running()
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def names(schema):
    """The names of all keys in a JSON Schema."""
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name == "properties":
                yield from value
            yield from names(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from names(value)
