"""What is asked of a proxy, and how is it counted?

Each load is a process of its own on the load's core and prints its result as JSON. Small requests
come from wrk. Large bodies, a low steady rate and idle connections are not wrk's trade; for these
this file runs itself as a script (`loads.py KIND PORT ...`). Its clients are raw sockets: bytes of
an answer are dropped in the kernel (MSG_TRUNC) and bytes of a request leave by sendfile, so one
Python process loads a proxy well beyond what it can take.

A load ends with whole requests: none is begun after the time is up, and those under way are waited
for. So CPU time before and after, divided by what was done, is exact.

Any answer that is not what was asked for ends the load with an error, which fails the run.
"""

import json
import os
import re
import resource
import select
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from machine import Failure

HERE = Path(__file__).parent
MIB = 1 << 20
# Distinct paths of the large bodies; enough to reach all backends, few enough to be kept (PUT).
PATHS = 64
BULK = {
    # kind: (path, bytes, connections)
    "get1m": ("/m1/", MIB, 16),
    "get64m": ("/m64/", 64 * MIB, 4),
    "put1m": ("/put/", MIB, 8),
}
RATE = 500
RATE_CONNECTIONS = 16


# What the comparison calls. `run` and `start` are those of peers.Stage.

def wrk(run, program, port, seconds, connections, close=False, scheme="http"):
    """GETs of 1 KiB from `connections` clients that send again as soon as they are answered. With
    `close` each connects anew, and with TLS makes a whole handshake: wrk resumes no session."""
    command = [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", HERE / "wrk.lua"]
    if close:
        command += ["-H", "Connection: close"]
    said = run([*command, f"{scheme}://127.0.0.1:{port}"], seconds)
    result = [line.split()[1:] for line in said.splitlines() if line.startswith("RESULT ")]
    if not result:
        raise Failure(f"wrk gave no result:\n{said}")
    requests, micros, read, p50, p99, *errors = map(int, result[0])
    if any(errors) or not requests:
        kinds = zip(("connect", "read", "write", "status", "timeout"), errors)
        raise Failure(f"wrong answers after {requests} right ones: " + ", ".join(f"{n} {kind}" for kind, n in kinds if n))
    if read < requests * 1024:
        raise Failure(f"{requests} answers of 1024 bytes had {read} bytes in all")
    return {"requests": requests, "seconds": micros / 1e6, "p50_us": p50, "p99_us": p99}


def h2load(run, program, port, seconds, scheme):
    """GETs of 1 KiB over HTTP/2: 8 connections with 16 streams each."""
    paths = [f"{scheme}://127.0.0.1:{port}/k/{number}" for number in range(PATHS)]
    said = run([program, "-t1", "-c8", "-m16", f"-D{seconds}", *paths], seconds)
    counts = re.search(r"requests: (\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    took = re.search(r"finished in ([\d.]+)(m?)s", said)
    good = re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", said)
    content = re.search(r"\((\d+)\) data", said)
    if not (counts and took and good and content and "h2" in said):
        raise Failure(f"h2load gave no result, or wrong answers:\n{said}")
    _, requests, *errors = map(int, counts.groups())
    if any(errors) or not requests or int(content[1]) < requests * 1024:
        raise Failure(f"wrong answers by h2load:\n{said}")
    return {"requests": requests, "seconds": float(took[1]) / (1000 if took[2] else 1)}


def bulk(run, kind, port, seconds, payload):
    return script(run, seconds, kind, port, seconds, payload)


def paced(run, port, seconds):
    return script(run, seconds, "paced", port, seconds)


def script(run, seconds, *arguments):
    return json.loads(run([sys.executable, __file__, *map(str, arguments)], seconds))


class Idle:
    """Many connections, each after one request, that say nothing until asked again."""

    def __init__(self, start, port, count):
        command = [sys.executable, __file__, "idle", str(port), str(count)]
        self.process = start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.expect("open")

    def expect(self, word):
        if not select.select([self.process.stdout], [], [], 60)[0]:
            raise Failure("idle connections: no progress for 60 s")
        if self.process.stdout.readline().strip() != word:
            raise Failure("idle connections: not all were answered")

    def ask_again(self):
        """One more request on each: a proxy that has closed them must not look frugal."""
        self.process.stdin.write("again\n")
        self.process.stdin.flush()
        self.expect("answered")


# What runs as a process of its own.

class Client:
    """One HTTP/1.1 connection that has at most one request under way."""

    SCRATCH = bytearray(4 * MIB)

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.head = b""
        self.body_left = None       # None: the head of the answer is not complete
        self.upload_left = 0
        self.path = None

    def send(self, method, path, length=0):
        """Send the head; `length` bytes of body are then due by `upload`."""
        fields = f"Content-Length: {length}\r\n" if length else ""
        self.path, self.head, self.body_left, self.upload_left = path, b"", None, length
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: compare\r\n{fields}\r\n".encode())

    def upload(self, payload, size):
        """Send on from the file `payload`; true when nothing is left."""
        try:
            self.upload_left -= os.sendfile(self.socket.fileno(), payload, size - self.upload_left, self.upload_left)
        except BlockingIOError:
            pass
        return not self.upload_left

    def receive(self, length):
        """Read on; true when an answer with a body of `length` bytes is complete."""
        if self.body_left is None:
            part = self.socket.recv(16384)
            if not part:
                raise SystemExit(f"{self.path}: closed before the answer")
            self.head += part
            head, end, body = self.head.partition(b"\r\n\r\n")
            if not end:
                return False
            self.body_left = self.judge(head.decode("latin-1"), length) - len(body)
        elif self.body_left:
            size = min(self.body_left, len(self.SCRATCH))
            dropped = self.socket.recv_into(self.SCRATCH, size, socket.MSG_TRUNC)
            if not dropped:
                raise SystemExit(f"{self.path}: closed with {self.body_left} bytes of the body missing")
            self.body_left -= dropped
        if self.body_left < 0:
            raise SystemExit(f"{self.path}: more bytes than were announced")
        return self.body_left == 0

    def judge(self, head, length):
        """The length of the answer's body, if the head is that of a right answer."""
        status, *lines = head.split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        code = status.split()[1]
        found = int(fields.get("content-length", 0))
        if code not in ("200", "201", "204") or "x-backend" not in fields or (code == "200" and found != length):
            raise SystemExit(f"{self.path}: wrong answer:\n{head}")
        return found if code != "204" else 0


def load_bulk(kind, port, seconds, payload):
    prefix, size, count = BULK[kind]
    method = "PUT" if kind.startswith("put") else "GET"
    upload = size if method == "PUT" else 0
    file = os.open(payload, os.O_RDONLY)
    poll = select.epoll()
    clients = {}
    for _ in range(count):
        client = Client(port)
        client.socket.setblocking(False)
        clients[client.socket.fileno()] = client
    begun = done = 0
    start = time.monotonic()

    def begin(client):
        nonlocal begun
        client.send(method, f"{prefix}{begun % PATHS}", upload)
        begun += 1

    for number, client in clients.items():
        begin(client)
        poll.register(number, select.EPOLLIN | (select.EPOLLOUT if upload else 0))
    while done < begun:
        events = poll.poll(30)
        if not events:
            raise SystemExit("no byte moved for 30 s")
        for number, event in events:
            client = clients[number]
            if event & select.EPOLLOUT and client.upload_left and client.upload(file, size):
                poll.modify(number, select.EPOLLIN)
            if event & ~select.EPOLLOUT and client.receive(size):
                if client.upload_left:
                    raise SystemExit(f"{client.path}: answered before the body was sent")
                done += 1
                if time.monotonic() - start < seconds:
                    begin(client)
                    if upload:
                        poll.modify(number, select.EPOLLIN | select.EPOLLOUT)
    return {"requests": done, "bytes": done * size, "seconds": time.monotonic() - start}


def load_paced(port, seconds):
    """`RATE` requests a second, come what may, and how long each took.

    A request that finds no connection free waits for one, and its wait counts from the moment it
    was due. What this client itself adds is in the figures of `direct` as well.
    """
    free = deque(Client(port) for _ in range(RATE_CONNECTIONS))
    waiting, busy, took = deque(), {}, []
    total, sent = int(RATE * seconds), 0
    start = time.perf_counter()
    while len(took) < total:
        now = time.perf_counter()
        if sent < total and start + sent / RATE <= now:
            waiting.append(now)
            sent += 1
        while waiting and free:
            client = free.popleft()
            client.send("GET", f"/k/{len(took) % 1000}")
            busy[client.socket.fileno()] = client, waiting.popleft()
        pause = max(start + sent / RATE - time.perf_counter(), 0) if sent < total else 30
        readable = select.select(list(busy), [], [], pause)[0]
        if not readable and sent == total:
            raise SystemExit("no answer for 30 s")
        for number in readable:
            client, since = busy[number]
            if client.receive(1024):
                took.append(time.perf_counter() - since)
                del busy[number]
                free.append(client)
    took.sort()
    return {"requests": total, "p50_us": took[total // 2] * 1e6, "p99_us": took[total * 99 // 100] * 1e6}


def load_idle(port, count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients = []

    def ask(client, number):
        client.send("GET", f"/k/{number}")
        while not client.receive(1024):
            pass

    for number in range(count):
        clients.append(Client(port))
        ask(clients[-1], number)
    print("open", flush=True)
    sys.stdin.readline()
    for number, client in enumerate(clients):
        ask(client, number)
    print("answered", flush=True)


def main(kind, port, *rest):
    if kind == "idle":
        load_idle(int(port), int(rest[0]))
    elif kind == "paced":
        print(json.dumps(load_paced(int(port), float(rest[0]))))
    else:
        print(json.dumps(load_bulk(kind, int(port), float(rest[0]), rest[1])))


if __name__ == "__main__":
    main(*sys.argv[1:])
