//! How is a request put to a plain HTTP server?
//!
//! The shard gets what the client sent, and no more than a gateway has to change (RFC 9110,
//! section 7.6): the path in its canonical form below the shard's base path, `Host` as the pool
//! says, the framing written anew. Everything that does not depend on the shard was rendered once,
//! before it was chosen, so that a repeat costs nothing but the first lines.

mod condition;
#[cfg(test)]
mod round_trip;

use std::io::Write;

use self::condition::write_condition;
use crate::ids::BaseUrl;
use crate::ids::digits::write_number;
use crate::net::http1::framing::Framing;
use crate::net::http1::head::write_field;

/// Whose name the shard is addressed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostRule {
    /// The shard's own authority: what a server with virtual hosts expects.
    #[default]
    Shard,
    /// The client's `Host`, untouched: what signed requests (S3) need.
    Client,
}

/// A request without what depends on the shard.
#[derive(Debug, Clone, Copy)]
pub struct Outbound<'a> {
    /// The method, case kept.
    pub method: &'a [u8],
    /// The canonical path, or `*`.
    pub path: &'a [u8],
    /// The query as it came, without `?`.
    pub query: Option<&'a [u8]>,
    /// The host that the client asked for; empty if it named none.
    pub client_host: &'a [u8],
    /// The fields that go on, rendered: lines with CRLF, without `Host` and framing.
    pub fields: &'a [u8],
    /// The canonical path of WebDAV's `Destination`, if it has to name the shard; it is then not
    /// among the fields.
    pub destination: Option<&'a [u8]>,
    /// The value of WebDAV's `If`, if what it names has to be named as the shard does; it is then
    /// not among the fields.
    pub condition: Option<&'a [u8]>,
    /// How the body will be delimited.
    pub framing: Framing,
    /// Whether the shard is asked to say `100 Continue` before the body is sent.
    pub expect_continue: bool,
    /// Whether the client can take trailers.
    pub wants_trailers: bool,
    /// The `traceparent`, if it is not the client's; it is then not among the fields.
    pub traceparent: Option<&'a [u8]>,
}

/// Where the shard is, in the two forms that heads need.
#[derive(Debug, Clone)]
pub struct Address {
    scheme: &'static str,
    authority: String,
    base_path: String,
}

impl Address {
    /// Takes what a head needs from the shard's URL.
    #[must_use]
    pub fn of(url: &BaseUrl) -> Self {
        Self {
            scheme: if url.is_tls() { "https" } else { "http" },
            authority: url.authority(),
            base_path: url.base_path().to_owned(),
        }
    }

    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn base_path(&self) -> &str {
        &self.base_path
    }
}

/// Writes the whole head of the request to `out`.
pub fn write_head(out: &mut Vec<u8>, request: &Outbound<'_>, address: &Address, host: HostRule) {
    out.extend_from_slice(request.method);
    out.push(b' ');
    // `OPTIONS *` asks about the server; it has nothing to do with a base path.
    if request.path != b"*" {
        out.extend_from_slice(address.base_path.as_bytes());
    }
    out.extend_from_slice(request.path);
    if let Some(query) = request.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let host = match host {
        HostRule::Client if !request.client_host.is_empty() => request.client_host,
        _ => address.authority.as_bytes(),
    };
    write_field(out, b"Host", host);
    out.extend_from_slice(request.fields);
    if let Some(traceparent) = request.traceparent {
        write_field(out, b"traceparent", traceparent);
    }
    if let Some(path) = request.destination {
        let Address { scheme, authority, base_path } = address;
        write!(out, "Destination: {scheme}://{authority}{base_path}").expect("a vector takes all");
        out.extend_from_slice(path);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(value) = request.condition {
        write_condition(out, value, request.client_host, address);
    }
    write_framing(out, request.framing, method_has_content(request.method));
    if request.expect_continue {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    if request.wants_trailers {
        out.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Methods whose empty body is said aloud (RFC 9110, section 8.6): servers answer 411 otherwise.
fn method_has_content(method: &[u8]) -> bool {
    matches!(method, b"PUT" | b"POST" | b"PATCH")
}

/// Writes the framing fields of a message. `say_empty` writes a length of zero for no body.
pub fn write_framing(out: &mut Vec<u8>, framing: Framing, say_empty: bool) {
    let length = match framing {
        Framing::Length(length) => length,
        Framing::None if say_empty => 0,
        Framing::Chunked => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            return;
        }
        Framing::None | Framing::UntilClose => return,
    };
    out.extend_from_slice(b"Content-Length: ");
    write_number(out, length);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(request: &Outbound<'_>, url: &str, host: HostRule) -> String {
        let mut out = Vec::new();
        let address = Address::of(&BaseUrl::parse(url).expect("a good URL"));
        write_head(&mut out, request, &address, host);
        String::from_utf8(out).expect("text")
    }

    const REQUEST: Outbound<'_> = Outbound {
        method: b"PUT",
        path: b"/a%2Fb",
        query: Some(b"x=1"),
        client_host: b"client.example",
        fields: b"A: b\r\n",
        destination: None,
        condition: None,
        framing: Framing::Length(3),
        expect_continue: false,
        wants_trailers: false,
        traceparent: None,
    };

    #[test]
    fn a_request_stands_below_the_base_path() {
        assert_eq!(
            head(&REQUEST, "http://shard.example:81/base", HostRule::Shard),
            "PUT /base/a%2Fb?x=1 HTTP/1.1\r\nHost: shard.example:81\r\nA: b\r\n\
             Content-Length: 3\r\n\r\n"
        );
    }

    #[test]
    fn the_clients_host_is_kept_if_there_is_one() {
        let kept = head(&REQUEST, "http://shard.example", HostRule::Client);
        assert!(kept.contains("\r\nHost: client.example\r\n"), "{kept}");
        let none = Outbound { client_host: b"", ..REQUEST };
        let own = head(&none, "http://shard.example", HostRule::Client);
        assert!(own.contains("\r\nHost: shard.example\r\n"), "{own}");
    }

    #[test]
    fn a_destination_names_the_shard() {
        let request = Outbound { method: b"MOVE", destination: Some(b"/c"), ..REQUEST };
        let plain = head(&request, "http://shard.example:81/base", HostRule::Shard);
        let line = "\r\nDestination: http://shard.example:81/base/c\r\n";
        assert!(plain.contains(line), "{plain}");
        // A server takes another scheme for another server, and refuses the copy (RFC 4918, 9.8.4).
        let tls = head(&request, "https://shard.example", HostRule::Shard);
        assert!(tls.contains("\r\nDestination: https://shard.example/c\r\n"), "{tls}");
    }

    #[test]
    fn wishes_and_framing_are_said() {
        let request = Outbound {
            framing: Framing::Chunked,
            expect_continue: true,
            wants_trailers: true,
            query: None,
            ..REQUEST
        };
        assert_eq!(
            head(&request, "http://s", HostRule::Shard),
            "PUT /a%2Fb HTTP/1.1\r\nHost: s\r\nA: b\r\nTransfer-Encoding: chunked\r\n\
             Expect: 100-continue\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
        );
        let empty = Outbound { framing: Framing::None, ..REQUEST };
        assert!(head(&empty, "http://s", HostRule::Shard).contains("Content-Length: 0\r\n"));
        let star = Outbound { method: b"OPTIONS", path: b"*", query: None, ..empty };
        assert!(head(&star, "http://s/base", HostRule::Shard).starts_with("OPTIONS * HTTP/1.1"));
    }
}
