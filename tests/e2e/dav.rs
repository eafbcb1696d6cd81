//! Three nginx servers with the DAV module as shards: what a client sees through Ringway is what
//! it would see of the shard that owns the key, and the shard holds what the client sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::support::backend::Backend;
use crate::support::http::{Answer, Client, get, put};
use crate::support::nginx::Nginx;
use crate::support::process::run;
use crate::support::ringway::{Serve, locate, shards};
use crate::support::say::require;

/// Ringway in front of three servers.
struct Dav {
    serve: Serve,
    servers: Vec<Nginx>,
}

impl Dav {
    fn start() -> Option<Self> {
        let program = require("nginx")?;
        let servers: Vec<Nginx> = (0..3).map(|_| Nginx::start(&program)).collect();
        let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
        let serve = Serve::start(&format!(
            "pools:\n  - name: dav\n    health: {{ active: {{ path: /probe, interval: 200ms }} }}\n\
             {}routes:\n  - {{ name: all, pool: dav }}\n",
            shards(&addresses)
        ));
        Some(Self { serve, servers })
    }

    /// The server with this shard id.
    fn server(&self, shard: &str) -> &Nginx {
        let number: usize = shard.strip_prefix('s').expect("s1, s2 ...").parse().expect("a number");
        &self.servers[number - 1]
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.serve.data)
    }

    /// The first of `PREFIX-0`, `PREFIX-1` … that the wanted shard owns.
    fn path_on(&self, prefix: &str, wanted: &str) -> String {
        let candidates = (0..200).map(|n| format!("{prefix}-{n}"));
        let mut on_it = candidates.filter(|path| get(self.serve.data, path).shard() == wanted);
        on_it.next().expect("200 keys reach every shard")
    }
}

/// Runs curl; status and standard output.
fn curl(arguments: &[&str]) -> (u16, String) {
    let mut command = Command::new("curl");
    // Nothing of the user's own: no configuration file, no proxy.
    command.args(["-q", "-sS", "--noproxy", "*", "--max-time", "20", "-w", "\n%{http_code}"]);
    let said = run("curl", command.args(arguments));
    assert!(said.success, "curl {arguments:?}: {}", said.stderr);
    let (output, status) = said.stdout.rsplit_once('\n').expect("a status at the end");
    (status.parse().expect("a status"), output.to_owned())
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("written");
    path.display().to_string()
}

#[test]
fn curl_stores_reads_and_removes_through_the_owner_of_each_key() {
    let (Some(_), Some(dav)) = (require("curl"), Dav::start()) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = write(folder.path(), "file", b"hello, shard");
    let mut held: BTreeMap<String, usize> = BTreeMap::new();
    for n in 0..9 {
        let url = dav.url(&format!("/curl/file-{n}"));
        assert_eq!(curl(&["-T", &file, &url]).0, 201);
        assert_eq!(curl(&[&url]), (200, "hello, shard".to_owned()));
        assert_eq!(curl(&["-r", "7-11", &url]), (206, "shard".to_owned()));
        assert_eq!(curl(&["-r", "99-", &url]).0, 416);
        let (status, head) = curl(&["-I", &url]);
        assert_eq!(status, 200);
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_else(|| panic!("no {name} in {head}")).trim().to_owned()
        };
        assert_eq!(field("Content-Length"), "12");
        let unless = format!("If-None-Match: {}", field("ETag"));
        assert_eq!(curl(&["-H", &unless, &url]), (304, String::new()));
        let since = format!("If-Modified-Since: {}", field("Last-Modified"));
        assert_eq!(curl(&["-H", &since, &url]).0, 304);
        let shard = field("Ringway-Shard");
        let on_disk = dav.server(&shard).root().join(format!("curl/file-{n}"));
        assert_eq!(std::fs::read(&on_disk).expect("the shard's file"), b"hello, shard");
        *held.entry(shard).or_default() += 1;
        if n == 0 {
            assert_eq!(curl(&["-X", "DELETE", &url]).0, 204);
            assert!(!on_disk.exists(), "the file is gone from the shard");
            assert_eq!(curl(&[&url]).0, 404);
        }
    }
    let files: usize = dav.servers.iter().map(Nginx::files).sum();
    assert_eq!((held.values().sum::<usize>(), files), (9, 8), "{held:?}");
}

#[test]
fn each_key_has_one_shard_all_three_are_used_and_locate_agrees() {
    let Some(dav) = Dav::start() else { return };
    let mut client = Client::connect(dav.serve.data);
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for n in 0..200 {
        let path = format!("/keys/{n:03}");
        let answer = client.ask("PUT", &path, "", path.as_bytes()).expect("an answer");
        assert_eq!(answer.status, 201);
        owners.insert(path, answer.shard().to_owned());
    }
    for (path, shard) in &owners {
        let answer = client.ask("GET", path, "", b"").expect("an answer");
        assert_eq!((answer.status, answer.shard()), (200, shard.as_str()), "{path}");
        assert_eq!(answer.body, path.as_bytes());
        let on_disk = dav.server(shard).root().join(&path[1..]);
        assert_eq!(std::fs::read(on_disk).expect("the file"), path.as_bytes());
    }
    for (at, server) in dav.servers.iter().enumerate() {
        let owned = owners.values().filter(|shard| **shard == format!("s{}", at + 1)).count();
        assert!(owned > 20, "s{} has {owned} of 200 keys", at + 1);
        assert_eq!(server.files(), owned, "every key lies on one shard only");
    }
    let paths: Vec<String> = owners.keys().cloned().collect();
    for (located, shard) in locate(&dav.serve.file(), &paths).iter().zip(owners.values()) {
        assert_eq!(&located.owner, shard, "`locate` answers from the file what serve does");
    }
}

/// Fields that a gateway adds, or that concern only its own connections and clock.
const OF_THE_HOP: [&str; 6] =
    ["connection", "keep-alive", "ringway-shard", "ringway-epoch", "ringway-request-id", "date"];

/// What must not differ between an answer of the shard and the same answer through Ringway.
fn substance(answer: &Answer) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let mut fields: Vec<_> = answer
        .fields
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .filter(|(name, _)| !OF_THE_HOP.contains(&name.as_str()))
        .collect();
    fields.sort();
    (answer.status, fields, answer.body.clone())
}

#[test]
fn answers_are_the_shards_own_field_by_field() {
    let Some(dav) = Dav::start() else { return };
    let path = "/same/object.txt";
    let body: Vec<u8> = (0..5000u32).map(|n| b'a' + (n % 26) as u8).collect();
    let shard = put(dav.serve.data, path, &body).shard().to_owned();
    let direct = dav.server(&shard).address;
    let mut through = Client::connect(dav.serve.data);
    let plain = get(direct, path);
    let etag = plain.field("ETag").expect("nginx gives one").to_owned();
    let modified = plain.field("Last-Modified").expect("nginx gives one").to_owned();

    let cases: Vec<(u16, &str, String)> = vec![
        (200, "GET", String::new()),
        (200, "HEAD", String::new()),
        (206, "GET", "Range: bytes=0-0\r\n".to_owned()),
        (206, "GET", "Range: bytes=-100\r\n".to_owned()),
        (206, "GET", "Range: bytes=4990-\r\n".to_owned()),
        (416, "GET", "Range: bytes=5000-\r\n".to_owned()),
        (206, "GET", format!("Range: bytes=1-2\r\nIf-Range: {etag}\r\n")),
        (200, "GET", "Range: bytes=1-2\r\nIf-Range: \"other\"\r\n".to_owned()),
        (304, "GET", format!("If-None-Match: {etag}\r\n")),
        (304, "HEAD", format!("If-None-Match: {etag}\r\n")),
        (304, "GET", format!("If-None-Match: \"x\", {etag}\r\n")),
        (200, "GET", "If-None-Match: \"other\"\r\n".to_owned()),
        (304, "GET", format!("If-Modified-Since: {modified}\r\n")),
        (200, "GET", format!("If-Match: {etag}\r\n")),
        (412, "GET", "If-Match: \"other\"\r\n".to_owned()),
        (412, "GET", "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n".to_owned()),
        (405, "POST", String::new()),
        (405, "PROPFIND", String::new()),
    ];
    for (status, method, fields) in cases {
        let mine = through.ask(method, path, &fields, b"").expect("an answer");
        // nginx closes its connection after some errors; Ringway's client need not notice.
        let theirs = Client::connect(direct).ask(method, path, &fields, b"").expect("an answer");
        assert_eq!(mine.status, status, "{method} {fields}");
        assert_eq!(substance(&mine), substance(&theirs), "{method} {fields}");
        assert_eq!(mine.shard(), shard);
    }
    // Several ranges: nginx draws a new boundary for each answer, so the parts are compared.
    let fields = "Range: bytes=0-1,10-11\r\n";
    let mine = through.ask("GET", path, fields, b"").expect("an answer");
    assert_eq!(mine.status, 206);
    assert!(mine.text().contains("\r\n\r\nab\r\n") && mine.text().contains("\r\n\r\nkl\r\n"));
    let missing = through.ask("GET", "/same/none", "", b"").expect("an answer");
    let owner = dav.server(missing.shard()).address;
    assert_eq!(substance(&missing), substance(&get(owner, "/same/none")));
}

#[test]
fn copy_and_move_work_within_a_shard_and_are_refused_across() {
    let Some(dav) = Dav::start() else { return };
    let from = dav.path_on("/from", "s1");
    let (near, moved) = (dav.path_on("/near", "s1"), dav.path_on("/moved", "s1"));
    let far = dav.path_on("/far", "s2");
    assert_eq!(put(dav.serve.data, &from, b"content").status, 201);
    let mut client = Client::connect(dav.serve.data);
    let destination = |path: &str| format!("Destination: {}\r\n", dav.url(path));

    let copied = client.ask("COPY", &from, &destination(&near), b"").expect("an answer");
    assert_eq!((copied.status, copied.shard()), (204, "s1"));
    let copied = client.ask("MOVE", &near, &destination(&moved), b"").expect("an answer");
    assert_eq!((copied.status, copied.shard()), (204, "s1"));
    assert_eq!(get(dav.serve.data, &moved).body, b"content");
    assert_eq!(get(dav.serve.data, &near).status, 404);

    for method in ["COPY", "MOVE"] {
        let refused = client.ask(method, &from, &destination(&far), b"").expect("an answer");
        assert_eq!((refused.status, refused.problem().as_str()), (502, "cross-shard"));
        assert_eq!(refused.field("Ringway-Outcome"), Some("not-applied"));
        let elsewhere = "Destination: http://elsewhere.example/x\r\n";
        let refused = client.ask(method, &from, elsewhere, b"").expect("an answer");
        assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-destination"));
    }
    assert_eq!(get(dav.serve.data, &from).body, b"content", "nothing was moved");
    assert_eq!(get(dav.serve.data, &far).status, 404, "nothing arrived");
    assert_eq!(client.ask("MKCOL", "/folder/", "", b"").expect("an answer").status, 201);
}

#[test]
fn large_bodies_stream_both_ways_in_little_memory() {
    let (Some(_), Some(dav)) = (require("curl"), Dav::start()) else { return };
    const MIB: usize = 1 << 20;
    let folder = tempfile::tempdir().expect("a folder");
    let block: Vec<u8> = (0..MIB).map(|_| fastrand::u8(..)).collect();
    let file = write(folder.path(), "large", &block.repeat(100));
    let url = dav.url("/large");
    assert_eq!(curl(&["-T", &file, &url]).0, 201);
    // Without a length: chunks all the way.
    let chunked = ["-X", "PUT", "-H", "Transfer-Encoding: chunked", "-T", &file];
    let second = dav.url("/large-chunked");
    assert_eq!(curl(&[&chunked[..], &[&second]].concat()).0, 201);
    for url in [&url, &second] {
        let back = folder.path().join("back").display().to_string();
        assert_eq!(curl(&["-o", &back, url]).0, 200);
        let same = run("cmp", Command::new("cmp").args([&file, &back]));
        assert!(same.success, "{}", same.stdout);
    }
    let peak = dav.serve.process.peak_resident_bytes();
    assert!(peak < 40 * MIB as u64, "400 MiB through {peak} bytes of memory");
}

#[test]
fn bodies_of_all_forms_arrive() {
    let Some(dav) = Dav::start() else { return };
    let mut client = Client::connect(dav.serve.data);
    let host = dav.serve.data;
    // The client waits to be asked for the body, and is.
    for size in [5, 100_000] {
        let head = format!(
            "PUT /expect-{size} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n\
             Expect: 100-continue\r\n\r\n"
        );
        client.send(head).expect("sent");
        assert_eq!(client.hear_head().expect("an interim answer").status, 100);
        client.send(vec![b'x'; size]).expect("sent");
        assert_eq!(client.hear(false).expect("an answer").status, 201);
        let back = client.ask("GET", &format!("/expect-{size}"), "", b"").expect("an answer");
        assert_eq!(back.body, vec![b'x'; size]);
    }
    // Chunks, with an extension and trailers, in odd pieces.
    let head =
        format!("PUT /chunked HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(head).expect("sent");
    for piece in ["5;x=y\r\nhel", "lo\r\n", "A\r", "\n, chunked!\r\n0\r\nX-T", "railer: 1\r\n\r\n"]
    {
        client.send(piece).expect("sent");
    }
    assert_eq!(client.hear(false).expect("an answer").status, 201);
    let back = client.ask("GET", "/chunked", "", b"").expect("an answer");
    assert_eq!(back.text(), "hello, chunked!");
    // No body, said aloud and silently.
    assert_eq!(client.ask("PUT", "/empty", "", b"").expect("an answer").status, 201);
    assert_eq!(client.ask("GET", "/empty", "", b"").expect("an answer").body, b"");
    let head = client.ask("HEAD", "/chunked", "", b"").expect("an answer");
    assert_eq!((head.status, head.field("Content-Length")), (200, Some("15")));
    // An answer of 204 has neither content nor length, and the connection goes on.
    let gone = client.ask("DELETE", "/empty", "", b"").expect("an answer");
    assert_eq!((gone.status, gone.field("Content-Length")), (204, None));
    assert_eq!(gone.field("Transfer-Encoding"), None);
    assert_eq!(client.ask("GET", "/empty", "", b"").expect("an answer").status, 404);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let Some(dav) = Dav::start() else { return };
    for n in 0..20 {
        assert_eq!(
            put(dav.serve.data, &format!("/pipe/{n}"), n.to_string().as_bytes()).status,
            201
        );
    }
    let mut client = Client::connect(dav.serve.data);
    let host = dav.serve.data;
    let mut all = String::new();
    for n in 0..20 {
        all.push_str(&format!("GET /pipe/{n} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        all.push_str(&format!(
            "PUT /pipe/new-{n} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nhi"
        ));
    }
    client.send(all).expect("sent");
    for n in 0..20 {
        let answer = client.hear(false).expect("an answer");
        assert_eq!((answer.status, answer.text()), (200, n.to_string()));
        assert_eq!(client.hear(false).expect("an answer").status, 201);
    }
}

#[test]
fn a_shard_is_sent_what_a_gateway_sends_and_no_more() {
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            let trailers = request.field("TE") == Some("trailers");
            connection.say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
            connection.say(
                "HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nX-End: 2\r\n\
                 Keep-Alive: timeout=5\r\nRingway-Shard: forged\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5\r\nhello\r\n0\r\n",
            );
            connection.say(if trailers { "X-Sum: 42\r\n\r\n" } else { "\r\n" });
        }
    });
    let pool = |rule: &str| {
        let shard = format!("http://{}", backend.address);
        format!(
            "{rule}pools:\n  - name: p\n    health: {{ active: off }}\n    shards:\n      \
             - {{ id: only, url: \"{shard}\" }}\nroutes:\n  - {{ name: all, pool: p }}\n"
        )
    };
    let sent = "Connection: X-Secret, close-not\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\n\
                Proxy-Connection: x\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\n\
                X-Forwarded-Proto: https\r\nX-Kept: a  b\r\nx-KEPT: again\r\nTE: trailers\r\n\
                Accept-Encoding: gzip\r\nAuthorization: Basic eA==\r\nCookie: a=b\r\n";

    let serve = Serve::start(&pool(""));
    let mut client = Client::connect(serve.data);
    let answer = client.ask("GET", "/a%41?q=%41", sent, b"").expect("an answer");
    assert_eq!((answer.status, answer.text()), (200, "hello".to_owned()));
    assert_eq!(answer.interim, [103], "other interim answers are passed on");
    assert_eq!(answer.trailers, [("X-Sum".to_owned(), "42".to_owned())]);
    assert_eq!(answer.field("X-End"), Some("2"));
    for hop in ["X-Hop", "Keep-Alive", "Connection"] {
        assert_eq!(answer.field(hop), None, "{hop} concerned the shard's connection only");
    }
    assert_eq!(answer.shard(), "only", "a shard cannot speak for Ringway");
    assert_eq!(answer.field("Ringway-Epoch"), Some("1"));
    assert_eq!(answer.field("Ringway-Request-Id").map(str::len), Some(16));

    let mut requests = backend.take_requests();
    let request = requests.pop().expect("one request");
    assert_eq!(request.asked(), "GET /aA?q=%41", "the path canonical, the query untouched");
    assert_eq!(request.field("Host"), Some(backend.address.to_string().as_str()));
    assert_eq!(request.field("Via"), Some("1.1 test (ringway)"));
    assert_eq!(request.field("X-Forwarded-For"), Some("127.0.0.1"));
    assert_eq!(request.field("X-Forwarded-Proto"), Some("http"));
    assert_eq!(request.field("X-Forwarded-Host"), Some(serve.data.to_string().as_str()));
    assert_eq!(request.field("TE"), Some("trailers"));
    assert_eq!(request.field("Connection"), Some("TE"));
    for hop in ["X-Secret", "Keep-Alive", "Upgrade", "Proxy-Connection", "Content-Length"] {
        assert_eq!(request.field(hop), None, "{hop} is not for the shard");
    }
    for kept in ["X-Kept: a  b", "x-KEPT: again", "Accept-Encoding: gzip", "Cookie: a=b"] {
        assert!(request.head.contains(kept), "{kept} goes on as it came: {request:?}");
    }

    // Trailers of a request go on; an answer's are left out for a client that did not ask.
    let head =
        format!("PUT /t HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", serve.data);
    client.send(head + "2\r\nhi\r\n0\r\nX-Check: 7\r\n\r\n").expect("sent");
    let answer = client.hear(false).expect("an answer");
    assert_eq!((answer.status, answer.trailers.len()), (200, 0));
    let request = backend.take_requests().pop().expect("one request");
    assert_eq!((request.body.as_slice(), request.trailers.as_str()), (&b"hi"[..], "X-Check: 7\n"));

    // An old client gets no interim answer and no chunks: the end of the connection ends the body.
    client.send("GET /old HTTP/1.0\r\n\r\n").expect("sent");
    let old = client.hear(false).expect("an answer");
    assert_eq!((old.text(), old.interim.len(), old.trailers.len()), ("hello".to_owned(), 0, 0));
    assert_eq!(old.field("Transfer-Encoding"), None);
    assert!(old.closes());

    // Behind a proxy of one's own, its word is believed and continued.
    let serve = Serve::start(&pool("client: { forwarded: append }\n"));
    Client::connect(serve.data).ask("GET", "/b", sent, b"").expect("an answer");
    let request = backend.take_requests().pop().expect("one request");
    assert_eq!(request.field("X-Forwarded-For"), Some("6.6.6.6, 127.0.0.1"));
    assert_eq!(request.field("X-Forwarded-Proto"), Some("https"));
    assert_eq!(request.field("X-Forwarded-Host"), Some("evil"));
    assert!(backend.take_garbage().is_empty());
}
