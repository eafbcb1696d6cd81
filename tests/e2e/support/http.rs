//! A client that says exactly what it is told to say, and believes nothing it hears.
//!
//! An answer is complete only if its framing says so: one that ends early is an error, since that
//! a cut is seen as a cut is part of what is tested.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// How long the client waits for the next byte.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// The most that an answer may hold.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The connection ended before the first byte of an answer.
    #[error("the connection ended without an answer")]
    Closed,
    /// It ended in the middle of one; so much of it came.
    #[error("the answer is cut: {0}")]
    Cut(String),
    /// What came is no answer.
    #[error("no answer: {0}")]
    Malformed(String),
    /// The socket's word.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for HttpError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The fields, in order, names as they were spelled.
    pub fields: Vec<(String, String)>,
    /// The content.
    pub body: Vec<u8>,
    /// The trailer fields.
    pub trailers: Vec<(String, String)>,
    /// The statuses of interim answers before this one.
    pub interim: Vec<u16>,
}

impl Answer {
    /// The value of a field that must be there at most once.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "`{name}` stands twice in {self:?}");
        value
    }

    /// The shard that answered.
    #[track_caller]
    pub fn shard(&self) -> &str {
        self.field("Ringway-Shard").unwrap_or_else(|| panic!("no shard in {self:?}"))
    }

    /// Whether the connection ends after this answer.
    pub fn closes(&self) -> bool {
        self.field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The kind of a problem that Ringway itself answered; checks that it is a whole one.
    #[track_caller]
    pub fn problem(&self) -> String {
        let kind = self.field("Ringway-Error").unwrap_or_else(|| panic!("no problem: {self:?}"));
        assert_eq!(self.field("Content-Type"), Some("application/problem+json"), "{self:?}");
        if !self.body.is_empty() {
            let document: serde_json::Value =
                serde_json::from_slice(&self.body).expect("a problem is JSON");
            assert_eq!(document["status"], self.status, "{self:?}");
            assert_eq!(document["type"], format!("urn:ringway:problem:{kind}"), "{self:?}");
            assert_eq!(document["outcome"].as_str(), self.field("Ringway-Outcome"), "{self:?}");
        }
        kind.to_owned()
    }

    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection, in the clear unless another stream is named.
pub struct Client<S = TcpStream> {
    stream: S,
    /// What came and was not yet looked at.
    buffer: Vec<u8>,
    address: SocketAddr,
}

impl Client {
    /// Connects.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    /// Connects, if somebody listens there.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Self::try_connect_within(address, SILENCE_MAX)
    }

    /// The same, with a client that waits no longer than `silence_max` for anything.
    pub fn try_connect_within(address: SocketAddr, silence_max: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, silence_max)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(silence_max))?;
        stream.set_write_timeout(Some(silence_max))?;
        Ok(Self { stream, buffer: Vec::new(), address })
    }

    /// The same, from another address of this host.
    pub fn try_connect_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.set_read_timeout(Some(SILENCE_MAX))?;
        socket.set_write_timeout(Some(SILENCE_MAX))?;
        socket.connect(&address.into())?;
        Ok(Self { stream: socket.into(), buffer: Vec::new(), address })
    }

    /// Says `bytes` again and again, with `pause` in between, until the other side has had enough;
    /// then its answer.
    pub fn drip(&mut self, bytes: &[u8], pause: Duration) -> Result<Answer, HttpError> {
        self.stream.set_read_timeout(Some(pause))?;
        loop {
            // Waiting for an answer is the pause; there is none as long as nothing comes.
            match self.more() {
                Ok(0) => return Err(HttpError::Closed),
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.send(bytes)?,
                Err(error) => return Err(error.into()),
            }
        }
        self.stream.set_read_timeout(Some(SILENCE_MAX))?;
        self.hear(false)
    }
}

impl<S: Read + Write> Client<S> {
    /// Speaks over a stream to the server at `address`.
    pub fn over(stream: S, address: SocketAddr) -> Self {
        Self { stream, buffer: Vec::new(), address }
    }

    /// What it speaks over.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Says these bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), HttpError> {
        Ok(self.stream.write_all(bytes.as_ref())?)
    }

    /// Asks and hears. `fields` are lines with their CRLF.
    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        fields: &str,
        body: &[u8],
    ) -> Result<Answer, HttpError> {
        let host = self.address;
        let length = match (body.len(), method) {
            (0, "GET" | "HEAD" | "DELETE" | "OPTIONS") => String::new(),
            (n, _) => format!("Content-Length: {n}\r\n"),
        };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{length}{fields}\r\n");
        self.send([head.as_bytes(), body].concat())?;
        self.hear(method == "HEAD")
    }

    /// Reads one answer.
    pub fn hear(&mut self, head_asked: bool) -> Result<Answer, HttpError> {
        let mut interim = Vec::new();
        loop {
            let mut answer = self.hear_head()?;
            if answer.status < 200 {
                interim.push(answer.status);
                continue;
            }
            answer.interim = interim;
            if !head_asked && !matches!(answer.status, 204 | 304) {
                self.hear_body(&mut answer)?;
            }
            return Ok(answer);
        }
    }

    /// Reads a head, be it interim or final.
    pub fn hear_head(&mut self) -> Result<Answer, HttpError> {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            if self.more()? == 0 {
                return Err(match self.buffer.is_empty() {
                    true => HttpError::Closed,
                    false => HttpError::Cut(String::from_utf8_lossy(&self.buffer).into_owned()),
                });
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head[..end]).into_owned();
        let malformed = || HttpError::Malformed(head.clone());
        let mut lines = head.split("\r\n");
        let first = lines.next().ok_or_else(malformed)?;
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let fields = lines.map(|line| field_of(line).ok_or_else(malformed));
        Ok(Answer {
            status: status.ok_or_else(malformed)?,
            fields: fields.collect::<Result<_, _>>()?,
            ..Answer::default()
        })
    }

    /// Reads the content of an answer whose head was read.
    pub fn hear_body(&mut self, answer: &mut Answer) -> Result<(), HttpError> {
        let cut = |client: &Self, body: &[u8]| {
            let so_far = body.len() + client.buffer.len();
            HttpError::Cut(format!("after {so_far} bytes of content"))
        };
        if answer.field("Transfer-Encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            loop {
                let line = self.line().map_err(|_| cut(self, &answer.body))?;
                let size = usize::from_str_radix(&line, 16)
                    .map_err(|_| HttpError::Malformed(line.clone()))?;
                if size == 0 {
                    break;
                }
                while self.buffer.len() < size + 2 {
                    if self.more()? == 0 {
                        return Err(cut(self, &answer.body));
                    }
                }
                answer.body.extend(self.buffer.drain(..size));
                if self.buffer.drain(..2).collect::<Vec<_>>() != b"\r\n" {
                    return Err(HttpError::Malformed("a chunk's end".to_owned()));
                }
            }
            loop {
                let line = self.line().map_err(|_| cut(self, &answer.body))?;
                if line.is_empty() {
                    return Ok(());
                }
                let field = field_of(&line).ok_or_else(|| HttpError::Malformed(line.clone()))?;
                answer.trailers.push(field);
            }
        }
        match answer.field("Content-Length").map(str::parse::<usize>) {
            Some(Err(_)) => Err(HttpError::Malformed(format!("{answer:?}"))),
            Some(Ok(length)) => {
                answer.body.append(&mut self.buffer);
                while answer.body.len() < length {
                    if self.more()? == 0 {
                        return Err(cut(self, &answer.body));
                    }
                    answer.body.append(&mut self.buffer);
                }
                self.buffer = answer.body.split_off(length);
                Ok(())
            }
            None => {
                while self.more()? > 0 {
                    assert!(self.buffer.len() < ANSWER_BYTES_MAX, "an answer without an end");
                }
                answer.body = std::mem::take(&mut self.buffer);
                Ok(())
            }
        }
    }

    fn line(&mut self) -> Result<String, HttpError> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.more()? == 0 {
                return Err(HttpError::Closed);
            }
        }
    }

    fn more(&mut self) -> io::Result<usize> {
        let mut bytes = vec![0; 64 * 1024];
        // A child that ends may interrupt whoever waits.
        let n = loop {
            match self.stream.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.buffer.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    /// Whether the other side has closed: waits for its end, and takes nothing else for one.
    pub fn is_closed_by_peer(&mut self) -> bool {
        self.buffer.is_empty()
            && matches!(self.more().map_err(HttpError::from), Ok(0) | Err(HttpError::Closed))
    }
}

fn field_of(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_owned(), value.trim().to_owned()))
}

/// One request on a connection of its own.
#[track_caller]
pub fn ask(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Answer {
    let answer = Client::connect(address).ask(method, path, "", body);
    answer.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"))
}

/// GET on a connection of its own.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, b"")
}

/// PUT on a connection of its own.
#[track_caller]
pub fn put(address: SocketAddr, path: &str, body: &[u8]) -> Answer {
    ask(address, "PUT", path, body)
}
