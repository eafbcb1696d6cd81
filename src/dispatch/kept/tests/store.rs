//! A store in memory that speaks the replica protocol, and fails as it is told to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::ids::{StoreId, Token};
use crate::protocol::replica::{Entry, Page};
use crate::version::Version;

/// What a store does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// What it should.
    Well,
    /// Closes the connection under every request.
    Breaks,
    /// The same, from the request on that has so many before it.
    BreaksFrom(usize),
    /// Closes the connection under every commit, carried out or not.
    BreaksAtCommit,
    /// Takes connections, and reads nothing.
    Deaf,
    /// Has forgotten what was staged.
    ForgetsStages,
    /// 507.
    Full,
    /// Has been told of this epoch.
    Knows(u64),
    /// Sends so many bytes of a body, and closes the connection.
    CutsBodies(usize),
    /// The same, and is gone by then.
    CutsAndGoes(usize),
    /// The same as the first, and has found by then that the value is damaged.
    SpoilsBodies(usize),
    /// Answers pages that cannot be: keys twice.
    Garbles,
    /// Refuses commits and puts for a watermark that it did not have before.
    Collects,
}

/// What is held of one key.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) version: Version,
    pub(super) tombstone: bool,
    pub(super) body: Vec<u8>,
    pub(super) kept: String,
    /// Of the body as it was taken in.
    pub(super) digest: String,
    /// Whether the store knows that it has lost the body.
    pub(super) damaged: bool,
}

impl Record {
    fn new(version: Version, tombstone: bool, body: Vec<u8>, kept: String) -> Self {
        let digest = blake3::hash(&body).to_hex().to_string();
        Self { version, tombstone, body, kept, digest, damaged: false }
    }
}

pub(super) struct State {
    pub(super) does: Does,
    pub(super) records: BTreeMap<String, Record>,
    pub(super) stages: BTreeMap<String, (String, Vec<u8>)>,
    /// First lines of the requests that came.
    pub(super) asked: Vec<String>,
}

/// One store.
pub(super) struct FakeStore {
    pub(super) id: StoreId,
    pub(super) url: String,
    pub(super) state: Rc<RefCell<State>>,
}

impl FakeStore {
    pub(super) async fn start(number: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let state = Rc::new(RefCell::new(State {
            does: Does::Well,
            records: BTreeMap::new(),
            stages: BTreeMap::new(),
            asked: Vec::new(),
        }));
        let id = StoreId([number; 16]);
        tokio::task::spawn_local(accept(listener, id, Rc::clone(&state)));
        Self { id, url, state }
    }

    pub(super) fn does(&self, does: Does) {
        self.state.borrow_mut().does = does;
    }

    pub(super) fn record(&self, key: &str) -> Option<Record> {
        self.state.borrow().records.get(key).cloned()
    }

    pub(super) fn hold(&self, key: &str, version: Version, body: Option<&[u8]>) {
        let kept = "Content-Type: text/plain\r\n".to_owned();
        let bytes = body.unwrap_or_default().to_vec();
        let record = Record::new(version, body.is_none(), bytes, kept);
        self.state.borrow_mut().records.insert(key.to_owned(), record);
    }

    /// Does something to what is held of a key.
    pub(super) fn alter(&self, key: &str, change: impl FnOnce(&mut Record)) {
        change(self.state.borrow_mut().records.get_mut(key).expect("it is held"));
    }
}

async fn accept(listener: TcpListener, id: StoreId, state: Rc<RefCell<State>>) {
    let mut deaf = Vec::new();
    loop {
        let (stream, _) = listener.accept().await.expect("somebody connects");
        if state.borrow().does == Does::Deaf {
            deaf.push(stream);
        } else {
            tokio::task::spawn_local(serve(stream, id, Rc::clone(&state)));
        }
    }
}

struct Request {
    first: String,
    fields: BTreeMap<String, String>,
    /// The lines of fields that are kept.
    kept: String,
    body: Vec<u8>,
}

async fn serve(mut stream: TcpStream, id: StoreId, state: Rc<RefCell<State>>) {
    let mut bytes = Vec::new();
    while let Some(request) = read(&mut stream, &mut bytes).await {
        let does = state.borrow().does;
        state.borrow_mut().asked.push(request.first.clone());
        let is_commit = request.first.starts_with("POST");
        let count = state.borrow().asked.len();
        let breaks = match does {
            Does::Breaks => true,
            Does::BreaksFrom(well) => count > well,
            Does::BreaksAtCommit => is_commit,
            _ => false,
        };
        if breaks {
            return;
        }
        let (status, fields, body) = answer(&mut state.borrow_mut(), &request);
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Said\r\nRingway-Store: {id}\r\n{fields}Content-Length: {length}\r\n\r\n"
        );
        let is_head = request.first.starts_with("HEAD");
        let (cut, ends) = match does {
            Does::CutsBodies(at) if !is_head && at < length => (at, true),
            Does::CutsAndGoes(at) if !is_head && at < length => {
                state.borrow_mut().does = Does::Breaks;
                (at, true)
            }
            Does::SpoilsBodies(at) if !is_head && at < length => {
                let mut state = state.borrow_mut();
                state.records.values_mut().for_each(|record| record.damaged = true);
                (at, true)
            }
            _ if is_head => (0, false),
            _ => (length, false),
        };
        let mut sent = head.into_bytes();
        sent.extend_from_slice(&body[..cut]);
        if stream.write_all(&sent).await.is_err() || ends {
            return;
        }
    }
}

/// Reads one request; what came behind it stays in `bytes`.
async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Request> {
    let head_length = loop {
        if let Some(at) = memchr::memmem::find(bytes, b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes.drain(..head_length).collect()).expect("text");
    let mut lines = head.trim_end().split("\r\n");
    let first = lines.next().expect("a first line").trim_end_matches(" HTTP/1.1").to_owned();
    let (mut fields, mut kept) = (BTreeMap::new(), String::new());
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a field");
        if crate::drivers::native::is_kept(name.as_bytes()) {
            kept.push_str(line);
            kept.push_str("\r\n");
        }
        fields.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = Vec::new();
    if fields.contains_key("transfer-encoding") {
        loop {
            let line = loop {
                if let Some(at) = memchr::memmem::find(bytes, b"\r\n") {
                    break at;
                }
                if stream.read_buf(bytes).await.ok()? == 0 {
                    return None;
                }
            };
            let digits = String::from_utf8(bytes[..line].to_vec()).expect("digits");
            let length = usize::from_str_radix(&digits, 16).expect("a length");
            while bytes.len() < line + 2 + length + 2 {
                if stream.read_buf(bytes).await.ok()? == 0 {
                    return None;
                }
            }
            body.extend_from_slice(&bytes[line + 2..line + 2 + length]);
            bytes.drain(..line + 2 + length + 2);
            if length == 0 {
                break;
            }
        }
    } else {
        let length = fields.get("content-length").map_or(0, |text| text.parse().expect("a number"));
        while bytes.len() < length {
            if stream.read_buf(bytes).await.ok()? == 0 {
                return None;
            }
        }
        body = bytes.drain(..length).collect();
    }
    Some(Request { first, fields, kept, body })
}

fn answer(state: &mut State, request: &Request) -> (u16, String, Vec<u8>) {
    let (method, path) = request.first.split_once(' ').expect("a method");
    let rest = path.strip_prefix("/_ringway/replica/objects/").expect("the pool's name space");
    let (page, key) = rest.split_once('/').unwrap_or((rest, ""));
    let field = |name: &str| request.fields.get(name).cloned();
    let version = |name: &str| field(name).map(|text| text.parse::<Version>().expect("a version"));
    if let Some(query) = rest.strip_prefix("list?") {
        return list(state, query);
    }
    let newest = state.records.get(key).map_or(Version::NONE, |record| record.version);
    if let Does::Knows(epoch) = state.does {
        let told = field("ringway-epoch").expect("an epoch");
        let (_, told) = told.split_once('.').expect("a generation before it");
        if told.parse::<u64>().expect("a number") < epoch {
            let fields = format!("ringway-error: stale-epoch\r\nringway-epoch: 0.{epoch}\r\n");
            return (409, fields, Vec::new());
        }
    }
    if state.does == Does::Full && method == "PUT" {
        return (507, "ringway-error: full\r\n".to_owned(), Vec::new());
    }
    let is_write = matches!(method, "PUT" | "POST" | "DELETE") && page != "stage";
    if state.does == Does::Collects && is_write {
        let told = version("ringway-version").expect("a version");
        let fields = format!("ringway-version: {told}\r\nringway-applied: forgotten\r\n");
        return (200, fields, Vec::new());
    }
    let put = |state: &mut State, tombstone, body: Vec<u8>, kept: String, version: Version| {
        let record = Record::new(version, tombstone, body, kept);
        if field("ringway-digest").is_some_and(|told| told != record.digest) {
            return (422, "ringway-error: other-bytes\r\n".to_owned(), Vec::new());
        }
        let applied = version >= newest;
        let is_damaged = state.records.get(key).is_some_and(|record| record.damaged);
        if version > newest || (version == newest && is_damaged) {
            state.records.insert(key.to_owned(), record);
        }
        let (now, word) = (newest.max(version), if applied { "yes" } else { "no" });
        let fields = format!("ringway-version: {now}\r\nringway-applied: {word}\r\n");
        (200, fields, Vec::new())
    };
    match (method, page) {
        ("PUT", "stage") => {
            let stage = field("ringway-stage").expect("a stage");
            state.stages.insert(stage, (request.kept.clone(), request.body.clone()));
            (200, format!("ringway-version: {newest}\r\n"), Vec::new())
        }
        ("DELETE", "stage") => {
            state.stages.remove(&field("ringway-stage").expect("a stage"));
            (204, String::new(), Vec::new())
        }
        ("POST", "commit") => {
            if state.does == Does::ForgetsStages {
                state.stages.clear();
            }
            match state.stages.remove(&field("ringway-stage").expect("a stage")) {
                Some((kept, body)) => {
                    let version = version("ringway-version").expect("a version");
                    put(state, false, body, kept, version)
                }
                None => (404, "ringway-error: not-staged\r\n".to_owned(), b"{}".to_vec()),
            }
        }
        ("PUT", "value") => {
            let version = version("ringway-version").expect("a version");
            put(state, false, request.body.clone(), request.kept.clone(), version)
        }
        ("DELETE", "value") => {
            let version = version("ringway-version").expect("a version");
            put(state, true, Vec::new(), String::new(), version)
        }
        ("GET" | "HEAD", "value") => {
            let told = format!("ringway-version: {newest}\r\n");
            match state.records.get(key) {
                None => (404, told, Vec::new()),
                Some(record) if record.tombstone => {
                    (404, format!("{told}ringway-tombstone: yes\r\n"), Vec::new())
                }
                Some(record) if version("if-version").is_some_and(|only| only != newest) => {
                    (412, format!("ringway-version: {}\r\n", record.version), Vec::new())
                }
                Some(record) if record.damaged => {
                    (500, format!("{told}ringway-error: damaged\r\n"), b"{}".to_vec())
                }
                Some(record) => {
                    let (size, digest) = (record.body.len(), &record.digest);
                    let told = format!(
                        "{told}ringway-size: {size}\r\nringway-digest: {digest}\r\n{}",
                        record.kept
                    );
                    match field("range") {
                        None => (200, told, record.body.clone()),
                        Some(range) => {
                            let range = range.strip_prefix("bytes=").expect("bytes");
                            let (first, last) = range.split_once('-').expect("a range");
                            let first: usize = first.parse().expect("a number");
                            let last: usize = last.parse().expect("a number");
                            (206, told, record.body[first..=last].to_vec())
                        }
                    }
                }
            }
        }
        other => panic!("no store is asked {other:?}"),
    }
}

/// A page of keys, as `limit=7&prefix=a&after=b` asks for it; nothing in it is escaped here.
fn list(state: &State, query: &str) -> (u16, String, Vec<u8>) {
    let parameter =
        |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let limit: usize = parameter("limit").expect("a limit").parse().expect("a number");
    let prefix = parameter("prefix").unwrap_or_default();
    let found: Vec<_> = state
        .records
        .iter()
        .filter(|(key, _)| key.starts_with(prefix))
        .filter(|(key, _)| parameter("after").is_none_or(|after| after < key.as_str()))
        .collect();
    let mut keys: Vec<_> = found
        .iter()
        .take(limit)
        .map(|(key, record)| Entry {
            key: (*key).clone(),
            token: Token(0),
            version: record.version,
            tombstone: record.tombstone,
            size: record.body.len() as u64,
            digest: String::new(),
            damaged: record.damaged,
            modified_ms: 0,
        })
        .collect();
    let next = (found.len() > limit).then(|| keys[limit - 1].key.clone());
    if state.does == Does::Garbles {
        keys.extend(keys.clone());
    }
    let page = serde_json::to_vec(&Page { keys, next }).expect("plain values");
    (200, String::new(), page)
}
