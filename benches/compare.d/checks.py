"""Does a proxy answer rightly? Asked before and after each measured load.

A proxy that loses bytes, answers by itself or sends a path here and there could be as fast as it
likes. So before each load the same path must reach the same backend time and again, all four
backends must be used, and bodies must be whole; after it the path must still lead where it led at
the start. What a load has put must be on the backend's disk byte for byte, in the folder of the
very backend that the path leads to.
"""

import contextlib
import hashlib
import http.client
import random

from loads import BULK, PATHS
from machine import Failure
from peers import SMALL

SMALL_PATHS = 64
PUT_PATHS = 8


class Checker:
    """Checks one target; keeps where each path led."""

    def __init__(self, stage, target, payloads):
        self.stage = stage
        self.target = target
        self.payloads = payloads    # kind of bulk load -> the body that goes with it
        self.homes = {}             # path -> port of its backend

    def before(self, kind):
        """Check small bodies, placement, and the bodies that the load `kind` moves."""
        with contextlib.closing(self.connect()) as connection:
            for _ in range(2):
                for number in range(SMALL_PATHS):
                    self.same(connection, f"/k/{number}", SMALL.encode())
            if self.target.proxy:
                missing = set(map(str, self.stage.backends)) - set(self.homes.values())
                self.demand(not missing, f"no path of {SMALL_PATHS} reached the backends {sorted(missing)}")
            if kind in ("get1m", "get64m"):
                self.same(connection, BULK[kind][0] + "0", self.payloads[kind])
            if kind == "put1m":
                for number in range(PUT_PATHS):
                    path, body = f"/put/check-{number}", random.randbytes(BULK[kind][1])
                    status, _, _ = self.ask(connection, "PUT", path, body)
                    self.demand(status in (201, 204), f"PUT {path} answered {status}")
                    self.same(connection, path, body)

    def after(self, kind):
        """Check that placement has not moved, and what the load `kind` has put."""
        self.before(None)
        if kind != "put1m":
            return
        with contextlib.closing(self.connect()) as connection:
            for number in range(PATHS):
                path = f"/put/{number}"
                self.same(connection, path, self.payloads[kind])
                kept = self.stage.kept / self.homes[path] / path.lstrip("/")
                self.demand(kept.read_bytes() == self.payloads[kind], f"{kept} is not what was put")

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.target.port, timeout=30)

    def ask(self, connection, method, path, body=None):
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.headers["X-Backend"], answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{self.target.name}: {method} {path}: {error!r}. It said:\n{self.target.said()}") from error

    def same(self, connection, path, expected):
        """GET `path`: a whole body, from the backend that the path has always had."""
        status, home, body = self.ask(connection, "GET", path)
        self.demand(status == 200 and home, f"GET {path} answered {status}, backend {home}")
        self.demand(body == expected, f"GET {path}: {len(body)} bytes, {digest(body)}, "
                                      f"where {len(expected)} bytes, {digest(expected)} were due")
        known = self.homes.setdefault(path, home)
        self.demand(known == home, f"GET {path} went to backend {home} and before to {known}")

    def demand(self, truth, sentence):
        if not truth:
            raise Failure(f"{self.target.name}: {sentence}")


def digest(body):
    return "SHA-256 " + hashlib.sha256(body).hexdigest()[:16]
