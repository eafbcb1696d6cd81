//! A shard that does what a test tells it, and remembers every byte that it was sent.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::wait::until_true;

/// How long a backend waits for the next byte of its peer.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// A listening backend. Each connection has a thread, which ends with it.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Requests, in the order in which their ends came.
    requests: Mutex<Vec<Received>>,
    /// Connections accepted.
    connections: AtomicUsize,
    /// What came that was no request.
    garbage: Mutex<Vec<String>>,
    ended: AtomicBool,
}

/// A request as the backend read it: strictly, so that what it could misread shows.
#[derive(Debug, Clone)]
pub struct Received {
    /// Which connection it came on, from 0.
    pub connection: usize,
    /// Its first line and its fields.
    pub head: String,
    /// Its content, without chunk framing.
    pub body: Vec<u8>,
    /// Its trailer fields, as lines.
    pub trailers: String,
}

impl Received {
    /// The value of a field that may stand there once.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.head.split("\r\n").skip(1).filter_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        let value = values.next();
        assert!(values.next().is_none(), "`{name}` stands twice in {self:?}");
        value
    }

    /// The first line without the version.
    pub fn asked(&self) -> &str {
        let line = self.head.split("\r\n").next().unwrap_or("");
        line.strip_suffix(" HTTP/1.1").unwrap_or(line)
    }
}

/// One connection, from the backend's side.
pub struct Connection {
    /// Which one, from 0.
    pub number: usize,
    stream: TcpStream,
    buffer: Vec<u8>,
    seen: Arc<Seen>,
}

impl Backend {
    /// Starts one whose connections are each served by `serve`, on a thread of their own.
    pub fn start(serve: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Seen::default());
        let of_thread = Arc::clone(&seen);
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if of_thread.ended.load(Ordering::SeqCst) {
                    return;
                }
                let number = of_thread.connections.fetch_add(1, Ordering::SeqCst);
                stream.set_read_timeout(Some(SILENCE_MAX)).expect("a timeout");
                stream.set_write_timeout(Some(SILENCE_MAX)).expect("a timeout");
                stream.set_nodelay(true).expect("an option");
                let seen = Arc::clone(&of_thread);
                let mut connection = Connection { number, stream, buffer: Vec::new(), seen };
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(&mut connection));
            }
        });
        Self { address, seen }
    }

    /// One that answers every request with 200 and the name `name`.
    pub fn answering(name: &'static str) -> Self {
        Self::start(move |connection| {
            while let Some(request) = connection.request() {
                let body = if request.asked().starts_with("HEAD ") { "" } else { name };
                let length = name.len();
                connection
                    .say(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"));
            }
        })
    }

    /// One that does the same and remembers nothing: for many requests.
    pub fn tireless(name: &'static str) -> Self {
        Self::start(move |connection| {
            while let Ok(Some(request)) = connection.try_request() {
                let body = if request.asked().starts_with("HEAD ") { "" } else { name };
                let length = name.len();
                connection
                    .say(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"));
            }
        })
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Received> {
        lock(&self.seen.requests).clone()
    }

    /// Forgets the requests so far, and returns them.
    pub fn take_requests(&self) -> Vec<Received> {
        std::mem::take(&mut lock(&self.seen.requests))
    }

    /// What came so far that was no request.
    pub fn take_garbage(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.seen.garbage))
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.seen.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts; if that fails, it has ended.
        drop(TcpStream::connect(self.address));
    }
}

impl Connection {
    /// The next request, whole. `None` at the end of the connection.
    pub fn request(&mut self) -> Option<Received> {
        let request = self.try_request();
        match request {
            Ok(Some(request)) => {
                lock(&self.seen.requests).push(request.clone());
                Some(request)
            }
            Ok(None) => None,
            Err(why) => {
                lock(&self.seen.garbage).push(why);
                None
            }
        }
    }

    /// The head of the next request; its body is left where it is, and nothing is taken down.
    pub fn head(&mut self) -> Option<String> {
        let end = self.find(b"\r\n\r\n")?;
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        Some(String::from_utf8_lossy(&head[..end]).into_owned())
    }

    fn try_request(&mut self) -> Result<Option<Received>, String> {
        let Some(head) = self.head() else {
            return match self.buffer.is_empty() {
                true => Ok(None),
                false => Err(format!("{:?}", String::from_utf8_lossy(&self.buffer))),
            };
        };
        let connection = self.number;
        let mut received = Received { connection, head, body: Vec::new(), trailers: String::new() };
        check_head(&received.head)?;
        let length = received.field("Content-Length").map(str::to_owned);
        match (length, received.field("Transfer-Encoding")) {
            (Some(_), Some(_)) => return Err(format!("two framings: {received:?}")),
            (Some(length), None) => {
                let length: usize = length.parse().map_err(|_| format!("{received:?}"))?;
                received.body = self.take(length).ok_or("a body that ends early")?;
            }
            (None, Some("chunked")) => self.chunks(&mut received)?,
            (None, Some(_)) => return Err(format!("an encoding: {received:?}")),
            (None, None) => {}
        }
        Ok(Some(received))
    }

    fn chunks(&mut self, received: &mut Received) -> Result<(), String> {
        loop {
            let line = self.line().ok_or("a chunk that ends early")?;
            let digits = !line.is_empty() && line.bytes().all(|b| b.is_ascii_hexdigit());
            let size = usize::from_str_radix(&line, 16).ok().filter(|_| digits);
            let size = size.ok_or_else(|| format!("a chunk's size: {line:?}"))?;
            if size == 0 {
                break;
            }
            let data = self.take(size + 2).ok_or("a chunk that ends early")?;
            let data = data.strip_suffix(b"\r\n").ok_or("a chunk's end")?;
            received.body.extend_from_slice(data);
        }
        loop {
            let line = self.line().ok_or("trailers that end early")?;
            if line.is_empty() {
                return Ok(());
            }
            received.trailers.push_str(&line);
            received.trailers.push('\n');
        }
    }

    fn line(&mut self) -> Option<String> {
        let end = self.find(b"\r\n")?;
        let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    fn find(&mut self, what: &[u8]) -> Option<usize> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, what) {
                return Some(at);
            }
            self.more()?;
        }
    }

    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            self.more()?;
        }
        Some(self.buffer.drain(..length).collect())
    }

    /// Waits for more bytes. `None` at the end.
    pub fn more(&mut self) -> Option<usize> {
        let mut bytes = [0; 16 * 1024];
        let n = self.stream.read(&mut bytes).ok().filter(|&n| n > 0)?;
        self.buffer.extend_from_slice(&bytes[..n]);
        Some(n)
    }

    /// What came and was not yet looked at.
    pub fn held(&self) -> &[u8] {
        &self.buffer
    }

    /// Waits for more bytes, but no longer than `limit`.
    pub fn more_within(&mut self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).expect("a timeout");
        self.more();
        self.stream.set_read_timeout(Some(SILENCE_MAX)).expect("a timeout");
    }

    /// Says something. The peer may be gone.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Has nobody listen any more: when this returns, connections are refused.
    pub fn end_listening(&mut self) {
        let address = self.stream.local_addr().expect("an address");
        self.seen.ended.store(true, Ordering::SeqCst);
        until_true("connections are refused", || TcpStream::connect(address).is_err());
    }

    /// Ends the connection.
    pub fn close(&mut self) {
        // An error means that the peer was first.
        drop(self.stream.shutdown(Shutdown::Both));
    }

    /// Waits until the peer has ended the connection.
    pub fn until_closed(&mut self) {
        while self.more().is_some() {}
    }
}

/// What every server would read in the same way.
fn check_head(head: &str) -> Result<(), String> {
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or("");
    let words: Vec<&str> = first.split(' ').collect();
    let plain = |line: &str| line.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f));
    let well_formed = words.len() == 3 && words[2] == "HTTP/1.1" && head.split("\r\n").all(plain);
    let mut hosts = 0;
    for line in lines {
        let (name, _) = line.split_once(':').ok_or_else(|| format!("a field: {line:?}"))?;
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(format!("a field's name: {line:?}"));
        }
        hosts += usize::from(name.eq_ignore_ascii_case("host"));
    }
    match well_formed && hosts == 1 {
        true => Ok(()),
        false => Err(format!("a head: {head:?}")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
