//! A small blocking HTTP/1.1 client: one connection, no retries, and every broken answer an error.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One connection.
pub struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer, its body whole.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The last part of a problem's type.
    pub fn problem(&self) -> String {
        let problem: serde_json::Value =
            serde_json::from_slice(&self.body).expect("a problem is JSON");
        let kind = problem["type"].as_str().expect("a problem has a type");
        kind.rsplit(':').next().unwrap_or_default().to_owned()
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        // No answer takes so long but one that never comes.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream, read: vec![] })
    }

    pub fn ask(&mut self, method: &str, target: &str, body: &[u8]) -> io::Result<Reply> {
        self.send_head(method, target, body.len() as u64)?;
        self.send(body)?;
        self.reply()
    }

    /// The same with fields, lines with their CRLF.
    pub fn ask_with(
        &mut self,
        method: &str,
        target: &str,
        fields: &str,
        body: &[u8],
    ) -> io::Result<Reply> {
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: store\r\n{fields}Content-Length: {length}\r\n\r\n"
        );
        self.send(head.as_bytes())?;
        self.send(body)?;
        self.reply()
    }

    pub fn send_head(&mut self, method: &str, target: &str, length: u64) -> io::Result<()> {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: store\r\nContent-Length: {length}\r\n\r\n"
        );
        self.send(head.as_bytes())
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut body = vec![];
        let mut reply = self.reply_to(|bytes| body.extend_from_slice(bytes))?;
        reply.body = body;
        Ok(reply)
    }

    /// Reads an answer and hands its body on piece by piece.
    pub fn reply_to(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<Reply> {
        let reply = self.reply_head()?;
        let length = reply.field("content-length").and_then(|text| text.parse().ok());
        let mut left: usize = if reply.status == 204 { 0 } else { length.unwrap_or(0) };
        while left > 0 {
            if self.read.is_empty() {
                self.fill()?;
            }
            let taken = left.min(self.read.len());
            take(&self.read[..taken]);
            self.read.drain(..taken);
            left -= taken;
        }
        Ok(reply)
    }

    fn reply_head(&mut self) -> io::Result<Reply> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut parsed = httparse::Response::new(&mut fields);
            let status = parsed.parse(&self.read).map_err(io::Error::other)?;
            if let httparse::Status::Complete(length) = status {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let reply = Reply {
                    status: parsed.code.unwrap_or_default(),
                    fields: parsed
                        .headers
                        .iter()
                        .map(|field| (field.name.to_ascii_lowercase(), text(field.value)))
                        .collect(),
                    body: vec![],
                };
                self.read.drain(..length);
                return Ok(reply);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.read.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }
}
