//! Which fields does a head have, and which of them go no further?
//!
//! A head is parsed once, in place: a field is two spans of the buffer it was read into and a
//! [`FieldKind`], found by length and one comparison. No map is built. Forwarding copies the lines
//! of what stays, in their order and spelling.

use std::io::Write;
use std::net::IpAddr;
use std::ops::Range;

use super::scan::HeadLimits;
use crate::ids::digits::write_number;

/// A part of the buffer that a head was read into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The span of `part`, which must lie in `whole`.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
        assert!(start + part.len() <= whole.len(), "a span lies in its buffer");
        Self::new(start..start + part.len())
    }

    fn new(range: Range<usize>) -> Self {
        let small = |n| u32::try_from(n).expect("heads are bounded far below 4 GiB");
        Self { start: small(range.start), end: small(range.end) }
    }

    /// The bytes it spans.
    #[must_use]
    pub fn of_bytes(self, whole: &[u8]) -> &[u8] {
        &whole[self.start as usize..self.end as usize]
    }
}

/// What a proxy does with a field, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Goes on untouched.
    EndToEnd,
    /// `Connection`: names what else concerns only this hop.
    Connection,
    /// `Keep-Alive`, `Proxy-Connection`, `Upgrade`, `HTTP2-Settings`, `Trailer`: this hop only, and
    /// nothing that Ringway acts on. (`Trailer` is end-to-end by name, but announces trailers that
    /// may not all be forwarded.)
    HopByHop,
    /// `TE`: this hop only; `trailers` is asked for anew.
    Te,
    /// `Content-Length`: written anew.
    ContentLength,
    /// `Transfer-Encoding`: written anew.
    TransferEncoding,
    /// `Host`: kept or rewritten, as the pool says.
    Host,
    /// `Expect`.
    Expect,
    /// `X-Forwarded-For`: appended to.
    ForwardedFor,
    /// `X-Forwarded-Proto`.
    ForwardedProto,
    /// `X-Forwarded-Host`.
    ForwardedHost,
    /// `Max-Forwards`: how many hops OPTIONS may still go.
    MaxForwards,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `Destination` (WebDAV COPY and MOVE).
    Destination,
    /// `If` (WebDAV: state tokens and entity tags of resources).
    If,
    /// `Date`.
    Date,
    /// `Retry-After`.
    RetryAfter,
    /// `Ringway-…`: ours; a client may send only the few that requests have.
    Ringway,
    /// A field that frames, that we write or that is ours, spelled with `_`: some servers take it
    /// for the real one.
    Lookalike,
}

/// One field of a head.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name as it was spelled.
    pub name: Span,
    /// Its value without the white space around it.
    pub value: Span,
    /// What is done with it.
    pub kind: FieldKind,
    /// Named by a `Connection` field, so not forwarded.
    pub nominated: bool,
}

impl FieldKind {
    /// The kind of the field with this name.
    #[must_use]
    pub fn of_name(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        // Length and first letter leave at most one name to compare with, and mostly none.
        match (name.len(), name.first().map_or(0, u8::to_ascii_lowercase)) {
            (2, b't') if is("te") => Self::Te,
            (2, b'i') if is("if") => Self::If,
            (4, b'h') if is("host") => Self::Host,
            (4, b'd') if is("date") => Self::Date,
            (6, b'e') if is("expect") => Self::Expect,
            (7, b'u') if is("upgrade") => Self::HopByHop,
            (7, b't') if is("trailer") => Self::HopByHop,
            (9, b'f') if is("forwarded") => Self::Forwarded,
            (10, b'c') if is("connection") => Self::Connection,
            (10, b'k') if is("keep-alive") => Self::HopByHop,
            (11, b'd') if is("destination") => Self::Destination,
            (11, b'r') if is("retry-after") => Self::RetryAfter,
            (12, b'm') if is("max-forwards") => Self::MaxForwards,
            (14, b'c') if is("content-length") => Self::ContentLength,
            (14, b'h') if is("http2-settings") => Self::HopByHop,
            (15, b'x') if is("x-forwarded-for") => Self::ForwardedFor,
            (16, b'x') if is("x-forwarded-host") => Self::ForwardedHost,
            (16, b'p') if is("proxy-connection") => Self::HopByHop,
            (17, b't') if is("transfer-encoding") => Self::TransferEncoding,
            (17, b'x') if is("x-forwarded-proto") => Self::ForwardedProto,
            (9.., b'r') if name[..7].eq_ignore_ascii_case(b"ringway") => match name[7] {
                b'-' => Self::Ringway,
                b'_' => Self::Lookalike,
                _ => Self::EndToEnd,
            },
            (14..=17, b'c' | b't' | b'x') if name.contains(&b'_') && is_lookalike(name) => {
                Self::Lookalike
            }
            _ => Self::EndToEnd,
        }
    }
}

/// Whether this name, with a `_` in it, is one that matters as soon as `_` is read as `-`, which
/// is how CGI and all that came after it see names.
fn is_lookalike(name: &[u8]) -> bool {
    const KNOWN: [&str; 5] = [
        "content-length",
        "transfer-encoding",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    ];
    let like = |known: &str| {
        name.len() == known.len()
            && name.iter().zip(known.bytes()).all(|(&byte, known)| {
                byte.eq_ignore_ascii_case(&known) || (byte == b'_' && known == b'-')
            })
    };
    KNOWN.into_iter().any(like)
}

/// Whether the connection stays open after this message, by version and `Connection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Further messages may follow.
    KeepAlive,
    /// This was the last.
    Close,
}

/// Why a head means nothing, or too many things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not a request line or status line.
    #[error("the first line cannot be read")]
    FirstLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("the HTTP version is not 1.0 or 1.1")]
    Version,
    /// A field's name is no token, or a space stands before its colon, or the line is folded.
    #[error("a field's name cannot be read")]
    FieldName,
    /// A control character in a field's value.
    #[error("a field's value has a control character")]
    FieldValue,
    /// Something stands between a line and its CRLF, or in it.
    #[error("a line does not end where it should")]
    LineEnd,
    /// `Connection` names a field that every recipient needs.
    #[error("Connection names a field that may not be taken away")]
    Nominated,
    /// More options in `Connection` than any message needs.
    #[error("Connection has more options than any message needs")]
    OptionCount,
    /// `content_length` and the like.
    #[error("a field's name has `_` where a framing field, or one of ours, has `-`")]
    Lookalike,
}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::Version => Self::Version,
            httparse::Error::HeaderName => Self::FieldName,
            httparse::Error::HeaderValue => Self::FieldValue,
            httparse::Error::NewLine => Self::LineEnd,
            _ => Self::FirstLine,
        }
    }
}

/// Refuses a head that does not begin with its first line. `httparse` skips empty lines, and even
/// bare LFs, before it.
///
/// # Errors
/// [`HeadError::FirstLine`].
pub(super) fn check_first_byte(whole: &[u8]) -> Result<(), HeadError> {
    match whole.first() {
        Some(b'\r' | b'\n') => Err(HeadError::FirstLine),
        _ => Ok(()),
    }
}

/// Whether all lines of a head that `httparse` took end in CRLF and keep within the limits: what
/// [`Scanner`](super::scan::Scanner) would find, at a tenth of the price, since the parser has
/// found the lines. False says nothing but that the scanner is to be asked.
pub(super) fn has_sound_lines(
    whole: &[u8],
    parsed: &[httparse::Header<'_>],
    limits: &HeadLimits,
) -> bool {
    let mut line_start = 0;
    // The parser lets LF stand nowhere but at a line's end.
    let mut ends_before = |next: usize| {
        let line = &whole[line_start..next];
        line_start = next;
        line.ends_with(b"\r\n") && line.len() <= limits.line_bytes_max
    };
    let starts = parsed.iter().map(|header| Span::of(header.name.as_bytes(), whole).start as usize);
    whole.len() <= limits.head_bytes_max
        && parsed.len() <= limits.fields_max
        && whole.ends_with(b"\r\n\r\n")
        && starts.into_iter().all(&mut ends_before)
        && ends_before(whole.len() - 2)
}

/// Turns parsed fields into [`Field`]s and applies what `Connection` says.
///
/// # Errors
/// [`HeadError::Nominated`] and [`HeadError::Lookalike`].
pub(super) fn classify(
    whole: &[u8],
    parsed: &[httparse::Header<'_>],
    fields: &mut Vec<Field>,
    version_minor: u8,
) -> Result<Persistence, HeadError> {
    fields.clear();
    let (mut has_connection, mut has_lookalike) = (false, false);
    fields.extend(parsed.iter().map(|header| {
        let kind = FieldKind::of_name(header.name.as_bytes());
        has_connection |= kind == FieldKind::Connection;
        has_lookalike |= kind == FieldKind::Lookalike;
        Field {
            name: Span::of(header.name.as_bytes(), whole),
            value: span_of_value(header.value, whole),
            kind,
            nominated: false,
        }
    }));
    if has_lookalike {
        return Err(HeadError::Lookalike);
    }
    let default = if version_minor == 0 { Persistence::Close } else { Persistence::KeepAlive };
    if has_connection { apply_connection(whole, fields, default) } else { Ok(default) }
}

/// `httparse` gives an empty value as a slice of its own, outside the buffer.
fn span_of_value(value: &[u8], whole: &[u8]) -> Span {
    if value.is_empty() { Span::default() } else { Span::of(value, whole) }
}

/// The most options of all `Connection` fields together. Each is compared with each field, so
/// without a bound one head could cost a million comparisons. Usual are one or two.
const OPTIONS_MAX: usize = 32;

fn apply_connection(
    whole: &[u8],
    fields: &mut [Field],
    default: Persistence,
) -> Result<Persistence, HeadError> {
    let (mut close, mut keep_alive) = (false, false);
    let mut options = 0;
    for at in 0..fields.len() {
        if fields[at].kind != FieldKind::Connection {
            continue;
        }
        for option in list(fields[at].value.of_bytes(whole)) {
            options += 1;
            if options > OPTIONS_MAX {
                return Err(HeadError::OptionCount);
            }
            if option.eq_ignore_ascii_case(b"close") {
                close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                keep_alive = true;
            } else {
                nominate(whole, fields, option)?;
            }
        }
    }
    // "close" wins over everything (RFC 9112, section 9.3).
    Ok(match (close, keep_alive) {
        (true, _) => Persistence::Close,
        (false, true) => Persistence::KeepAlive,
        (false, false) => default,
    })
}

fn nominate(whole: &[u8], fields: &mut [Field], option: &[u8]) -> Result<(), HeadError> {
    // Taking one of these away would change who gets the message or where it ends.
    let kind = FieldKind::of_name(option);
    if matches!(
        kind,
        FieldKind::Host
            | FieldKind::ContentLength
            | FieldKind::TransferEncoding
            | FieldKind::Destination
            | FieldKind::Expect
    ) {
        return Err(HeadError::Nominated);
    }
    // These are the hops' own account of who asked: nobody may have what others wrote taken away.
    if matches!(
        kind,
        FieldKind::ForwardedFor
            | FieldKind::ForwardedProto
            | FieldKind::ForwardedHost
            | FieldKind::Forwarded
    ) {
        return Ok(());
    }
    for field in fields {
        if field.name.of_bytes(whole).eq_ignore_ascii_case(option) {
            field.nominated = true;
        }
    }
    Ok(())
}

/// The members of a comma-separated list (RFC 9110, section 5.6.1); empty ones do not count.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// The values of all fields with this name, in order.
pub fn values<'a>(whole: &'a [u8], fields: &[Field], name: &str) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |field| field.name.of_bytes(whole).eq_ignore_ascii_case(name.as_bytes()))
        .map(|field| field.value.of_bytes(whole))
}

/// Writes one field line.
pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes an IP address as text.
pub fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                write_number(out, u64::from(octet));
            }
        }
        IpAddr::V6(address) => write!(out, "{address}").expect("a vector takes all"),
    }
}

/// Copies field lines that go on as they came. Lines that stood together in the head are copied
/// together, so that a head of twenty fields is two or three copies and not eighty.
///
/// A line with other white space than one space behind its colon is written anew.
pub struct Lines<'a> {
    whole: &'a [u8],
    /// The lines that are to be copied next.
    run: Range<usize>,
}

impl<'a> Lines<'a> {
    /// Copies from `whole`, a head that was parsed.
    #[must_use]
    pub fn of(whole: &'a [u8]) -> Self {
        Self { whole, run: 0..0 }
    }

    /// One more line, of a field of this head.
    pub fn push(&mut self, out: &mut Vec<u8>, field: &Field) {
        let Some(line) = field.plain_line(self.whole) else {
            self.flush(out);
            let (name, value) = (field.name.of_bytes(self.whole), field.value.of_bytes(self.whole));
            return write_field(out, name, value);
        };
        if line.start != self.run.end {
            self.flush(out);
            self.run.start = line.start;
        }
        self.run.end = line.end;
    }

    /// Writes what was pushed. To be called before anything else is written, and at the end.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.whole[self.run.clone()]);
        self.run.start = self.run.end;
    }
}

impl Field {
    /// Where its line stands, if it is `name: value` with CRLF, as we would write it.
    fn plain_line(&self, whole: &[u8]) -> Option<Range<usize>> {
        let (name_end, value) = (self.name.end as usize, self.value.start as usize);
        let end = self.value.end as usize;
        let plain = value == name_end + 2
            && whole[name_end..].starts_with(b": ")
            && whole[end..].starts_with(b"\r\n");
        plain.then_some(self.name.start as usize..end + 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::http1::request::RequestHead;

    #[test]
    fn addresses_are_written_as_the_standard_library_does() {
        for address in ["0.0.0.0", "127.0.0.1", "255.10.1.200", "::", "2001:db8::1"] {
            let mut out = Vec::new();
            write_address(&mut out, address.parse().expect("an address"));
            assert_eq!(out, address.as_bytes());
        }
    }

    #[test]
    fn lines_that_stand_apart_or_oddly_are_copied_in_order() {
        let head = b"GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\nC:3\r\nD: \t4 \r\nE:\r\nF: 6\r\n\
                     G:\t7\r\nH: 8\r\n\r\n";
        let mut parsed = RequestHead::default();
        parsed.parse(head).expect("a good head");
        let copied = |left_out: &[u8]| {
            let (mut out, mut lines) = (Vec::new(), Lines::of(head));
            for field in parsed.fields() {
                if !left_out.contains(&field.name.of_bytes(head)[0]) {
                    lines.push(&mut out, field);
                }
            }
            lines.flush(&mut out);
            lines.flush(&mut out);
            String::from_utf8(out).expect("text")
        };
        let all = "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: \r\nF: 6\r\nG: 7\r\nH: 8\r\n";
        assert_eq!(copied(b"H"), all.replace("H: 8\r\n", ""));
        assert_eq!(copied(b""), format!("Host: h\r\n{all}"));
        assert_eq!(copied(b"HAF"), "B: 2\r\nC: 3\r\nD: 4\r\nE: \r\nG: 7\r\n");
    }
}
