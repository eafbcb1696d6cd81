"""Clients of Python against a server that answers a request with its method, its path and its content:
each says what came back. Ends with 0 if all was as it must be."""

import asyncio
import http.client
import sys
import urllib.parse
import urllib.request

import aiohttp
import requests

BASE = sys.argv[1]
HOST = urllib.parse.urlsplit(BASE).netloc
LARGE = b"0123456789abcdef" * 20_000


def wanted(method, path, body=b""):
    return f"{method} {path} ".encode() + body


def same(name, got, expected):
    assert got == expected, f"{name}: {got[:200]!r} is not {expected[:200]!r}"


def pieces():
    for at in range(0, len(LARGE), 7001):
        yield LARGE[at:at + 7001]


def standard_library():
    connection = http.client.HTTPConnection(HOST, timeout=30)
    for n in range(50):
        connection.request("GET", f"/keep/{n}")
        same("http.client", connection.getresponse().read(), wanted("GET", f"/keep/{n}"))
    socket = connection.sock
    connection.request("PUT", "/chunks", body=pieces(), encode_chunked=True)
    same("http.client chunks", connection.getresponse().read(), wanted("PUT", "/chunks", LARGE))
    connection.request("HEAD", "/head")
    answer = connection.getresponse()
    same("http.client HEAD", answer.read(), b"")
    assert answer.length == 0 and answer.getheader("Content-Length") is not None
    connection.request("POST", "/empty")
    same("http.client POST", connection.getresponse().read(), wanted("POST", "/empty"))
    connection.request("DELETE", "/gone", body=b"why")
    same("http.client DELETE", connection.getresponse().read(), wanted("DELETE", "/gone", b"why"))
    assert connection.sock is socket, "one connection for all"
    connection.close()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    same("urllib", opener.open(BASE + "/urllib", b"posted").read(), wanted("POST", "/urllib", b"posted"))


def with_requests():
    with requests.Session() as session:
        session.trust_env = False
        for n in range(50):
            same("requests", session.get(f"{BASE}/r/{n}?q={n}").content, wanted("GET", f"/r/{n}?q={n}"))
        same("requests chunks", session.put(BASE + "/up", data=pieces()).content, wanted("PUT", "/up", LARGE))
        same("requests large", session.post(BASE + "/up", data=LARGE).content, wanted("POST", "/up", LARGE))
        with session.put(BASE + "/stream", data=LARGE, stream=True) as answer:
            same("requests stream", b"".join(answer.iter_content(999)), wanted("PUT", "/stream", LARGE))
        assert session.head(BASE + "/head").status_code == 200
        same("a name with all letters", session.get(BASE + "/\u00e4 {}|%41").content,
             wanted("GET", "/%C3%A4%20%7B%7D%7CA"))


async def with_aiohttp():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=10)) as session:

        async def get(n):
            async with session.get(f"{BASE}/a/{n}") as answer:
                same("aiohttp", await answer.read(), wanted("GET", f"/a/{n}"))

        await asyncio.gather(*(get(n) for n in range(200)))

        async def generator():
            for piece in pieces():
                yield piece

        for name, options in [("chunks", {"data": generator()}), ("expect", {"data": LARGE, "expect100": True}),
                              ("small", {"data": b"small", "expect100": True})]:
            async with session.put(BASE + "/" + name, **options) as answer:
                body = b"small" if name == "small" else LARGE
                same("aiohttp " + name, await answer.read(), wanted("PUT", "/" + name, body))


async def pipelined():
    reader, writer = await asyncio.open_connection(*HOST.split(":"))
    batch = b"".join(f"GET /p/{n} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode() for n in range(50))
    writer.write(batch)
    for n in range(50):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        same("pipelined", await reader.readexactly(length), wanted("GET", f"/p/{n}"))
    writer.close()


standard_library()
with_requests()
asyncio.run(with_aiohttp())
asyncio.run(pipelined())
