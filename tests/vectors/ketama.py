#!/usr/bin/env python3
"""Takes the vectors of `ketama.txt` from a running nginx.

    tests/vectors/ketama.py [/usr/sbin/nginx] > tests/vectors/ketama.txt

Each set of servers becomes an upstream with `hash $uri consistent`. All its servers are listeners of
the same nginx, which answer with their own number; so what is written down is where nginx itself
sent each of the 10 000 keys. Servers are put on 127.0.0.x, [::1] and sockets, at ports that are
free; since their names decide the places, each set's names are written down too.

The keys are those of `key` below; the test makes the same ones.
"""

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time

KEYS = 10_000
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def key(number):
    """Paths of several lengths, in which nginx finds nothing to normalise."""
    mixed = number * 0x9E3779B97F4A7C15 % 2**64
    return [
        f"/k/{number}",
        f"/cache/{mixed:016x}",
        f"/x{'x' * (number % 97)}/{number}",
        f"/a/{mixed % 1000}/b/{number}.tar.gz",
    ][number % 4]


def free_ports(count):
    held = []
    for _ in range(count):
        port = socket.socket()
        port.bind(("0.0.0.0", 0))
        held.append(port)
    ports = [port.getsockname()[1] for port in held]
    for port in held:
        port.close()
    return ports


def sets(folder):
    """(name, [(server, weight, parameters, listen)])"""
    p = free_ports(40)
    local = lambda n, port: (f"127.0.0.{n}:{port}", f"127.0.0.{n}:{port}")
    equal = [(local(n, p[0])[0], 1, "", local(n, p[0])[1]) for n in range(1, 6)]
    weights = [1, 2, 5, 1, 20, 3, 7]
    unequal = [(local(n, p[1])[0], weights[n - 1], "", local(n, p[1])[1]) for n in range(1, 8)]
    many = [(f"127.0.1.{n}:{p[2]}", 1 + n % 3, "", f"127.0.1.{n}:{p[2]}") for n in range(1, 37)]
    # Names of every form: a host name, a name without a port (80), IPv6, sockets.
    forms = [
        (f"localhost:{p[3]}", 2, "", f"127.0.0.1:{p[3]}"),
        ("127.0.2.1", 1, "", "127.0.2.1:80"),
        ("127.0.2.2:80", 1, "", "127.0.2.2:80"),
        (f"[::1]:{p[4]}", 1, "", f"[::1]:{p[4]}"),
        (f"unix:{folder}/a.sock", 3, "", f"unix:{folder}/a.sock"),
    ]
    down = [(local(n, p[5])[0], w, "down" if n in (2, 3) else "", local(n, p[5])[1])
            for n, w in [(1, 1), (2, 4), (3, 2), (4, 1), (5, 3)]]
    one = [(local(1, p[6])[0], 256, "", local(1, p[6])[1]), (local(2, p[6])[0], 1, "", local(2, p[6])[1])]
    return [("equal", equal), ("unequal", unequal), ("many", many), ("forms", forms),
            ("down", down), ("heavy", one)], p[20:]


def config(folder, chosen, doors):
    lines = [
        "daemon off; worker_processes 1;",
        f"pid {folder}/pid; error_log {folder}/error.log;",
        "events { worker_connections 1024; }",
        "http { access_log off; keepalive_requests 1000000;",
        f"client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;",
        f"uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;",
    ]
    for (name, servers), door in zip(chosen, doors):
        lines.append(f"upstream {name} {{ hash $uri consistent;")
        lines += [f"server {server} weight={weight} {more};" for server, weight, more, _ in servers]
        lines.append("}")
        lines.append(f"server {{ listen 127.0.0.1:{door}; location / {{ proxy_pass http://{name}; }} }}")
        for digit, (_, _, _, listen) in zip(DIGITS, servers):
            lines.append(f"server {{ listen {listen}; location / {{ return 200 {digit}; }} }}")
    return "\n".join(lines + ["}", ""])


def ask(door):
    nginx = http.client.HTTPConnection("127.0.0.1", door)
    found = []
    for number in range(KEYS):
        nginx.request("GET", key(number))
        answer = nginx.getresponse()
        body = answer.read().decode()
        assert answer.status == 200 and len(body) == 1, (number, answer.status, body)
        found.append(body)
    return "".join(found)


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else "/usr/sbin/nginx"
    version = subprocess.run([program, "-v"], capture_output=True, text=True).stderr.strip()
    with tempfile.TemporaryDirectory(prefix="ketama-") as folder:
        os.chmod(folder, 0o755)
        chosen, doors = sets(folder)
        path = f"{folder}/nginx.conf"
        with open(path, "w") as file:
            file.write(config(folder, chosen, doors))
        nginx = subprocess.Popen([program, "-c", path, "-e", f"{folder}/error.log"])
        try:
            for _ in range(100):
                try:
                    socket.create_connection(("127.0.0.1", doors[0]), 1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            print(f"# {version}; {KEYS} keys; made by ketama.py")
            print("# A line for each set: its name, its servers, the number of the server of each key.")
            for (name, servers), door in zip(chosen, doors):
                named = ",".join(f"{s}={w}{'!' if m else ''}" for s, w, m, _ in servers)
                print(name, named, ask(door))
        finally:
            nginx.terminate()
            nginx.wait()


if __name__ == "__main__":
    main()
