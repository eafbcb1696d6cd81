"""What do N copies cost beside one?

One Ringway process with one worker, on the proxies' core, stands before three `ringway store`s on the
other: with a cache pool under /cache/ and a replicated pool of three copies under /kept/, both over
the same stores. nginx and HAProxy have nothing to be compared with here; Ringway is compared with
itself, round by round.

The rows of small writes are about two things at once: what a write costs the CPU, and how well the
wait for the disk is shared. On a disk whose flush costs nearly nothing only the first is seen, and
three stores, a proxy and the load share the cores that one store has nearly for itself. So the row
is measured again with flushes that take their time (`slow_flush.c`, and not a change of the store's),
and the CPU of a write is told: of the proxy, of all stores together, and of a store that is written
to directly.
"""

import contextlib
import http.client
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from machine import Failure, cpu_between, cpu_seconds, ended, free_ports, tree
from report import number, ratios, spread

MIB = 1 << 20
GIB = 1 << 30
KEYS = 10_000
LARGE_CLIENTS = 2
QUORUM, ONE = "Ringway-Consistency: quorum", "Ringway-Consistency: one"
# Row -> title, what it counts, whether more is better, what is asked of the ratio of `of` to the first
# target, seconds and rounds (quick and full).
ROWS = {
    "kept-get1k": ("GET 1 KiB of three copies, {connections} connections", "cpu", "CPU us per request", "one", ("<=", 1.15)),
    "kept-put1k": ("PUT 1 KiB to three copies, {connections} connections", "rate", "writes/s", "quorum", (">=", 0.80)),
    "kept-flush": ("PUT 1 KiB to three copies, {connections} connections, each flush of a store's disk longer by", "rate", "writes/s", "quorum", (">=", 0.80)),
    "kept-put64m": ("PUT 64 MiB to three copies", "cpu", "CPU ms per GiB", "quorum", ("<=", 3.3)),
}
SECONDS, ROUNDS = (2, 3), (2, 5)

CONFIG = """
node: {{ name: kept, data_dir: {folder}/node, workers: 1 }}
listen:
  data: 127.0.0.1:{port}
  telemetry: 127.0.0.1:{telemetry}
  admin: 127.0.0.1:{admin}
access_log: {{ format: off }}
client: {{ limits: {{ requests_per_connection: 1000000000 }} }}
pools:
  - name: cache
    kind: cache
    shards:
{shards}
  - name: kept
    kind: replicated
    replicas: 3
    shards:
{shards}
routes:
  - {{ name: cache, match: {{ path_prefix: /cache/ }}, pool: cache }}
  - {{ name: kept, match: {{ path_prefix: /kept/ }}, pool: kept }}
"""

LUA = """
local requests, at = {}, 0
local body = string.rep("abcdefghijklmnopqrstuvwxyzabcdef", 32)
function init(args)
  for n = 0, 9999 do
    requests[n] = wrk.format(args[2], args[1] .. n, nil, args[2] == "PUT" and body or nil)
  end
end
function request()
  at = (at + 7919) % 10000
  return requests[at]
end
function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d %d %d %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.connect, e.read, e.write, e.status, e.timeout))
end
"""


def await_status(process, port, path, method, wanted, seconds=30):
    deadline = time.monotonic() + seconds
    status = None
    while not ended(process) and time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
                connection.request(method, path, b"ready" if method == "PUT" else None)
                answer = connection.getresponse()
                answer.read()
                status = answer.status
                if status in wanted:
                    return
        time.sleep(0.05)
    raise Failure(f"{method} {path} at port {port} still answers {status} after {seconds} s")


class Kept:
    """Three stores and a proxy. `flush`: the library that slows flushes, and by how many milliseconds."""

    def __init__(self, machine, stack, folder, programs, connections, flush=None):
        self.machine, self.stack, self.folder, self.wrk = machine, stack, folder, programs["wrk"]
        self.connections = connections
        folder.mkdir(parents=True)
        self.log = folder / "log"
        self.script = folder / "load.lua"
        self.script.write_text(LUA)
        ringway, ports = programs["ringway"], free_ports(6)
        before = ["env", f"LD_PRELOAD={flush[0]}", f"FLUSH_MS={flush[1]}"] if flush else []
        self.stores = {}
        for n, port in enumerate(ports[:3], 1):
            command = [*before, ringway, "store", "--data", folder / f"s{n}", "--listen", f"127.0.0.1:{port}"]
            process = machine.start(stack, command, self.log, machine.other_cores, stdout=subprocess.DEVNULL)
            await_status(process, port, "/_ringway/health", "GET", {200})
            self.stores[port] = process.pid
        self.port, telemetry, admin = ports[3:]
        shards = "\n".join(f'      - {{ id: s{n}, url: "http://127.0.0.1:{port}" }}' for n, port in enumerate(self.stores, 1))
        config = folder / "ringway.yaml"
        config.write_text(CONFIG.format(folder=folder, port=self.port, telemetry=telemetry, admin=admin, shards=shards))
        command = [ringway, "serve", "-c", config]
        self.proxy = machine.start(stack, command, self.log, machine.proxy_cores, stdout=subprocess.DEVNULL)
        for path in ("/cache/ready", "/kept/ready"):
            await_status(self.proxy, self.port, path, "PUT", {200, 201, 204})

    def cpu(self):
        return cpu_seconds(tree(self.proxy.pid)), cpu_seconds(self.stores.values())

    def small(self, seconds, port, prefix, method, *fields):
        """One load of wrk, and what it cost the proxy and the stores for each request."""
        command = [self.wrk, "-t1", f"-c{self.connections}", f"-d{seconds}s", "--timeout", "10s", "-s", self.script]
        for field in fields:
            command += ["-H", field]
        before = self.cpu()
        process = self.machine.start(self.stack, [*command, f"http://127.0.0.1:{port}", "--", prefix, method],
                                     self.log, self.machine.other_cores, stdout=subprocess.PIPE, text=True)
        said, _ = process.communicate(timeout=seconds + 60)
        after = self.cpu()
        found = re.search(r"^RESULT (.*)$", said, re.M)
        if process.returncode or not found:
            raise Failure(f"wrk gave no result:\n{said}")
        requests, micros, p50, p99, *errors = map(int, found[1].split())
        if any(errors) or not requests:
            raise Failure(f"wrong answers after {requests} right ones to {method} {prefix}: {errors}")
        proxy, stores = (cpu_between(*pair) / requests * 1e6 for pair in zip(before, after))
        return {"requests": requests, "rate": requests / (micros / 1e6), "p50": p50, "p99": p99,
                "cpu": proxy, "stores": stores}

    def fill(self, seconds, prefix, *fields):
        """Writes every key that is read later."""
        while self.small(seconds, self.port, prefix, "PUT", *fields)["requests"] < KEYS + self.connections:
            seconds *= 2

    def large(self, seconds, prefix, payload, *fields):
        """PUTs of the file `payload`, one after the other, from some clients."""
        begun, before = time.monotonic(), self.cpu()
        moved = upload(self.port, prefix, fields, payload, seconds)
        took, after = time.monotonic() - begun, self.cpu()
        proxy, stores = (cpu_between(*pair) * 1000 / (moved / GIB) for pair in zip(before, after))
        return {"rate": moved / MIB / took, "cpu": proxy, "stores": stores}


def upload(port, prefix, fields, payload, seconds):
    size = os.path.getsize(payload)
    done, failures = [], []

    def client(number):
        try:
            deadline, turn = time.monotonic() + seconds, 0
            with socket.create_connection(("127.0.0.1", port), timeout=120) as connection, open(payload, "rb") as file:
                while time.monotonic() < deadline or not turn:
                    head = "".join([f"PUT {prefix}large-{number}-{turn % 2} HTTP/1.1\r\nHost: h\r\n",
                                    f"Content-Length: {size}\r\n", *(f"{field}\r\n" for field in fields), "\r\n"])
                    connection.sendall(head.encode())
                    connection.sendfile(file, 0, size)
                    answer = b""
                    while b"\r\n\r\n" not in answer:
                        part = connection.recv(65536)
                        if not part:
                            raise Failure(f"PUT {prefix}: closed before the answer")
                        answer += part
                    if int(answer.split()[1]) not in (200, 201, 204):
                        raise Failure(f"PUT {prefix}: {answer.decode('latin-1')}")
                    done.append(size)
                    turn += 1
        except (OSError, Failure) as failure:
            failures.append(failure)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(LARGE_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise Failure(str(failures[0]))
    return sum(done)


def slow_flush(folder):
    """Makes the library that slows flushes; None without a C compiler."""
    compiler = shutil.which("cc")
    if not compiler:
        return None
    library = folder / "slow_flush.so"
    source = Path(__file__).with_name("slow_flush.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True, timeout=60)
    return library


def targets(name, kept, seconds, payload):
    """What is measured in a row; the first is what the others are compared with."""
    if name == "kept-get1k":
        kept.fill(seconds, "/cache/k")
        kept.fill(seconds, "/kept/k", QUORUM)
        return {"cache": lambda: kept.small(seconds, kept.port, "/cache/k", "GET"),
                "one": lambda: kept.small(seconds, kept.port, "/kept/k", "GET", ONE),
                "quorum": lambda: kept.small(seconds, kept.port, "/kept/k", "GET", QUORUM)}
    if name == "kept-put64m":
        return {"cache": lambda: kept.large(seconds, "/cache/", payload),
                "quorum": lambda: kept.large(seconds, "/kept/", payload, QUORUM)}
    store = next(iter(kept.stores))
    return {"one store": lambda: kept.small(seconds, store, "/direct/k", "PUT"),
            "quorum": lambda: kept.small(seconds, kept.port, "/kept/k", "PUT", QUORUM)}


def measure(kept, name, seconds, rounds, progress, payload):
    samples = {}
    loads = targets(name, kept, seconds, payload)
    for turn in range(rounds):
        for target, load in loads.items():
            progress(f"{name}: round {turn + 1} of {rounds}, {target}")
            samples.setdefault(target, []).append(load())
    return samples


def lines(title, figure, unit, samples):
    yield f"{title}\n  {unit:<60}  {'x first':<18}  CPU of the stores"
    base = [sample[figure] for sample in next(iter(samples.values()))]
    for target, measured in samples.items():
        values = [sample[figure] for sample in measured]
        ratio = spread(ratios(values, base)) if values is not base and target != next(iter(samples)) else ""
        stores = f"{number(statistics.median(sample['stores'] for sample in measured))}"
        if figure == "rate":
            stores += f", of the proxy {number(statistics.median(sample['cpu'] for sample in measured))} us"
        yield f"    {target:<10}  {spread(values):<46}  {ratio:<18}  {stores}".rstrip()
    yield ""


def run(options, machine, programs, folder, progress):
    """All rows that were asked for: prints each, and gives what is to be written down and the lines
    that say what is asked."""
    size = 0 if options.quick else 1
    rounds, seconds = options.rounds or ROUNDS[size], SECONDS[size]
    disk = Path(options.disk or tempfile.gettempdir())
    results, asked = {}, []
    with tempfile.TemporaryDirectory(prefix="ringway-kept-", dir=disk) as where:
        payload = Path(where) / "large"
        library = slow_flush(folder) if "kept-flush" in options.rows else None
        for name in (name for name in options.rows if name in ROWS):
            title, figure, unit, of, (bound, limit) = ROWS[name]
            title = title.format(connections=options.connections)
            if name == "kept-put64m":
                payload.write_bytes(random.Random(options.seed).randbytes(64 * MIB))
            flushes = [None] if name != "kept-flush" else [(library, ms) for ms in options.flush_ms if library]
            if not flushes:
                print(f"{title}: left out, there is no `cc`\n")
            for flush in flushes:
                key = f"{name}-{flush[1]:g}ms" if flush else name
                with contextlib.ExitStack() as stack:
                    kept = Kept(machine, stack, Path(where) / key, programs, options.connections, flush)
                    samples = measure(kept, name, seconds, rounds, progress, payload)
                shutil.rmtree(Path(where) / key)
                progress("")
                print("\n".join(lines(f"{title} {flush[1]:g} ms" if flush else title, figure, unit, samples)), flush=True)
                base, found = ([sample[figure] for sample in samples[target]] for target in (next(iter(samples)), of))
                ratio = statistics.median(ratios(found, base))
                results[key] = {"samples": samples, "ratio": ratio}
                asked.append(f"  {key + ' ' + of + ' to ' + next(iter(samples)):<40} {ratio:.2f}  (asked {bound} {limit})")
    return results, asked
