//! How does a request of HTTP/2 become one that the judge of HTTP/1.1 can look at?
//!
//! It is written down as the head that a client of HTTP/1.1 would have sent, and read back by the
//! one codec, within the same limits. So there is one opinion of what a request means, whichever
//! way it came, and what is refused of one protocol is refused of the other. What has no form in
//! HTTP/1.1 is dealt with here (RFC 9113, sections 8.2 and 8.3).

use http::header::{COOKIE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use crate::net::http1::head::HeadError;
use crate::net::http1::head::write_field;
use crate::net::http1::request::RequestError;

/// Writes the request's head. `has_hash`: its path had a `#`, which `parts` does not show any more.
/// `has_body`: its stream does not end with its fields.
///
/// # Errors
/// [`RequestError`] for what the text could not show.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    parts: &Parts,
    has_hash: bool,
    has_body: bool,
) -> Result<(), RequestError> {
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    if parts.method == Method::CONNECT {
        let authority = parts.uri.authority().ok_or(RequestError::Target)?;
        out.extend_from_slice(authority.as_str().as_bytes());
    } else {
        if parts.uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
            return Err(RequestError::Target);
        }
        let target = parts.uri.path_and_query().ok_or(RequestError::Target)?;
        out.extend_from_slice(target.as_str().as_bytes());
        if has_hash {
            // The judge is to see it.
            out.push(b'#');
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    if let Some(authority) = authority {
        write_field(out, b"Host", authority);
    }
    let mut has_cookie = false;
    for (name, value) in &parts.headers {
        check_value(value)?;
        if name == HOST
            && let Some(authority) = authority
        {
            // RFC 9112 would have both in one head, and they must not differ there either.
            if !value.as_bytes().eq_ignore_ascii_case(authority) {
                return Err(RequestError::HostDiffers);
            }
        } else if name == COOKIE {
            if !std::mem::replace(&mut has_cookie, true) {
                write_cookies(out, &parts.headers);
            }
        } else {
            write_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    if has_body && !parts.headers.contains_key(http::header::CONTENT_LENGTH) {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Writes trailers as the section that ends a chunked body.
///
/// # Errors
/// [`RequestError`] as for a head.
pub(super) fn write_trailers(out: &mut Vec<u8>, trailers: &HeaderMap) -> Result<(), RequestError> {
    for (name, value) in trailers {
        check_value(value)?;
        write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    Ok(())
}

/// A value must not begin or end with white space (RFC 9113, section 8.2.1): in HTTP/1.1, where it
/// is not part of the value, one that differs by it alone would be the same.
fn check_value(value: &HeaderValue) -> Result<(), RequestError> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    match blank(value.as_bytes().first()) || blank(value.as_bytes().last()) {
        true => Err(HeadError::FieldValue.into()),
        false => Ok(()),
    }
}

/// Cookies may come in pieces, for the sake of compression; in HTTP/1.1 they are one field
/// (RFC 9113, section 8.2.3).
fn write_cookies(out: &mut Vec<u8>, headers: &HeaderMap) {
    out.extend_from_slice(b"cookie: ");
    for (number, crumb) in headers.get_all(COOKIE).iter().enumerate() {
        if number > 0 {
            out.extend_from_slice(b"; ");
        }
        out.extend_from_slice(crumb.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::net::http1::framing::Framing;
    use crate::net::http1::request::{RequestHead, Target};

    fn parts(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn written(parts: &Parts, has_body: bool) -> Result<String, RequestError> {
        let mut out = Vec::new();
        write_head(&mut out, parts, false, has_body)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    /// What the judge says.
    fn judged(parts: &Parts, has_body: bool) -> Result<(RequestHead, Vec<u8>), RequestError> {
        let mut out = Vec::new();
        write_head(&mut out, parts, false, has_body)?;
        let mut head = RequestHead::default();
        head.parse(&out)?;
        Ok((head, out))
    }

    #[test]
    fn a_request_reads_as_one_of_http1() {
        let parts =
            parts("GET", "https://a.example:81/b%2F?c=d", &[("accept", "x"), ("te", "trailers")]);
        assert_eq!(
            written(&parts, false).as_deref(),
            Ok("GET /b%2F?c=d HTTP/1.1\r\nHost: a.example:81\r\naccept: x\r\nte: trailers\r\n\r\n")
        );
        let (head, whole) = judged(&parts, false).expect("an ordinary request");
        assert_eq!(head.host(&whole), b"a.example:81");
        assert_eq!(head.framing(), Framing::None);
        assert!(head.wants_trailers());
    }

    #[test]
    fn a_body_without_a_length_is_chunked() {
        let post = parts("POST", "http://a/", &[]);
        assert_eq!(judged(&post, true).expect("a request").0.framing(), Framing::Chunked);
        let put = parts("PUT", "http://a/", &[("content-length", "3")]);
        assert_eq!(judged(&put, true).expect("a request").0.framing(), Framing::Length(3));
        let empty = parts("PUT", "http://a/", &[("content-length", "0")]);
        assert_eq!(judged(&empty, false).expect("a request").0.framing(), Framing::None);
    }

    #[test]
    fn authority_and_host_must_agree() {
        let same = parts("GET", "http://a.example/", &[("host", "A.example")]);
        assert_eq!(
            written(&same, false).as_deref(),
            Ok("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        );
        let other = parts("GET", "http://a.example/", &[("host", "b.example")]);
        assert_eq!(judged(&other, false).err(), Some(RequestError::HostDiffers));
        let only_host = parts("GET", "/", &[("host", "a")]);
        let (head, whole) = judged(&only_host, false).expect("a request");
        assert_eq!(head.host(&whole), b"a");
        let twice = parts("GET", "/", &[("host", "a"), ("host", "a")]);
        assert_eq!(judged(&twice, false).err(), Some(RequestError::HostCount));
        let none = parts("GET", "/", &[]);
        assert_eq!(judged(&none, false).err(), Some(RequestError::HostCount));
        let user = parts("GET", "http://user@a/", &[]);
        assert_eq!(judged(&user, false).err(), Some(RequestError::HostSyntax));
    }

    #[test]
    fn cookies_in_pieces_are_one_field() {
        let parts = parts("GET", "http://a/", &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")]);
        let text = written(&parts, false).expect("a request");
        assert_eq!(text, "GET / HTTP/1.1\r\nHost: a\r\ncookie: a=1; b=2\r\nx: y\r\n\r\n");
    }

    #[test]
    fn white_space_around_a_value_is_refused() {
        for value in [" a", "a ", "\ta", "a\t", " "] {
            let parts = parts("GET", "http://a/", &[("x", value)]);
            assert_eq!(
                judged(&parts, false).err(),
                Some(HeadError::FieldValue.into()),
                "{value:?}"
            );
        }
        assert!(judged(&parts("GET", "http://a/", &[("x", "a b"), ("y", "")]), false).is_ok());
    }

    #[test]
    fn targets_are_paths_or_the_server_itself() {
        let star = parts("OPTIONS", "*", &[("host", "a")]);
        assert_eq!(judged(&star, false).expect("OPTIONS *").0.target(), Target::Asterisk);
        assert_eq!(
            judged(&parts("GET", "*", &[("host", "a")]), false).err(),
            Some(RequestError::Target)
        );
        assert_eq!(judged(&parts("GET", "ftp://a/", &[]), false).err(), Some(RequestError::Target));
        let connect = parts("CONNECT", "a:443", &[]);
        assert_eq!(judged(&connect, false).expect("CONNECT").0.target(), Target::Authority);
    }

    #[test]
    fn what_only_ringway_may_say_is_seen_by_the_same_judge() {
        let lookalike = parts("GET", "http://a/", &[("content_length", "3")]);
        assert_eq!(judged(&lookalike, false).err(), Some(HeadError::Lookalike.into()));
        let expect = parts("PUT", "http://a/", &[("expect", "more")]);
        assert_eq!(judged(&expect, true).err(), Some(RequestError::Expectation));
    }
}
