"""Medians, ratios and goals, as JSON and as a table."""

import json
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Goal:
    """What Clearcoat takes under a workload is to be at most so many times what the other takes, under the same or another one."""

    workload: str
    other: str
    at_most: float
    what: str = "cpu_us"
    other_workload: str = ""

    def names(self):
        """What is compared, and with whom."""
        what = {"cpu_us": "CPU", "p99_us": "p99", "window_p99_us": "p99 of 100 ms"}[self.what]
        of = f"clearcoat / {self.other}" + (f" in {self.other_workload}" if self.other_workload else "")
        return what, of


def goals():
    yield from (
        Goal("hit-1k", "varnish", 0.40), Goal("hit-1k", "nginx", 0.70), Goal("hit-1k", "haproxy", 0.80),
        Goal("hit-1k", "epoll", 1.35),
    )
    for workload in ("hit-16k", "hit-256k", "zipf-100k", "browser"):
        for other in ("varnish", "nginx", "haproxy"):
            yield Goal(workload, other, 1.0)
    yield from (
        Goal("ez-session", "varnish", 0.40), Goal("esi-5", "varnish", 0.50),
        Goal("tls-1k", "nginx", 1.0), Goal("h2-1k", "nginx", 1.0),
        Goal("miss", "nginx", 1.3), Goal("pass", "nginx", 1.3), Goal("post", "nginx", 1.3),
        Goal("rate-1k", "varnish", 1.0, "p99_us"), Goal("rate-1k", "nginx", 1.0, "p99_us"),
        # What a virtual machine does to a whole run now and then is more than a hundredth of its requests, and no server's doing.
        Goal("idle-10k", "clearcoat", 1.2, "window_p99_us", "rate-1k"), Goal("idle-10k", "clearcoat", 1.2, "cpu_us", "rate-1k"),
    )


# Bytes of a stored page: at most so many times Varnish's.
MEMORY_GOAL = 0.80


class Results:
    """Every measurement, by workload and server, and who was left out and why."""

    def __init__(self, facts):
        self.facts = facts
        self.rounds = {}
        self.left_out = {}
        self.failed = []
        # Bytes of an object by server, where it was measured.
        self.memory = {}

    def add(self, workload, server, result):
        self.rounds.setdefault(workload, {}).setdefault(server, []).append(result)

    def median(self, workload, server, what):
        values = [result[what] for result in self.rounds.get(workload, {}).get(server, []) if what in result]
        return median(values) if values else None

    def ratio(self, workload, other, what="cpu_us", other_workload=""):
        ours, theirs = self.median(workload, "clearcoat", what), self.median(other_workload or workload, other, what)
        return ours / theirs if ours and theirs else None

    def reached(self, goal):
        """The ratio of a goal, or None where it was not measured."""
        return self.ratio(goal.workload, goal.other, goal.what, goal.other_workload)

    def keep_others(self, earlier, chosen):
        """Takes over from the JSON of an earlier run what was not chosen to be measured now, and says so."""
        # Something else may have been measured in passing, to find a rate.
        self.rounds = {name: servers for name, servers in self.rounds.items() if name in chosen}
        again = ", ".join(self.rounds)
        self.rounds = {**earlier["rounds"], **self.rounds}
        self.left_out = {**earlier["left_out"], **self.left_out}
        self.memory = self.memory or earlier["memory"]
        now = f"{again}, by {self.facts['command']}, at load average {self.facts['load average at the beginning']}"
        if self.facts["commit"] != earlier["facts"]["commit"]:
            now += f", commit {self.facts['commit']}"
        self.facts = {**earlier["facts"], "measured again later": now}

    def to_json(self):
        return json.dumps(
            {"facts": self.facts, "left_out": self.left_out, "failed": self.failed, "memory": self.memory, "rounds": self.rounds}, indent=1,
        )

    def goals(self):
        """Each goal with its ratio."""
        return [(goal, self.reached(goal)) for goal in goals()]

    def to_markdown(self, workloads):
        lines = ["# Load", ""]
        lines += [f"* {name}: {value}" for name, value in self.facts.items()]
        lines += ["", "Medians of the rounds. CPU is user and system time of all the server's processes for one request. `of 100 ms`: the median of the 99th percentiles of each tenth of a second, where the load has a fixed rate.", ""]
        lines += table(
            ["workload", "server", "CPU µs", "clearcoat / it", "requests/s", "p50 µs", "p99 µs", "of 100 ms", "p99.9 µs", "PSS MiB", "rounds, CPU µs"],
            [self.row(workload.name, server) for workload in workloads for server in self.rounds.get(workload.name, {})],
        )
        lines += ["", "## Ratios", "", "CPU of a request: Clearcoat's, and what it is of that of the others.", ""]
        others = ("varnish", "nginx", "nginx-log", "haproxy", "epoll")
        lines += table(
            ["workload", "clearcoat, µs", *(f"/ {other}" for other in others)],
            [
                [workload.name, f"{self.median(workload.name, 'clearcoat', 'cpu_us'):.1f}"]
                + [f"{ratio:.2f}" if ratio else "" for ratio in (self.ratio(workload.name, other) for other in others)]
                for workload in workloads if "clearcoat" in self.rounds.get(workload.name, {})
            ],
        )
        rows = [
            [goal.workload, *goal.names(), f"{goal.at_most:.2f}", f"{ratio:.2f}", met(ratio <= goal.at_most)]
            for goal, ratio in self.goals() if ratio
        ]
        if "clearcoat" in self.memory and "varnish" in self.memory:
            ratio = sum(self.memory["clearcoat"]) / sum(self.memory["varnish"])
            rows.append(["--memory", "bytes of a page", "clearcoat / varnish", f"{MEMORY_GOAL:.2f}", f"{ratio:.2f}", met(ratio <= MEMORY_GOAL)])
        if rows:
            lines += ["", "## Goals", "", *table(["workload", "what", "of", "at most", "measured", ""], rows)]
        if self.memory:
            lines += ["", "## A stored page of 1 KiB", ""]
            lines += table(
                ["server", "bytes in the process", "bytes in files in memory"],
                [[server, f"{process:,}", f"{files:,}"] for server, (process, files) in self.memory.items()],
            )
        if self.left_out:
            lines += ["", "## Left out", ""]
            for reason, pairs in by_reason(self.left_out).items():
                lines.append(f"* {reason}: {', '.join(pairs)}")
        if self.failed:
            lines += ["", "## Failed", "", *(f"* {text}" for text in self.failed)]
        return "\n".join(lines) + "\n"

    def row(self, workload, server):
        value = lambda what: self.median(workload, server, what)
        ratio = self.ratio(workload, server)
        raw = " ".join(f"{result['cpu_us']:.1f}" for result in self.rounds[workload][server])
        return [
            workload, server, f"{value('cpu_us'):.1f}", f"{ratio:.2f}" if ratio and server != "clearcoat" else "",
            f"{value('rps'):,.0f}", f"{value('p50_us'):,.0f}", f"{value('p99_us'):,.0f}",
            f"{value('window_p99_us'):,.0f}" if value("window_p99_us") else "", f"{value('p999_us'):,.0f}",
            f"{value('proportional') / 2**20:,.0f}" if value("proportional") else "", raw,
        ]


def met(is_so):
    return "met" if is_so else "**not met**"


def by_reason(left_out):
    reasons = {}
    for workload, servers in left_out.items():
        for server, reason in servers.items():
            reasons.setdefault(reason, []).append(f"{server} in {workload}")
    return reasons


def table(head, rows):
    """A Markdown table; numbers are on the right."""
    rows = [[cell if isinstance(cell, str) else str(cell) for cell in row] for row in rows]
    right = [all(row[at][:1].isdigit() or not row[at] for row in rows) for at in range(len(head))]
    yield "| " + " | ".join(head) + " |"
    yield "| " + " | ".join("---:" if on else "---" for on in right) + " |"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
