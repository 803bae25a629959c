"""A server with all its processes: what they have used, what they hold, and their end."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")


class Server:
    """A running command, alone on its core, in a session of its own."""

    def __init__(self, command, core, log, **options):
        self.log = log
        with open(log, "wb") as output:
            self.popen = subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, command)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **options,
            )

    def processes(self):
        """The ids of the command and of all that stand below it, also in sessions of their own."""
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parents[int(entry.name)] = int(fields(entry)[1])
        ours, found = set(), {self.popen.pid}
        while found:
            ours |= found
            found = {child for child, parent in parents.items() if parent in ours} - ours
        return sorted(ours & parents.keys())

    def cpu_seconds(self):
        """User and system time of all, with that of children that have ended."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(OSError):
                total += sum(int(value) for value in fields(Path(f"/proc/{process}"))[11:15])
        return total * TICK

    def memory(self):
        """Bytes resident (shared pages counted in each process) and proportional (shared pages divided)."""
        resident = proportional = 0
        for process in self.processes():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Rss:"):
                        resident += int(line.split()[1]) * 1024
                    if line.startswith("Pss:"):
                        proportional += int(line.split()[1]) * 1024
        return resident, proportional

    def require_running(self):
        if self.popen.poll() is not None:
            raise RuntimeError(f"{self.popen.args[3]} has ended:\n{self.log.read_text(errors='replace')[-2000:]}")

    def stop(self):
        left = self.processes()
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(5)
        # What did not follow its parent. They were ours a moment ago.
        for process in left:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        self.popen.wait()
        time.sleep(0.05)


def fields(entry):
    """The fields of /proc/PID/stat behind the name, which may hold anything: the state is number 0."""
    return (entry / "stat").read_text().rsplit(")", 1)[1].split()
