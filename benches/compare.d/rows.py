"""What is compared, how long, and in which figures?

Figures of CPU lead: they move by a tenth between runs where requests per second move by a third,
because the load, the backend and the neighbours share what the proxy does not use.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import loads
from machine import cpu_between, cpu_seconds, memory_bytes, tree

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True)
class Figure:
    key: str
    title: str
    more_is_better: bool = False


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    figures: tuple
    measure: Callable           # (Stage, Target, seconds, Setup) -> {figure's key: value}
    seconds: tuple              # of one load, quick and full
    rounds: tuple               # quick and full
    direct: bool = True         # whether the backend alone is measured too, as a reference
    fresh_each_round: bool = False
    realtime: bool = False
    endless: bool = False       # whether connections take any number of requests


@dataclass(frozen=True)
class Setup:
    """What rows need that is the same for all of a run."""

    payloads: dict              # kind of bulk load -> file with the body to put
    idle_count: int
    wrk: str
    h2load: str


def with_cpu(target, load):
    """The load's result, and the CPU seconds that the target spent on it."""
    before = cpu_seconds(tree(target.process.pid))
    result = load()
    return result, cpu_between(before, cpu_seconds(tree(target.process.pid)))


def small(stage, target, seconds, setup, close=False, tls=False):
    port, scheme = (target.tls, "https") if tls else (target.port, "http")
    result, cpu = with_cpu(
        target, lambda: loads.wrk(stage.run, setup.wrk, port, seconds, 64, close, scheme))
    return {
        "rate": result["requests"] / result["seconds"],
        "cpu": cpu / result["requests"] * 1e6,
        "p50": result["p50_us"],
        "p99": result["p99_us"],
    }


def churn(stage, target, seconds, setup):
    return small(stage, target, seconds, setup, close=True)


def over_tls(stage, target, seconds, setup):
    return small(stage, target, seconds, setup, tls=True)


def handshakes(stage, target, seconds, setup):
    return small(stage, target, seconds, setup, close=True, tls=True)


def http2(tls):
    def measure(stage, target, seconds, setup):
        port, scheme = (target.tls, "https") if tls else (target.h2c, "http")
        result, cpu = with_cpu(
            target, lambda: loads.h2load(stage.run, setup.h2load, port, seconds, scheme))
        return {"rate": result["requests"] / result["seconds"], "cpu": cpu / result["requests"] * 1e6}
    return measure


def paced(stage, target, seconds, setup):
    result = loads.paced(stage.run, target.port, seconds)
    return {"p50": result["p50_us"], "p99": result["p99_us"]}


def large(kind):
    def measure(stage, target, seconds, setup):
        result, cpu = with_cpu(
            target, lambda: loads.bulk(stage.run, kind, target.port, seconds, setup.payloads[kind]))
        return {
            "rate": result["bytes"] / MIB / result["seconds"],
            "cpu": cpu * 1000 / (result["bytes"] / GIB),
        }
    return measure


def idle(stage, target, seconds, setup):
    # The pools and buffers that any traffic leaves behind are not the idle connections' doing.
    loads.wrk(stage.run, setup.wrk, target.port, 1, 64)
    time.sleep(0.5)
    pids = tree(target.process.pid)
    before = memory_bytes(pids, "VmRSS")
    clients = loads.Idle(stage.start, target.port, setup.idle_count)
    time.sleep(seconds)
    after = memory_bytes(pids, "VmRSS")
    clients.ask_again()
    return {"each": (after - before) / setup.idle_count / 1024, "all": after / MIB}


RATE = Figure("rate", "req/s", more_is_better=True)
CPU = Figure("cpu", "CPU us per request")
P50 = Figure("p50", "p50 us")
P99 = Figure("p99", "p99 us")
BULK_RATE = Figure("rate", "MiB/s", more_is_better=True)
BULK_CPU = Figure("cpu", "CPU ms per GiB")
# Not a sample of a round: the peak of the whole row, read at its end from fresh processes.
PEAK = Figure("peak", "peak RSS MiB")
# Not measured but computed, round by round, from the target's p50 and that of `direct`.
ADDED = Figure("added", "p50 us over direct")

ROWS = [
    Row("get1k", "GET 1 KiB, 64 connections, kept", (CPU, RATE, P50, P99, PEAK), small, (2, 4), (2, 5)),
    Row("low", f"GET 1 KiB at {loads.RATE} req/s", (P50, ADDED, P99), paced, (2, 3), (1, 3), realtime=True),
    Row("get1m", "GET 1 MiB", (BULK_CPU, BULK_RATE, PEAK), large("get1m"), (1, 2.5), (1, 3)),
    Row("get64m", "GET 64 MiB", (BULK_CPU, BULK_RATE, PEAK), large("get64m"), (1, 2.5), (1, 3)),
    Row("put1m", "PUT 1 MiB", (BULK_CPU, BULK_RATE, PEAK), large("put1m"), (1, 2.5), (1, 3)),
    Row("churn", "GET 1 KiB, new connection each", (CPU, RATE, P50, P99), churn, (1, 2), (1, 3)),
    Row("tls1k", "GET 1 KiB over TLS 1.3, 64 connections, kept", (CPU, RATE, P50, P99), over_tls, (1, 3), (1, 3),
        direct=False),
    Row("tlsnew", "GET 1 KiB over TLS 1.3, whole handshake each", (CPU, RATE), handshakes, (1, 3), (1, 3),
        direct=False),
    Row("h2c", "GET 1 KiB over HTTP/2 in the clear, 8 x 16 streams", (CPU, RATE), http2(False), (1, 3), (1, 3),
        direct=False, endless=True),
    Row("h2", "GET 1 KiB over HTTP/2 and TLS 1.3, 8 x 16 streams", (CPU, RATE), http2(True), (1, 3), (1, 3),
        direct=False, endless=True),
    # The seconds are what a proxy gets to give back its buffers before its memory is read.
    Row("idle", "idle connections", (Figure("each", "KiB per connection"), Figure("all", "RSS with all MiB")),
        idle, (2, 3), (1, 2), direct=False, fresh_each_round=True),
]
