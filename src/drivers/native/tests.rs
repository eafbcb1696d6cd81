//! Against a store that says what it is told to say.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::drivers::http::Address;
use crate::ids::{BaseUrl, Birth, ClusterId, Epoch, Generation, PoolName, StoreId, Token};
use crate::net::buffer::Buffers;
use crate::net::timers::{Timer, Timers};
use crate::net::tls::ShardTls;
use crate::net::upstream::{Endpoint, Keep, UpstreamKey, Upstreams};
use crate::protocol::holding::Effect;
use crate::protocol::replica::{PoolEpoch, Refusal, StageId};
use crate::version::{Proposer, Stamp, Version};

const OWN: &str = "Ringway-Store: 07070707070707070707070707070707\r\n";
const KEY: (&[u8], Token) = (b"a%2Fb/c", Token(0xfe));

fn version(stamp: u64) -> Version {
    Version { stamp: Stamp(stamp), ..Version::NONE }
}

fn stage() -> StageId {
    StageId { proposer: Proposer::default(), sequence: 4 }
}

/// One store as a replica, and what it is spoken to by.
struct Bench {
    url: BaseUrl,
    address: Address,
    endpoint: Endpoint,
    tls: ShardTls,
    keep: Keep,
    pool: PoolName,
    means: Means,
    timer: Timer,
}

impl Bench {
    fn at(listener: &TcpListener) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let url = BaseUrl::parse(&format!("http://{address}/base")).expect("a URL");
        let timers = Timers::new(Instant::now());
        let timer = timers.register();
        Self {
            address: Address::of(&url),
            endpoint: Endpoint::of(&url),
            url,
            tls: ShardTls::default(),
            keep: Keep { idle_max: 4, idle_ms_max: 60_000, age_ms_max: 60_000 },
            pool: PoolName::new("objects").expect("a name"),
            means: Means {
                timers,
                upstreams: Rc::new(Upstreams::default()),
                buffers: Buffers::new(),
            },
            timer,
        }
    }

    fn replica(&self) -> Replica<'_> {
        let wait = Duration::from_secs(60);
        Replica {
            address: &self.address,
            endpoint: &self.endpoint,
            tls: &self.tls,
            key: UpstreamKey(1),
            connections: 0,
            keep: &self.keep,
            times: Times { connect: wait, answer: wait, idle: wait },
            pool: &self.pool,
            cluster: ClusterId([1; 16]),
            birth: Birth { generation: Generation(1), epoch: Epoch(4) },
            epoch: PoolEpoch { generation: Generation(2), epoch: Epoch(7) },
            store: Some(StoreId([7; 16])),
        }
    }
}

/// Reads one request: its head, and as much body as that announces.
async fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("\r\n").find_map(|line| line.strip_prefix("Content-Length: "));
            let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
            let is_chunked = head.contains("Transfer-Encoding: chunked");
            if (is_chunked && body.ends_with("0\r\n\r\n")) || (!is_chunked && body.len() == length)
            {
                return text;
            }
        }
        if stream.read_buf(&mut bytes).await.expect("bytes come") == 0 {
            return text;
        }
    }
}

/// A store that gives these answers, one list for each connection, and then closes it. Gives what
/// it was asked.
fn store(listener: TcpListener, connections: Vec<Vec<String>>) -> JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let mut asked = Vec::new();
        for answers in connections {
            let (mut stream, _) = listener.accept().await.expect("somebody connects");
            for answer in answers {
                asked.push(read(&mut stream).await);
                stream.write_all(answer.as_bytes()).await.expect("it is taken");
            }
        }
        asked
    })
}

fn answer(status: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{OWN}{fields}Content-Length: {length}\r\n\r\n{body}")
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

#[tokio::test]
async fn a_write_in_two_rounds_is_asked_and_understood() {
    let listener = listener().await;
    let bench = Bench::at(&listener);
    let newest = format!("Ringway-Version: {}\r\n", version(5));
    let applied = format!("Ringway-Version: {}\r\nringway-applied: yes\r\n", version(6));
    let asked = store(
        listener,
        vec![vec![
            answer("200 OK", &newest, ""),
            answer("200 OK", &applied, ""),
            answer("404 Not Found", "Ringway-Error: not-staged\r\n", "{}"),
            answer("204 No Content", "", ""),
        ]],
    );
    let (replica, means, timer) = (bench.replica(), &bench.means, &bench.timer);
    let kept = b"Content-Type: text/plain\r\n";
    let staged = replica.stage(means, timer, KEY, stage(), kept, b"hello").await;
    assert_eq!(staged.expect("it is staged"), Staged { newest: version(5) });
    let committed = replica.commit(means, timer, KEY, stage(), version(6)).await;
    let expected = Committed { effect: Effect::Applied, newest: version(6) };
    assert_eq!(committed.expect("it is committed"), Committal::Committed(expected));
    let committed = replica.commit(means, timer, KEY, stage(), version(6)).await;
    assert_eq!(committed.expect("it is answered"), Committal::NotStaged);
    replica.abort(means, timer, KEY, stage()).await.expect("it is dropped");

    let asked = asked.await.expect("all was asked, on one connection");
    let (store, host) = ("07".repeat(16), bench.url.authority());
    assert_eq!(
        asked[0],
        format!(
            "PUT /base/_ringway/replica/objects/stage/a%2Fb/c HTTP/1.1\r\nHost: {host}\r\n\
             ringway-cluster: {}\r\nringway-birth: 1.4\r\nringway-epoch: 2.7\r\nringway-store: {store}\r\n\
             ringway-stage: 0-0-0-4\r\nringway-token: 00000000000000fe\r\n\
             Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
            "01".repeat(16),
        )
    );
    assert!(
        asked[1].starts_with("POST /base/_ringway/replica/objects/commit/a%2Fb/c HTTP/1.1\r\n")
    );
    let told = format!("ringway-stage: 0-0-0-4\r\nringway-version: {}\r\n", version(6));
    assert!(asked[1].contains(&told) && asked[1].ends_with("Content-Length: 0\r\n\r\n"));
    assert!(asked[3].starts_with("DELETE /base/_ringway/replica/objects/stage/a%2Fb/c "));
}

#[tokio::test]
async fn what_is_held_is_told_apart() {
    let listener = listener().await;
    let bench = Bench::at(&listener);
    let of = |stamp| format!("Ringway-Version: {}\r\n", version(stamp));
    let facts = "Ringway-Size: 5\r\nringway-digest: ab\r\nX-Meta-A: b\r\nServer: s\r\n\
                 Content-Type: text/plain\r\nRingway-Modified: 99\r\n";
    let head = format!("HTTP/1.1 200 OK\r\n{OWN}{}{facts}Content-Length: 5\r\n\r\n", of(3));
    let tombstone = format!("{}Ringway-Tombstone: yes\r\n", of(4));
    let gone = format!("HTTP/1.1 404 Not Found\r\n{OWN}{tombstone}\r\n");
    let asked = store(
        listener,
        vec![vec![
            head,
            gone,
            answer("404 Not Found", &of(0), "{}"),
            answer("206 Partial Content", &format!("{}{facts}", of(3)), "ell"),
            answer("412 Precondition Failed", &of(9), "{}"),
            answer("416 Range Not Satisfiable", "", "{}"),
        ]],
    );
    let (replica, means, timer) = (bench.replica(), &bench.means, &bench.timer);
    let Held::Value(value) = replica.head(means, timer, KEY).await.expect("an answer") else {
        panic!("a value")
    };
    assert_eq!((value.version, value.size, value.modified_ms), (version(3), 5, 99));
    assert_eq!(value.kept, b"X-Meta-A: b\r\nContent-Type: text/plain\r\n");
    let held = replica.head(means, timer, KEY).await.expect("an answer");
    assert!(matches!(held, Held::Tombstone(found) if found == version(4)));
    let got = replica.get(means, timer, KEY, None, None).await.expect("an answer");
    assert!(matches!(got, Got::Nothing(Held::Absent(found)) if found.is_none()));
    let got = replica.get(means, timer, KEY, Some((1, 3)), Some(version(3))).await;
    let Got::Value(mut fetch) = got.expect("an answer") else { panic!("a value") };
    assert!(fetch.is_part && fetch.length == 3);
    let mut bytes = Vec::new();
    while let Some(part) = fetch.next(timer).await.expect("all of it comes") {
        bytes.extend_from_slice(part);
    }
    assert_eq!(bytes, b"ell");
    let got = replica.get(means, timer, KEY, None, Some(version(3))).await.expect("an answer");
    assert!(matches!(got, Got::Other(found) if found == version(9)));
    let got = replica.get(means, timer, KEY, Some((9, 9)), None).await.expect("an answer");
    assert!(matches!(got, Got::Outside));
    let asked = asked.await.expect("all of it on one connection");
    assert!(asked[3].contains("Range: bytes=1-3\r\n"), "{}", asked[3]);
    assert!(asked[3].contains(&format!("if-version: {}\r\n", version(3))), "{}", asked[3]);
}

#[tokio::test]
async fn refusals_say_that_nothing_was_done_and_doubts_that_it_may_have_been() {
    let listener = listener().await;
    let bench = Bench::at(&listener);
    let word = |word: &str| format!("Ringway-Error: {word}\r\n");
    let stale = format!("{}Ringway-Epoch: 2.9\r\n", word("stale-epoch"));
    let other = answer("200 OK", "", "").replace("07070707", "08080808");
    let told = [
        answer("409 Conflict", &stale, "{}"),
        answer("409 Conflict", &word("clock-ahead"), "{}"),
        answer("421 Misdirected Request", &word("other-cluster"), "{}"),
        answer("507 Insufficient Storage", &word("full"), "{}"),
        answer("500 Internal Server Error", &word("unknown"), "{}"),
        answer("502 Bad Gateway", "", "a balancer's page"),
        answer("200 OK", "", ""),
        other,
        "HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ];
    let each = |at: usize| vec![told[at].clone()];
    let asked = store(listener, vec![told[..7].to_vec(), each(7), each(8)]);
    let (replica, means, timer) = (bench.replica(), &bench.means, &bench.timer);
    let mut faults = Vec::new();
    for _ in &told {
        let done = replica.delete(means, timer, KEY, version(6)).await;
        faults.push(done.expect_err("none of them is an acknowledgement"));
    }
    let said: Vec<String> = faults.iter().map(|fault| format!("{fault:?}")).collect();
    let later = PoolEpoch { generation: Generation(2), epoch: Epoch(9) };
    assert_eq!(
        said,
        [
            format!("{:?}", Fault::Refused(Refused::StaleEpoch(later))),
            format!("{:?}", Fault::Refused(Refused::Said(Refusal::ClockAhead))),
            format!("{:?}", Fault::Refused(Refused::Said(Refusal::OtherCluster))),
            format!("{:?}", Fault::Refused(Refused::Said(Refusal::Full))),
            format!("{:?}", Fault::Unsure(Doubt::Store)),
            format!("{:?}", Fault::Unsure(Doubt::Store)),
            format!("{:?}", Fault::Unsure(Doubt::BadAnswer("no_version"))),
            format!("{:?}", Fault::Refused(Refused::Foreign(Some(StoreId([8; 16]))))),
            // A balancer that gave up: the store may have done it.
            format!("{:?}", Fault::Unsure(Doubt::Store)),
        ]
    );
    asked.await.expect("all was asked");
}

/// A store restarts; the connections that were kept to it are closed. No request is to fail of it.
#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_nothing() {
    let listener = listener().await;
    let bench = Bench::at(&listener);
    let newest = format!("Ringway-Version: {}\r\n", version(5));
    let staged = || answer("200 OK", &newest, "");
    // The second request meets the first connection, which is closed behind its first answer.
    let asked = store(listener, vec![vec![staged()], vec![staged()], vec![String::new()]]);
    let (replica, means, timer) = (bench.replica(), &bench.means, &bench.timer);
    for _ in 0..2 {
        let staged = replica.stage(means, timer, KEY, stage(), b"", b"hello").await;
        assert_eq!(staged.expect("it is staged"), Staged { newest: version(5) });
    }
    means.upstreams.clear();
    // A new connection that breaks says something of the store.
    let staged = replica.stage(means, timer, KEY, stage(), b"", b"hello").await;
    assert!(matches!(staged, Err(Fault::Unsure(Doubt::Broke))), "{staged:?}");
    asked.await.expect("all was asked");
    let staged = replica.stage(means, timer, KEY, stage(), b"", b"hello").await;
    let fault = staged.expect_err("nobody listens any more");
    assert!(matches!(fault, Fault::NotSent(_)) && fault.is_certain());
}

#[tokio::test]
async fn a_body_of_unknown_length_is_sent_piece_by_piece() {
    let listener = listener().await;
    let bench = Bench::at(&listener);
    let applied = format!("Ringway-Version: {}\r\nRingway-Applied: no\r\n", version(9));
    let full = answer("507 Insufficient Storage", "Ringway-Error: full\r\n", "{}");
    let asked = store(listener, vec![vec![answer("200 OK", &applied, "")], vec![full]]);
    let (replica, means, timer) = (bench.replica(), &bench.means, &bench.timer);
    let origin = Origin { modified_ms: Some(1), digest: Some("00ff") };
    let put = replica.begin_put(means, timer, KEY, version(6), b"", origin, None).await;
    let mut put = put.expect("a connection");
    for piece in [&b"hel"[..], b"", b"lo"] {
        put.write(piece).await.expect("it is taken");
    }
    let done = put.put().await.expect("it is answered");
    assert_eq!(done, Committed { effect: Effect::Superseded, newest: version(9) });
    means.upstreams.clear();
    let stage = replica.begin_stage(means, timer, KEY, stage(), b"", Some(5)).await;
    let mut stage = stage.expect("a connection");
    stage.write(b"hello").await.expect("it is taken");
    let refused = stage.staged().await;
    let full = Refused::Said(Refusal::Full);
    assert!(matches!(&refused, Err(Fault::Refused(said)) if *said == full), "{refused:?}");
    let asked = asked.await.expect("all was asked");
    assert!(asked[0].ends_with("\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"), "{}", asked[0]);
    assert!(asked[1].ends_with("Content-Length: 5\r\n\r\nhello"), "{}", asked[1]);
}

#[tokio::test]
async fn pages_are_asked_with_everything_escaped() {
    let listener = listener().await;
    let bench = Bench::at(&listener);
    let page = format!(
        r#"{{"keys":[{{"key":"a%2Fb","token":"00000000000000fe","version":"{}","tombstone":true,"size":0,"modified_ms":1}}],"next":"x"}}"#,
        version(3)
    );
    let chunked = format!(
        "HTTP/1.1 200 OK\r\n{OWN}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{page}\r\n0\r\n\r\n",
        page.len()
    );
    let sums = "\0".repeat(47) + "\x02";
    let asked = store(listener, vec![vec![chunked, answer("200 OK", "", &sums)]]);
    let (replica, means, timer) = (bench.replica(), &bench.means, &bench.timer);
    let page = replica.list(means, timer, "a%2F&", Some("a b"), 7).await.expect("a page");
    assert_eq!((page.keys[0].token, page.next.as_deref()), (Token(0xfe), Some("x")));
    let sums = replica.digests(means, timer, 0, 4, 2).await.expect("two sums");
    assert_eq!((sums[0].count, sums[1].count), (0, 2));
    let asked = asked.await.expect("all was asked");
    let first = "GET /base/_ringway/replica/objects/list?limit=7&prefix=a%252F%26&after=a%20b HTTP";
    assert!(asked[0].starts_with(first), "{}", asked[0]);
}

/// The store has a large body on its disk before it answers, and a slow disk takes a while: each try
/// was given up after the same time, and such a value could never be written, or repaired.
#[tokio::test]
async fn a_large_body_is_waited_for_as_long_as_a_disk_takes() {
    const BYTES: usize = 64 * 1024 * 1024;
    let listener = listener().await;
    let bench = Bench::at(&listener);
    let slow = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("somebody connects");
        let (mut piece, mut came) = (vec![0; 1024 * 1024], 0);
        while came < BYTES {
            came += stream.read(&mut piece).await.expect("bytes come");
        }
        tokio::time::sleep(Duration::from_millis(600)).await;
        let held = format!("Ringway-Version: {}\r\n", version(9));
        stream.write_all(answer("200 OK", &held, "").as_bytes()).await.expect("it is read");
    });
    let (means, timer) = (&bench.means, &bench.timer);
    let wait = Duration::from_secs(60);
    let times = Times { connect: wait, answer: Duration::from_millis(200), idle: wait };
    let replica = Replica { times, ..bench.replica() };
    let staged = async {
        let stage = replica.begin_stage(means, timer, KEY, stage(), b"", Some(BYTES as u64)).await;
        let mut stage = stage.expect("a connection");
        let piece = vec![7; 1024 * 1024];
        for _ in 0..BYTES / piece.len() {
            stage.write(&piece).await.expect("it is taken");
        }
        stage.staged().await
    };
    let ticking = async {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            means.timers.refresh();
            means.timers.advance();
        }
    };
    let staged = tokio::select! {
        biased;
        staged = staged => staged,
        () = ticking => unreachable!("it goes on for ever"),
    };
    assert_eq!(staged.expect("it is answered").newest, version(9));
    slow.await.expect("all came");
    assert_eq!(syncing(8_000_000), Duration::from_secs(1));
}
