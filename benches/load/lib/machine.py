"""What has to be there: packages, built programs, files that are asked for; and what the machine is."""

import contextlib
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LOAD = ROOT / "benches" / "load"

# A program, and the package of Debian that brings it.
PACKAGES = {
    "varnishd": "varnish",
    "haproxy": "haproxy",
    "nginx": "nginx-light",
    "wrk": "wrk",
    "h2load": "nghttp2-client",
    "openssl": "openssl",
    "cc": "build-essential",
    "taskset": "util-linux",
    "memcached": "memcached",
    "nutcracker": "nutcracker",
}
POLICY = Path("/usr/sbin/policy-rc.d")


def say(text):
    print(text, flush=True)


def install(programs=PACKAGES):
    """Installs what is missing, without starting any service: fresh packages would take port 80."""
    os.environ["PATH"] += ":/usr/sbin:/usr/local/sbin:" + str(Path.home() / ".cargo" / "bin")
    missing = [PACKAGES[program] for program in programs if not shutil.which(program)]
    if "varnishd" in programs and not list(Path("/usr/lib").glob("*/varnish/vmods/libvmod_xkey.so")):
        missing.append("varnish-modules")
    if not missing:
        return
    say("installing: " + " ".join(missing))
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    ours = not POLICY.exists()
    if ours:
        subprocess.run([*sudo, "tee", str(POLICY)], input=b"#!/bin/sh\nexit 101\n", stdout=subprocess.DEVNULL, check=True)
        subprocess.run([*sudo, "chmod", "755", str(POLICY)], check=True)
    try:
        subprocess.run([*sudo, "apt-get", "update", "-q"], stdout=subprocess.DEVNULL, check=True)
        quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
        options = ["install", "-y", "-q", "--no-install-recommends"]
        subprocess.run([*sudo, *quiet, "apt-get", *options, *missing], stdout=subprocess.DEVNULL, check=True)
    finally:
        if ours:
            subprocess.run([*sudo, "rm", "-f", str(POLICY)], check=True)


def build(profile="dist"):
    """Builds Clearcoat, the yardstick and the loader by a profile of Cargo.toml; the paths of the three. `dist` is what is shipped.
    PROXY_BIN names a binary that is taken instead."""
    binary = os.environ.get("PROXY_BIN")
    if binary:
        profile = "release"
    target = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    target = Path(target.split('"target_directory":"')[1].split('"')[0]) / profile
    # In one call: built apart, some of what they are made of would be built twice, with other features.
    ours = [] if binary else ["-p", "clearcoat", "--bin", "clearcoat"]
    tools = ["-p", "clearcoat-benches", "--example", "epoll", "--example", "loader"]
    subprocess.run(["cargo", "build", "--locked", "-q", "--profile", profile, *ours, *tools], cwd=ROOT, check=True)
    return Path(binary or target / "clearcoat"), target / "examples" / "epoll", target / "examples" / "loader"


def open_files(wanted=262_144):
    """Lets this process and what it starts open many files; how many they may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, wanted))
            hard = wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, wanted), hard))
    return min(hard, wanted)


def fill(template, to, values):
    """Writes a configuration with its @NAMES@ filled in."""
    text = (LOAD / "servers" / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    to.write_text(text)


@contextlib.contextmanager
def workplace():
    """A folder in memory for configurations, bodies, caches and logs; gone at the end."""
    memory = Path("/dev/shm")
    # Varnish runs what it has made of its VCL from there.
    good = memory.is_dir() and not os.statvfs(memory).f_flag & os.ST_NOEXEC
    with tempfile.TemporaryDirectory(prefix="clearcoat-load-", dir=memory if good else None) as name:
        folder = Path(name)
        # The servers' workers may be other users.
        folder.chmod(0o755)
        www = folder / "www"
        www.mkdir()
        for kilobytes in (1, 16, 256):
            letters = (b"0123456789abcdef" * 64) * kilobytes
            (www / f"{kilobytes}k.bin").write_bytes(b"<p>" + letters[3:])
        includes = "".join(f'<section><esi:include src="/fragment/{number}" /></section>\n' for number in range(5))
        page = f"<html><body>\n{includes}</body></html>\n"
        (www / "page.html").write_text(page)
        certificate = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        subject = ["-subj", "/CN=bench.test", "-addext", "subjectAltName=DNS:bench.test,IP:127.0.0.1", "-days", "2"]
        files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
        subprocess.run([*certificate, *subject, *files], capture_output=True, check=True)
        (folder / "both.pem").write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
        yield folder


def first_line(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    return lines[0].strip() if lines else ""


def facts(binary):
    """What stands in front of results."""
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    changed = first_line(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"])
    return {
        "commit": first_line(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]) + (", with changes" if changed else ""),
        "command": " ".join(sys.argv),
        "cores": os.cpu_count(),
        "processor": names[0] if names else platform.machine(),
        "kernel": platform.release(),
        "load average at the beginning": round(os.getloadavg()[0], 2),
        "clearcoat": first_line([str(binary), "--version"]),
        "varnish": first_line(["varnishd", "-V"]),
        "nginx": first_line(["nginx", "-v"]),
        "haproxy": first_line(["haproxy", "-v"]),
        "wrk": first_line(["wrk", "-v"]),
        "h2load": first_line(["h2load", "--version"]),
        "rustc": first_line(["rustc", "--version"]),
    }
