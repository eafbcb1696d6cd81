//! What does an HTTP/1.1 message say, and how is one written?
//!
//! An own codec on `httparse`, and not hyper, because a proxy has to *judge* a message before it
//! is made tidy: hyper drops `Content-Length` beside `Transfer-Encoding` before a service sees
//! either, re-orders and re-cases what we would forward untouched, and hides interim answers. And
//! because the connection to the shard is then driven inside the client's own task, without a
//! channel or an allocation per request.
//!
//! Everything here is a pure function from bytes to facts or to bytes; sockets stand in
//! [`wire`](super::wire). Whatever two readers could understand differently is refused:
//!
//! | duty | source | where |
//! |---|---|---|
//! | lines end in CRLF, never in a bare LF | RFC 9112, 2.2 (stricter) | [`scan`] |
//! | at most one empty line before a request | RFC 9112, 2.2 | the connection loop |
//! | no space before a field's colon, no folded lines | RFC 9112, 5.1, 5.2 | [`head`] |
//! | exactly one `Host`, well formed | RFC 9112, 3.2 | [`request`] |
//! | origin-form, absolute-form, `*`; the target's authority wins | RFC 9112, 3.2 | [`request`] |
//! | `Content-Length`: one value, digits only | RFC 9112, 6.3 (stricter) | [`framing`] |
//! | `Transfer-Encoding`: `chunked` alone, HTTP/1.1 only, never beside a length | RFC 9112, 6.1, 6.3 | [`framing`] |
//! | no body on HEAD, 1xx, 204, 304 | RFC 9112, 6.3 | [`framing`] |
//! | fields named by `Connection` go no further | RFC 9110, 7.6.1 | [`head`] |
//! | chunk extensions dropped, trailers judged | RFC 9112, 7.1 | [`chunked`] |

pub mod chunked;
pub mod framing;
pub mod head;
pub mod request;
pub mod response;
pub mod scan;

#[cfg(test)]
pub(crate) mod differential;
