//! A client of HTTP/2 that sends exactly the frames it is told to send.
//!
//! It has no opinion of what it sends and understands only what it must of what it hears: frames,
//! and of field sections the statuses that stand in the static table.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long the client waits for the next byte.
const SILENCE_MAX: Duration = Duration::from_secs(20);

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flag of DATA and HEADERS.
pub const END_STREAM: u8 = 1;
/// Flag of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const INTERNAL_ERROR: u32 = 2;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The status of HEADERS, if it is one of those that one byte says.
    pub fn status(&self) -> Option<u16> {
        let statuses = [200, 204, 206, 304, 400, 404, 500];
        let at = self.payload.first()?.checked_sub(0x88)?;
        statuses.get(usize::from(at)).copied()
    }

    /// The error of RST_STREAM and GOAWAY.
    pub fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let bytes = self.payload[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(bytes)
    }

    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// Writes a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame's length").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Writes fields as literals that nobody remembers (RFC 7541, section 6.2.2).
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            let mut rest = text.len();
            if rest < 127 {
                out.push(u8::try_from(rest).expect("seven bits"));
            } else {
                out.push(127);
                rest -= 127;
                while rest >= 128 {
                    out.push(u8::try_from(rest % 128).expect("seven bits") | 128);
                    rest /= 128;
                }
                out.push(u8::try_from(rest).expect("seven bits"));
            }
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// The fields of a request, with those that each has.
pub fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let own = [(":method", method), (":scheme", "http"), (":authority", "h"), (":path", path)];
    fields(&[&own[..], more].concat())
}

/// A connection.
pub struct Frames {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Frames that came while others were waited for.
    unread: VecDeque<Frame>,
}

impl Frames {
    /// Connects, says the preface and `settings`, and has the server's settings acknowledged.
    pub fn connect_with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut client = Self::silent(address);
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        client.send(frame(SETTINGS, 0, 0, &payload));
        client.send(frame(SETTINGS, 1, 0, b""));
        client
    }

    /// Connects without wishes.
    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[])
    }

    /// Connects and says nothing.
    pub fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a listener");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(SILENCE_MAX)).expect("a timeout");
        stream.set_write_timeout(Some(SILENCE_MAX)).expect("a timeout");
        Self { stream, buffer: Vec::new(), unread: VecDeque::new() }
    }

    /// Sends bytes; false if the server takes no more.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Asks for something without a body.
    pub fn ask(&mut self, stream: u32, path: &str) -> bool {
        let fields = request("GET", path, &[]);
        self.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields))
    }

    /// The next frame; `None` at the end of the connection.
    pub fn next(&mut self) -> Option<Frame> {
        if let Some(frame) = self.unread.pop_front() {
            return Some(frame);
        }
        self.read()
    }

    fn read(&mut self) -> Option<Frame> {
        loop {
            if let [a, b, c, kind, flags, s0, s1, s2, s3, ..] = *self.buffer {
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if self.buffer.len() >= 9 + length {
                    let payload = self.buffer[9..9 + length].to_vec();
                    self.buffer.drain(..9 + length);
                    let stream = u32::from_be_bytes([s0 & 127, s1, s2, s3]);
                    return Some(Frame { kind, flags, stream, payload });
                }
            }
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(n) => self.buffer.extend_from_slice(&bytes[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the server says nothing more: {error}"),
            }
        }
    }

    /// The next frame that is wanted; the others are kept.
    #[track_caller]
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        if let Some(at) = self.unread.iter().position(&wanted) {
            return self.unread.remove(at).expect("it was found");
        }
        loop {
            let frame = self.read().unwrap_or_else(|| {
                let came = self.unread.iter().map(|frame| (frame.stream, frame.kind));
                panic!("the connection ended before {what}; came {:?}", came.collect::<Vec<_>>())
            });
            if wanted(&frame) {
                return frame;
            }
            self.unread.push_back(frame);
        }
    }

    /// The frame of this kind on this stream.
    #[track_caller]
    pub fn until_on(&mut self, stream: u32, kind: u8) -> Frame {
        let what = format!("a frame of kind {kind} on stream {stream}");
        self.until(&what, |frame| frame.stream == stream && frame.kind == kind)
    }

    /// The next PING that answers one; `None` at the end of the connection.
    pub fn next_pong(&mut self) -> Option<Frame> {
        loop {
            let frame = self.read()?;
            if frame.kind == PING && frame.flags & 1 != 0 {
                return Some(frame);
            }
            self.unread.push_back(frame);
        }
    }

    /// The error of a GOAWAY among the frames that nobody asked for so far.
    pub fn try_goaway(&self) -> Option<u32> {
        self.unread.iter().find(|frame| frame.kind == GOAWAY).map(Frame::error)
    }

    /// Whether the server has ended the connection, or says that it does. Does not wait, and drops
    /// all else that came.
    pub fn is_ended(&mut self) -> bool {
        self.stream.set_nonblocking(true).expect("an option");
        let mut bytes = [0; 16 * 1024];
        let ended = loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => break true,
                Ok(n) => self.buffer.extend_from_slice(&bytes[..n]),
                Err(error) => break error.kind() != std::io::ErrorKind::WouldBlock,
            }
        };
        self.stream.set_nonblocking(false).expect("an option");
        let mut goes_away = false;
        while let [a, b, c, kind, ..] = *self.buffer {
            let length = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
            if self.buffer.len() < length {
                break;
            }
            goes_away |= kind == GOAWAY;
            self.buffer.drain(..length);
        }
        ended || goes_away
    }

    /// A whole answer without interim ones: its status, and its content.
    #[track_caller]
    pub fn answer(&mut self, stream: u32) -> (Option<u16>, Vec<u8>) {
        let head = self.until_on(stream, HEADERS);
        let mut content = Vec::new();
        let mut ended = head.ends_stream();
        while !ended {
            let frame = self.until("more of the answer", |frame| {
                frame.stream == stream && matches!(frame.kind, DATA | RST_STREAM)
            });
            assert_eq!(frame.kind, DATA, "the answer is whole: {frame:?}");
            ended = frame.ends_stream();
            content.extend_from_slice(&frame.payload);
        }
        (head.status(), content)
    }

    /// Waits for the end of the connection; the error of its last GOAWAY, if it had one.
    pub fn until_closed(&mut self) -> Option<u32> {
        let mut error = None;
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY {
                error = Some(frame.error());
            }
        }
        error
    }
}
