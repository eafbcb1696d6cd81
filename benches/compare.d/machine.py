"""How is a measured process placed, measured and ended?

Two cores are enough and two are used: the proxy under test alone on the first, everything around
it (load generator, backend, this script) on the second. So a proxy never pays for its neighbours,
and a slow one cannot take their time. With one core only, nothing is pinned and the figures are
worth little; the report says so.

Each process gets a session of its own. That keeps the terminal's Ctrl-C away from it (the script
ends it in order), gives it a scheduler autogroup of its own, and makes a process group that can be
ended as a whole by its id, should a parent die before its children.
"""

import contextlib
import ctypes
import os
import resource
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """Something did not work. A slow figure is never a failure."""


class Machine:
    """The cores, the priority and the open files that the measured processes get."""

    def __init__(self, nice):
        cores = sorted(os.sched_getaffinity(0))
        self.pinned = len(cores) > 1
        self.proxy_cores = {cores[0]} if self.pinned else set(cores)
        self.other_cores = {cores[1]} if self.pinned else set(cores)
        self.nice = nice if may_raise_priority(nice) else 0
        self.files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        os.sched_setaffinity(0, self.other_cores)

    def describe(self):
        where = "proxy on its own core, load and backend on the next" if self.pinned else \
            "NOT PINNED: one core only, do not trust these figures"
        load = " ".join(f"{value:.1f}" for value in os.getloadavg())
        return f"{os.uname().release}, {where}, nice {self.nice}, load average {load}"

    def start(self, stack, command, log, cores, realtime=False, **keywords):
        """Start `command`; `stack` ends it. What it says on standard error goes to `log`.

        `realtime` puts it before all ordinary processes of the machine. It is for the row with a
        low rate only, which would otherwise measure how busy the neighbours are.
        """

        def place():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            os.sched_setaffinity(0, cores)
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.files_max, self.files_max))
            if self.nice:
                os.setpriority(os.PRIO_PROCESS, 0, self.nice)
                # With autogroups, nice orders the processes of one session only; sessions are
                # ordered by the niceness of their group. A kernel without them has no such file.
                with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as group:
                    group.write(str(self.nice))
            if realtime and self.nice:
                os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))

        with open(log, "ab") as errors:
            process = subprocess.Popen(command, stderr=errors, stdin=keywords.pop("stdin", subprocess.DEVNULL),
                                       start_new_session=True, preexec_fn=place, **keywords)
        stack.callback(end, process)
        return process


def may_raise_priority(nice):
    """Whether `nice` may be taken; tried in a child, because it could not be taken back."""
    child = os.fork()
    if child == 0:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def ended(process):
    """Whether `process` has ended. It is not reaped, so that its id keeps meaning its group."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return process.returncode is not None or os.waitid(os.P_PID, process.pid, flags) is not None


def end(process):
    """End `process` and whatever it has left behind: asked first, then not."""
    if process.returncode is None:
        os.kill(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + 5
        while not ended(process) and time.monotonic() < deadline:
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()


def free_ports(count):
    """Ports that nobody listens on. They are held all at once, so that all differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def tree(pid):
    """`pid` and all its descendants, in a fixed order."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat") as stat:
                # The name stands in parentheses and may hold anything, blanks included.
                parents[int(entry)] = int(stat.read().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found.extend(sorted(child for child, parent in parents.items() if parent == each))
    return found


def cpu_seconds(pids):
    """CPU time of each process, all its threads, ended ones included.

    This is the clock behind `utime` and `stime` in /proc/PID/stat, but in nanoseconds and not in
    ticks of 10 ms. The clock's id is what clock_getcpuclockid(3) makes of a process id.
    """
    return {pid: time.clock_gettime((~pid << 3) | 2) for pid in pids}


def cpu_between(before, after):
    """CPU seconds between two readings of the same processes."""
    if before.keys() != after.keys():
        raise Failure(f"the proxy's processes changed under load: {sorted(before)}, then {sorted(after)}")
    return sum(after[pid] - before[pid] for pid in before)


def memory_bytes(pids, field):
    """The sum of `field` (VmRSS now, VmHWM at its peak) over the processes.

    Pages that a parent shares with its children are counted in each; the report says so.
    """
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as status:
            lines = [line for line in status if line.startswith(field + ":")]
        total += int(lines[0].split()[1]) * 1024
    return total
