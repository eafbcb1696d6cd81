//! What does a request's head ask for?

use super::framing::{self, Framing, FramingError};
use super::head::{self, Field, FieldKind, HeadError, Persistence, Span, list};
use super::scan::HeadLimits;

/// The most fields that any limit can allow; the array for them lives on the stack.
pub const FIELDS_MAX: usize = 256;

/// The longest method. The registered ones have at most 17 letters (`UPDATEREDIRECTREF`).
const METHOD_BYTES_MAX: usize = 32;

/// Why a request's head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It cannot be read as a head.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Its body's end is not certain.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// No `Host` in HTTP/1.1, or more than one.
    #[error("there must be exactly one Host field")]
    HostCount,
    /// `Host` or the target's authority is no host with an optional port.
    #[error("the Host field is not a host with an optional port")]
    HostSyntax,
    /// An absolute target names another host than `Host`.
    #[error("the request target and the Host field name different hosts")]
    HostDiffers,
    /// The target has none of the four forms, or one that this method does not have.
    #[error("the request target has none of the forms that this method may have")]
    Target,
    /// `Expect` with anything but `100-continue`.
    #[error("an expectation other than 100-continue")]
    Expectation,
}

/// A request's target, taken apart (RFC 9112, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A path and perhaps a query: origin-form, or absolute-form without its authority. An
    /// absolute target without a path has the path `/`, and then `path` is empty.
    Path {
        /// The path, not yet canonical.
        path: Span,
        /// What stands after `?`.
        query: Option<Span>,
    },
    /// `*`, or an absolute target without path and query: the server itself. Only with OPTIONS
    /// (RFC 9112, section 3.2.4).
    Asterisk,
    /// `host:port`, with CONNECT.
    Authority,
}

/// A request's head. Its spans point into the buffer that it was parsed from.
#[derive(Debug, Default)]
pub struct RequestHead {
    method: Span,
    target: Option<Target>,
    host: Span,
    minor: u8,
    fields: Vec<Field>,
    facts: Option<Facts>,
}

/// What the fields say together.
#[derive(Debug, Clone, Copy)]
struct Facts {
    framing: Framing,
    persistence: Persistence,
    expect_continue: bool,
    trailers_wanted: bool,
}

impl RequestHead {
    /// Parses a complete head, as [`Scanner`](super::scan::Scanner) delimits it. `self` is only
    /// there to lend its vector; whatever it held is gone.
    ///
    /// # Errors
    /// [`RequestError`]; the connection cannot be used further.
    pub fn parse(&mut self, whole: &[u8]) -> Result<(), RequestError> {
        self.facts = None;
        head::check_first_byte(whole)?;
        let mut parsed = [const { std::mem::MaybeUninit::uninit() }; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(whole, &mut parsed) {
            Ok(httparse::Status::Complete(n)) if n == whole.len() => self.judge(whole, &request),
            Ok(_) => Err(HeadError::FirstLine.into()),
            Err(httparse::Error::Version) if !names_a_version(whole) => {
                Err(HeadError::FirstLine.into())
            }
            Err(error) => Err(HeadError::from(error).into()),
        }
    }

    /// Parses the head that `bytes` begin with, as most requests do that were read at once. `None`
    /// is no verdict: the head is not complete, or something is wrong with it, and the scanner and
    /// [`parse`](Self::parse) are to tell what. Returns its length otherwise.
    pub fn parse_at_once(&mut self, bytes: &[u8], limits: &HeadLimits) -> Option<usize> {
        self.facts = None;
        head::check_first_byte(bytes).ok()?;
        let mut parsed = [const { std::mem::MaybeUninit::uninit() }; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let Ok(httparse::Status::Complete(length)) =
            request.parse_with_uninit_headers(bytes, &mut parsed)
        else {
            return None;
        };
        let whole = &bytes[..length];
        let sound = head::has_sound_lines(whole, request.headers, limits);
        (sound && self.judge(whole, &request).is_ok()).then_some(length)
    }

    fn judge(
        &mut self,
        whole: &[u8],
        request: &httparse::Request<'_, '_>,
    ) -> Result<(), RequestError> {
        let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
        self.minor = request.version.unwrap_or(0);
        if method.is_empty() || method.len() > METHOD_BYTES_MAX {
            return Err(HeadError::FirstLine.into());
        }
        self.method = Span::of(method.as_bytes(), whole);
        let persistence = head::classify(whole, request.headers, &mut self.fields, self.minor)?;
        let framing = framing::of_request(whole, &self.fields, self.minor)?;
        let host = self.one_host(whole)?;
        let (parsed_target, authority) = take_target_apart(method, target.as_bytes(), whole)?;
        self.host = agree_on_host(whole, host, authority)?;
        self.target = Some(parsed_target);
        let (expect_continue, trailers_wanted) = self.wishes(whole)?;
        self.facts = Some(Facts { framing, persistence, expect_continue, trailers_wanted });
        Ok(())
    }

    fn one_host(&self, whole: &[u8]) -> Result<Option<Span>, RequestError> {
        let mut hosts = self.fields.iter().filter(|field| field.kind == FieldKind::Host);
        let host = hosts.next().map(|field| field.value);
        if hosts.next().is_some() || (host.is_none() && self.minor > 0) {
            return Err(RequestError::HostCount);
        }
        match host {
            Some(span) if !is_authority(span.of_bytes(whole)) => Err(RequestError::HostSyntax),
            host => Ok(host),
        }
    }

    fn wishes(&self, whole: &[u8]) -> Result<(bool, bool), RequestError> {
        let (mut expect_continue, mut trailers_wanted) = (false, false);
        for field in &self.fields {
            let value = field.value.of_bytes(whole);
            match field.kind {
                FieldKind::Expect if value.eq_ignore_ascii_case(b"100-continue") => {
                    // An HTTP/1.0 client cannot mean it (RFC 9110, section 10.1.1).
                    expect_continue = self.minor > 0;
                }
                FieldKind::Expect => return Err(RequestError::Expectation),
                FieldKind::Te => {
                    trailers_wanted |=
                        list(value).any(|member| member.eq_ignore_ascii_case(b"trailers"));
                }
                _ => {}
            }
        }
        Ok((expect_continue, trailers_wanted))
    }

    fn facts(&self) -> &Facts {
        self.facts.as_ref().expect("facts are read from a parsed head only")
    }

    /// The method, case kept.
    #[must_use]
    pub fn method<'a>(&self, whole: &'a [u8]) -> &'a [u8] {
        self.method.of_bytes(whole)
    }

    /// The target, taken apart.
    ///
    /// # Panics
    /// When no head was parsed successfully.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target.expect("targets are read from a parsed head only")
    }

    /// The host that the request is for: the target's authority, or `Host`; empty if neither is
    /// given, which only HTTP/1.0 allows.
    #[must_use]
    pub fn host<'a>(&self, whole: &'a [u8]) -> &'a [u8] {
        self.host.of_bytes(whole)
    }

    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    #[must_use]
    pub fn minor(&self) -> u8 {
        self.minor
    }

    /// All fields in order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// How the body is delimited.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.facts().framing
    }

    /// Whether the client wants to go on with this connection.
    #[must_use]
    pub fn persistence(&self) -> Persistence {
        self.facts().persistence
    }

    /// Whether the client waits for `100 Continue` before it sends the body.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.facts().expect_continue
    }

    /// Whether the client said `TE: trailers`.
    #[must_use]
    pub fn wants_trailers(&self) -> bool {
        self.facts().trailers_wanted
    }
}

/// Whether the first line ends in a version of the right form, which then is one that nobody here
/// speaks. If not, "speak another version" would be the wrong advice.
fn names_a_version(whole: &[u8]) -> bool {
    let line = &whole[..memchr::memchr(b'\r', whole).unwrap_or(whole.len())];
    let mut words = line.split(|&byte| byte == b' ');
    matches!(
        (words.nth(2), words.next()),
        (Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']), None)
    )
}

/// Takes the target apart; for absolute-form the authority as well.
fn take_target_apart(
    method: &str,
    target: &[u8],
    whole: &[u8],
) -> Result<(Target, Option<Span>), RequestError> {
    if method == "CONNECT" {
        // Here a port is not optional (RFC 9112, section 3.2.3).
        let has_port = matches!(target, [.., b'0'..=b'9']) && target.contains(&b':');
        return match has_port && is_authority(target) {
            true => Ok((Target::Authority, None)),
            false => Err(RequestError::Target),
        };
    }
    if target == b"*" {
        return match method {
            "OPTIONS" => Ok((Target::Asterisk, None)),
            _ => Err(RequestError::Target),
        };
    }
    if target.first() == Some(&b'/') {
        return Ok((split_query(target, whole), None));
    }
    let after_scheme = strip_scheme(target).ok_or(RequestError::Target)?;
    let end = memchr::memchr2(b'/', b'?', after_scheme).unwrap_or(after_scheme.len());
    let (authority, rest) = after_scheme.split_at(end);
    if !is_authority(authority) {
        return Err(RequestError::HostSyntax);
    }
    let target = match (method, rest) {
        ("OPTIONS", []) => Target::Asterisk,
        _ => split_query(rest, whole),
    };
    Ok((target, Some(Span::of(authority, whole))))
}

/// What stands behind `http://` or `https://`, whose letters may be of either case.
#[must_use]
pub fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (begin, rest) = target.split_at_checked(scheme.len())?;
        begin.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

fn split_query(path_and_query: &[u8], whole: &[u8]) -> Target {
    match memchr::memchr(b'?', path_and_query) {
        None => Target::Path { path: Span::of(path_and_query, whole), query: None },
        Some(at) => Target::Path {
            path: Span::of(&path_and_query[..at], whole),
            query: Some(Span::of(&path_and_query[at + 1..], whole)),
        },
    }
}

/// RFC 9112, section 3.2.2 lets a server ignore `Host` beside an absolute target. Another server
/// might not, so both must name the same host.
fn agree_on_host(
    whole: &[u8],
    host: Option<Span>,
    authority: Option<Span>,
) -> Result<Span, RequestError> {
    match (host, authority) {
        (Some(host), Some(authority)) => {
            let same = host.of_bytes(whole).eq_ignore_ascii_case(authority.of_bytes(whole));
            if same { Ok(authority) } else { Err(RequestError::HostDiffers) }
        }
        (Some(host), None) => Ok(host),
        (None, Some(authority)) => Ok(authority),
        (None, None) => Ok(Span::default()),
    }
}

/// Whether `text` is `uri-host [ ":" port ]` (RFC 9110, section 7.2), without user information.
///
/// The grammar would also take `%` and `,` in a name and a port of any size. No name has them, and
/// readers differ: one decodes, one splits, one counts modulo 65536.
fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match text.first() {
        Some(b'[') => match memchr::memchr(b']', text) {
            Some(close) => text.split_at(close + 1),
            None => return false,
        },
        _ => text.split_at(memchr::memchr(b':', text).unwrap_or(text.len())),
    };
    let port_is_fine = match port {
        [] => true,
        [b':', digits @ ..] => is_port(digits),
        _ => false,
    };
    let host_is_fine = match host {
        [b'[', inner @ .., b']'] => {
            std::str::from_utf8(inner).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
        }
        name => !name.is_empty() && name.iter().all(|&byte| NAME_BYTES[usize::from(byte)]),
    };
    host_is_fine && port_is_fine
}

/// What a host's name may consist of, by byte.
const NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < table.len() {
        #[allow(clippy::cast_possible_truncation, reason = "the loop ends at 256")]
        let byte = at as u8;
        let mark = matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b';'
                | b'='
        );
        table[at] = byte.is_ascii_alphanumeric() || mark;
        at += 1;
    }
    table
};

fn is_port(digits: &[u8]) -> bool {
    digits.len() <= 5
        && digits.iter().all(u8::is_ascii_digit)
        && digits.iter().fold(0, |port, digit| port * 10 + u32::from(digit - b'0')) <= 65_535
}

#[cfg(test)]
mod tests;
