"""How is each program set up, so that the comparison is fair?

All three proxies speak TLS 1.3 and HTTP/2 beside HTTP/1.1, and hash the path consistently over the same four ports with one worker, keep their
upstream connections, write no access log and pass bodies on as they come. Each is tuned as a
careful user would: nginx does not spool bodies to disk, HAProxy splices (`splice-auto` did not
where it was tried, so it is asked for by name) and shares connections always. Ringway runs with
its defaults, metrics and health probes on; HAProxy probes at the same pace, nginx has no probes.

The backend is one nginx worker that listens on four ports and names the port in `X-Backend`.
`/k/` is 1 KiB out of its configuration, `/m1/` and `/m64/` are files sent with sendfile. `/put/`
stores what is put in a folder of the port's own, so a GET shows both that every byte arrived and
that the path leads back to the same backend.
"""

import contextlib
import http.client
import os
import subprocess
import time
from pathlib import Path

from machine import Failure, end, ended, free_ports

SMALL = "".join(chr(ord("a") + n % 26) for n in range(1024))
KEEP_ALIVE_REQUESTS = 10_000  # Ringway's default for client connections, given to the others too.
# For loads that do not connect again: HTTP/2 asks more often than that on each connection.
REQUESTS_WITHOUT_END = 1_000_000_000

NGINX = """
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr error;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests {requests};
    client_max_body_size 0;
    client_body_buffer_size 128k;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {body}
}}
"""

BACKEND = """
    server {{
        {listens}
        types {{ }}
        default_type application/octet-stream;
        dav_methods PUT;
        create_full_put_path on;
        add_header X-Backend $server_port always;
        root {bulk};
        location / {{ return 200 "{small}"; }}
        location /m1/ {{ rewrite ^ /m1.bin break; }}
        location /m64/ {{ rewrite ^ /m64.bin break; }}
        location /put/ {{ root {folder}/$server_port; }}
    }}
"""

NGINX_PROXY = """
    upstream backend {{
        hash $uri consistent;
        {servers}
        keepalive 256;
        keepalive_requests 1000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        listen 127.0.0.1:{tls} ssl http2 backlog=4096;
        listen 127.0.0.1:{h2c} http2 backlog=4096;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            proxy_buffer_size 16k;
            proxy_buffers 8 64k;
            proxy_busy_buffers_size 128k;
        }}
    }}
"""

HAPROXY = """
global
    nbthread 1
    maxconn {connections}
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 75s
    option splice-request
    option splice-response
    http-reuse always
frontend front
    bind 127.0.0.1:{port} backlog 4096
    bind 127.0.0.1:{tls} backlog 4096 ssl crt {certificate} alpn h2,http/1.1 ssl-min-ver TLSv1.3
    bind 127.0.0.1:{h2c} backlog 4096 proto h2
    default_backend back
backend back
    balance uri
    hash-type consistent
    {servers}
"""

RINGWAY = """
node:
  name: compare
  data_dir: {folder}/data
  workers: 1
listen:
  data:
    - 127.0.0.1:{port}
    - address: 127.0.0.1:{tls}
      tls: {{ certificates: [{{ cert: {certificate}, key: {key} }}] }}
  telemetry: 127.0.0.1:{telemetry}
  admin: 127.0.0.1:{admin}
access_log: {{ format: off }}
client: {{ limits: {{ requests_per_connection: {requests} }} }}
pools:
  - name: objects
    kind: cache
    placement: ring
    shards:
{shards}
routes:
  - name: all
    match: {{ path_prefix: / }}
    pool: objects
    key: {{ path: whole }}
"""


class Target:
    """Something that answers requests: the backend itself (`direct`) or a proxy before it."""

    def __init__(self, name, port, process, log, tls=None, h2c=None, telemetry=None):
        self.name = name
        self.proxy = name != "direct"
        self.port = port
        self.tls = tls          # port of TLS, with HTTP/2 by ALPN
        self.h2c = h2c or port  # port of HTTP/2 with prior knowledge
        self.process = process
        self.log = log
        self.telemetry = telemetry

    def await_ready(self):
        """Return when a request gets through to a backend."""
        deadline = time.monotonic() + 15
        while not ended(self.process):
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, fields, _ = get(self.port, "/")
                if status == 200 and fields["X-Backend"]:
                    return
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        end(self.process)
        raise Failure(f"{self.name} did not start to answer. It said:\n{self.said()}")

    def said(self):
        """The end of what it wrote on standard error."""
        text = Path(self.log).read_text(errors="replace").strip()
        return "\n".join(text.splitlines()[-20:]) or "(nothing)"


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def write_config(folder, text):
    folder.mkdir(parents=True)
    path = folder / "config"
    path.write_text(text)
    return path


def nginx_config(folder, connections, body):
    return NGINX.format(
        # A worker that changes its user could not read this folder; without root it stays as it is.
        user="user root;" if os.geteuid() == 0 else "",
        folder=folder, connections=connections, files=2 * connections,
        requests=KEEP_ALIVE_REQUESTS, paths=PATHS.format(folder=folder), body=body)


class Field:
    """Starts backend and proxies afresh for each row, each in a folder of its own."""

    def __init__(self, machine, folder, bulk, connections, programs):
        self.machine = machine
        self.folder = Path(folder)
        self.connections = connections  # client connections that a proxy must take
        self.programs = programs        # name -> path of the program
        self.runs = 0
        self.bulk = self.folder / "bulk"
        self.bulk.mkdir()
        self.certificate, self.key = make_certificate(self.folder)
        self.requests = KEEP_ALIVE_REQUESTS
        for name, contents in bulk.items():
            (self.bulk / f"{name}.bin").write_bytes(contents)

    @contextlib.contextmanager
    def up(self, names, realtime=False, requests=KEEP_ALIVE_REQUESTS):
        """Start a backend and the proxies `names`, which close a client's connection after so many
        `requests`; give a `Stage`; end them afterwards."""
        self.runs += 1
        self.requests = requests
        folder = self.folder / str(self.runs)
        ports = free_ports(4 + 5 * len(names))
        backends = ports[:4]
        with contextlib.ExitStack() as stack:
            def start(name, config, command, cores):
                (folder / name).mkdir(parents=True)
                path = folder / name / "config"
                path.write_text(config)
                log = folder / f"{name}.log"
                command = [self.programs[command[0]], *command[1:], path]
                process = self.machine.start(stack, command, log, cores, realtime)
                return process, log

            targets = {"direct": self.backend(start, folder / "backend", backends)}
            for n, name in enumerate(names):
                own = ports[4 + 5 * n:][:5]
                targets[name] = getattr(self, name)(start, folder / name, backends, own)
            for target in targets.values():
                target.await_ready()
            yield Stage(self.machine, stack, realtime, folder, targets, backends)

    def backend(self, start, folder, ports):
        listens = " ".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in ports)
        body = BACKEND.format(listens=listens, bulk=self.bulk, folder=folder, small=SMALL)
        process, log = start("backend", self.nginx_config(folder, body), nginx_command(folder), self.machine.other_cores)
        return Target("direct", ports[0], process, log)

    def nginx(self, start, folder, backends, ports):
        servers = " ".join(f"server 127.0.0.1:{port};" for port in backends)
        body = NGINX_PROXY.format(port=ports[0], tls=ports[1], h2c=ports[2], servers=servers,
                                  certificate=self.certificate, key=self.key)
        process, log = start("nginx", self.nginx_config(folder, body), nginx_command(folder), self.machine.proxy_cores)
        return Target("nginx", ports[0], process, log, tls=ports[1], h2c=ports[2])

    def nginx_config(self, folder, body):
        connections = self.connections + 2000
        # A worker that changes its user could not read this folder; without root it stays as it is.
        user = "user root;" if os.geteuid() == 0 else ""
        return NGINX.format(user=user, folder=folder, connections=connections, files=2 * connections,
                            requests=self.requests, body=body)

    def haproxy(self, start, folder, backends, ports):
        servers = "\n    ".join(
            f"server s{n} 127.0.0.1:{port} check inter 2s" for n, port in enumerate(backends, 1))
        config = HAPROXY.format(port=ports[0], tls=ports[1], h2c=ports[2], certificate=self.certificate,
                                connections=self.connections + 1000, servers=servers)
        process, log = start("haproxy", config, ["haproxy", "-db", "-q", "-f"], self.machine.proxy_cores)
        return Target("haproxy", ports[0], process, log, tls=ports[1], h2c=ports[2])

    def ringway(self, start, folder, backends, ports):
        shards = "\n".join(
            f'      - {{ id: s{n}, url: "http://127.0.0.1:{port}" }}' for n, port in enumerate(backends, 1))
        config = RINGWAY.format(folder=folder, port=ports[0], tls=ports[1], telemetry=ports[3], admin=ports[4],
                                certificate=self.certificate, key=self.key, requests=self.requests, shards=shards)
        process, log = start("ringway", config, ["ringway", "serve", "-c"], self.machine.proxy_cores)
        return Target("ringway", ports[0], process, log, tls=ports[1], telemetry=ports[3])


class Stage:
    """What is up for one row, and the way to put a load on it."""

    def __init__(self, machine, stack, realtime, folder, targets, backends):
        self.machine = machine
        self.stack = stack
        self.realtime = realtime
        self.targets = targets              # name -> Target
        self.backends = backends            # the backend's ports
        self.kept = folder / "backend"      # PORT/put/NAME below it is what was put
        self.log = folder / "load.log"

    def start(self, command, **keywords):
        """Start a load beside the backend."""
        return self.machine.start(
            self.stack, command, self.log, self.machine.other_cores, self.realtime, **keywords)

    def run(self, command, seconds):
        """What a load printed that should take `seconds`."""
        process = self.start(command, stdout=subprocess.PIPE, text=True)
        try:
            said, _ = process.communicate(timeout=seconds + 60)
        except subprocess.TimeoutExpired:
            raise Failure(f"a load of {seconds} s had not ended after {seconds + 60} s") from None
        if process.returncode:
            raise Failure(f"a load ended with {process.returncode}: {said}{self.log.read_text()[-2000:]}")
        return said


def make_certificate(folder):
    """A certificate with a key of the usual kind (ECDSA on P-256): for HAProxy both in one file, and
    the key alone."""
    certificate, key = folder / "site.pem", folder / "site.pem.key"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", key, "-out", certificate], capture_output=True, text=True)
    if made.returncode:
        raise Failure(f"openssl made no certificate: {made.stderr}")
    key.chmod(0o600)
    return certificate, key


def nginx_command(folder):
    return ["nginx", "-p", folder, "-e", "stderr", "-c"]


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
