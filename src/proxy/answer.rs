//! How does an answer go out over HTTP/1.1?
//!
//! Head and first bytes leave in one write where they fit: what is small is gathered, what is
//! large is written from where it lies. An answer whose shard ends it by closing is chunked for a
//! client that understands it, so that its connection lives on and a cut is seen.

use tokio::io::{AsyncRead, AsyncWrite};

use super::client::Client;
use super::problem::{Outcome, Problem, ProblemAbout, reason_phrase};
use super::seam::{Reply, Version};
use crate::dispatch::seam::{About, Answer, ClientGone};
use crate::drivers::http::write_framing;
use crate::ids::digits::write_number;
use crate::net::buffer::{SMALL_BYTES, TextBuffer};
use crate::net::http1::chunked::{CHUNK_HEAD_BYTES, chunk_head};
use crate::net::http1::framing::Framing;
use crate::net::http1::head::{Field, FieldKind, Lines, write_field};
use crate::net::http1::response::ResponseHead;
use crate::net::splice::Pipe;
use crate::net::wire::{Pace, Transport, WireError};

/// An answer on its way to the client.
pub(super) struct ClientAnswer<'a, S> {
    client: &'a Client<'a, S>,
    /// What is gathered and not yet sent.
    out: TextBuffer,
    framing: Framing,
    request_id: &'a [u8; 16],
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    minor: u8,
    head_asked: bool,
    /// Whether the connection may go on after this answer.
    keep_alive: bool,
    status: u16,
    begun: bool,
    too_slow: bool,
    sent: u64,
    pace: Pace,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin + Transport> ClientAnswer<'a, S> {
    /// An answer to a request of HTTP/1.`minor`. `keep_alive`: the connection may go on after it.
    pub(super) fn new(
        client: &'a Client<'a, S>,
        request_id: &'a [u8; 16],
        minor: u8,
        head_asked: bool,
        keep_alive: bool,
    ) -> Self {
        Self {
            pace: client.body_pace(),
            out: client.local.worker.buffers.text(),
            client,
            framing: Framing::None,
            request_id,
            minor,
            head_asked,
            keep_alive,
            status: 0,
            begun: false,
            too_slow: false,
            sent: 0,
        }
    }

    /// Whether the connection may go on after this answer.
    pub(super) fn keeps_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether only the end of the connection tells the client that the answer is complete: then
    /// a cut must not look like an end.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.framing == Framing::UntilClose
    }

    fn status_line(&mut self, status: u16, reason: &[u8]) {
        // A server says the version it speaks, also to HTTP/1.0 (RFC 9110, section 6.2).
        self.out.extend_from_slice(b"HTTP/1.1 ");
        write_number(&mut self.out, u64::from(status));
        self.out.push(b' ');
        self.out.extend_from_slice(reason);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Ends the head with the fields that every answer has.
    fn own_fields(&mut self, date: bool) {
        if date {
            self.client.local.write_date(&mut self.out);
        }
        write_field(&mut self.out, b"Ringway-Request-Id", self.request_id);
        // Asked only now: the node may have been told to end while the shard was working.
        self.keep_alive &= !self.client.local.worker.draining.get();
        if !self.keep_alive {
            write_field(&mut self.out, b"Connection", b"close");
        } else if self.minor == 0 {
            write_field(&mut self.out, b"Connection", b"keep-alive");
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// After a write of everything that was gathered.
    fn written(&mut self, result: Result<(), WireError>) -> Result<(), ClientGone> {
        self.out.clear();
        self.too_slow |= matches!(result, Err(WireError::TimedOut));
        Ok(result?)
    }

    /// Copies the fields that go on; tells whether `Date` was among them.
    fn copy_fields(&mut self, fields: &[Field], whole: &[u8], keep_length: bool) -> bool {
        let mut dated = false;
        let mut lines = Lines::of(whole);
        for field in fields.iter().filter(|field| !field.nominated) {
            match field.kind {
                FieldKind::Connection
                | FieldKind::HopByHop
                | FieldKind::Te
                | FieldKind::TransferEncoding => continue,
                // What a shard says of itself is between it and us; what became of a write is the
                // client's to know.
                FieldKind::Ringway if !tells_outcome(field, whole) => continue,
                FieldKind::ContentLength if !keep_length => continue,
                FieldKind::Date => dated = true,
                _ => {}
            }
            lines.push(&mut self.out, field);
        }
        lines.flush(&mut self.out);
        dated
    }
}

/// Whether this is `Ringway-Outcome` with a value that there is.
pub(super) fn tells_outcome(field: &Field, whole: &[u8]) -> bool {
    let (name, value) = (field.name.of_bytes(whole), field.value.of_bytes(whole));
    let known = [Outcome::NotApplied, Outcome::Unknown];
    name.eq_ignore_ascii_case(b"Ringway-Outcome")
        && known.iter().any(|outcome| outcome.as_str().as_bytes() == value)
}

impl<S: AsyncRead + AsyncWrite + Unpin + Transport> Reply for ClientAnswer<'_, S> {
    type Watch<'w>
        = ()
    where
        Self: 'w;

    fn watch<'w>(&self)
    where
        Self: 'w,
    {
    }

    fn version(&self) -> Version {
        Version::of_minor(self.minor)
    }

    fn status(&self) -> u16 {
        self.status
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn has_begun(&self) -> bool {
        self.begun
    }

    fn was_too_slow(&self) -> bool {
        self.too_slow
    }

    async fn problem(
        &mut self,
        problem: &Problem,
        about: &ProblemAbout<'_>,
        upload_complete: bool,
    ) -> Result<(), ClientGone> {
        debug_assert!(!self.begun, "an answer cannot be taken back");
        self.keep_alive &= upload_complete;
        self.status = problem.status;
        let json = problem.json(about);
        self.out.clear();
        self.status_line(problem.status, reason_phrase(problem.status).as_bytes());
        let out = &mut self.out;
        write_field(out, b"Content-Type", b"application/problem+json");
        write_framing(out, Framing::Length(json.len() as u64), true);
        write_field(out, b"Ringway-Error", problem.kind.as_bytes());
        if let Some(outcome) = problem.outcome {
            write_field(out, b"Ringway-Outcome", outcome.as_str().as_bytes());
        }
        if let Some(seconds) = problem.retry_after {
            write_field(out, b"Retry-After", seconds.to_string().as_bytes());
        }
        if let Some(allow) = &problem.allow {
            write_field(out, b"Allow", allow.as_bytes());
        }
        for (name, value) in &problem.fields {
            write_field(out, name.as_bytes(), value.as_bytes());
        }
        self.own_fields(true);
        if !self.head_asked {
            self.out.extend_from_slice(&json);
            self.sent = json.len() as u64;
        }
        self.flush().await
    }

    async fn plain(
        &mut self,
        status: u16,
        fields: &[(&str, &str)],
        upload_complete: bool,
    ) -> Result<(), ClientGone> {
        self.keep_alive &= upload_complete;
        self.status = status;
        self.status_line(status, reason_phrase(status).as_bytes());
        for (name, value) in fields {
            write_field(&mut self.out, name.as_bytes(), value.as_bytes());
        }
        if status != 204 {
            write_framing(&mut self.out, Framing::None, true);
        }
        self.own_fields(true);
        self.flush().await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Transport> Answer for ClientAnswer<'_, S> {
    async fn interim(&mut self, head: &ResponseHead, whole: &[u8]) -> Result<(), ClientGone> {
        self.status_line(head.status(), head.reason(whole));
        self.copy_fields(head.fields(), whole, false);
        self.out.extend_from_slice(b"\r\n");
        let written = self.client.write([&self.out], &mut self.pace).await;
        self.written(written)
    }

    fn head(
        &mut self,
        head: &ResponseHead,
        whole: &[u8],
        framing: Framing,
        about: &About<'_>,
        upload_complete: bool,
    ) {
        self.status = head.status();
        self.framing = match framing {
            Framing::UntilClose | Framing::Chunked if self.minor > 0 => Framing::Chunked,
            Framing::Chunked => Framing::UntilClose,
            other => other,
        };
        self.keep_alive &= upload_complete && self.framing != Framing::UntilClose;
        self.status_line(head.status(), head.reason(whole));
        // The length of what HEAD did not send, or of what 304 found unchanged, is the shard's
        // to say; 204 has none (RFC 9110, section 8.6).
        let bodiless = self.head_asked || self.status == 304;
        let dated = self.copy_fields(head.fields(), whole, bodiless);
        let say_empty = !bodiless && self.status != 204;
        write_framing(&mut self.out, self.framing, say_empty);
        if let Some(shard) = about.shard {
            write_field(&mut self.out, b"Ringway-Shard", shard.as_bytes());
        }
        for (name, value) in about.fields {
            write_field(&mut self.out, name.as_bytes(), value.as_bytes());
        }
        self.out.extend_from_slice(b"Ringway-Epoch: ");
        write_number(&mut self.out, about.epoch.0);
        self.out.extend_from_slice(b"\r\n");
        self.own_fields(!dated);
    }

    async fn flush(&mut self) -> Result<(), ClientGone> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.begun = true;
        let written = self.client.write([&self.out], &mut self.pace).await;
        self.written(written)
    }

    async fn data(&mut self, bytes: &[u8]) -> Result<(), ClientGone> {
        self.sent += bytes.len() as u64;
        let mut line = [0; CHUNK_HEAD_BYTES];
        let (before, after): (&[u8], &[u8]) = match self.framing {
            Framing::Chunked => (chunk_head(&mut line, bytes.len()), b"\r\n"),
            _ => (b"", b""),
        };
        if self.out.len() + bytes.len() + CHUNK_HEAD_BYTES <= SMALL_BYTES {
            for part in [before, bytes, after] {
                self.out.extend_from_slice(part);
            }
            return Ok(());
        }
        self.begun = true;
        let parts = [&self.out, before, bytes, after];
        let written = self.client.write(parts, &mut self.pace).await;
        self.written(written)
    }

    fn takes_pipes(&self) -> bool {
        self.framing != Framing::Chunked && self.client.wire.is_clear()
    }

    async fn piped(&mut self, pipe: &mut Pipe) -> Result<(), ClientGone> {
        debug_assert!(self.out.is_empty() && self.framing != Framing::Chunked);
        self.begun = true;
        self.sent += pipe.held() as u64;
        let written = self.client.write_piped(pipe, &mut self.pace).await;
        self.written(written)
    }

    async fn end(&mut self, trailers: &[u8]) -> Result<(), ClientGone> {
        if self.framing == Framing::Chunked {
            for part in [b"0\r\n", trailers, b"\r\n"] {
                self.out.extend_from_slice(part);
            }
        }
        self.flush().await
    }
}
