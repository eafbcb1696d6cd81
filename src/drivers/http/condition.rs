//! How does a shard understand a condition that names resources by their URLs?
//!
//! WebDAV's `If` holds lists of state tokens and entity tags, each list perhaps behind the URL of
//! the resource that it is about (RFC 4918, section 10.4). A shard that is addressed by its own
//! name knows nothing under the client's: it would find no such resource, and the condition false.
//! So URLs of the host that was asked are written anew; all else goes on as it came.

use std::io::Write;

use super::Address;
use crate::net::http1::request::strip_scheme;

/// Writes the field, what it names at `client_host` being named as the shard's.
pub(super) fn write_condition(
    out: &mut Vec<u8>,
    value: &[u8],
    client_host: &[u8],
    address: &Address,
) {
    out.extend_from_slice(b"If: ");
    let mut rest = value;
    while let Some(&first) = rest.first() {
        let length = match first {
            b'<' => until(rest, b'>'),
            b'(' => list(rest),
            _ => 1,
        };
        let (part, behind) = rest.split_at(length);
        match path(part, client_host) {
            Some(path) => {
                let Address { scheme, authority, base_path } = address;
                write!(out, "<{scheme}://{authority}{base_path}").expect("a vector takes all");
                out.extend_from_slice(path);
            }
            None => out.extend_from_slice(part),
        }
        rest = behind;
    }
    out.extend_from_slice(b"\r\n");
}

/// The path in `<URL>`, and the `>` behind it, if the URL is one of this host.
fn path<'a>(tag: &'a [u8], host: &[u8]) -> Option<&'a [u8]> {
    let url = tag.strip_prefix(b"<")?;
    if url.starts_with(b"/") && !url.starts_with(b"//") {
        return Some(url);
    }
    let (authority, path) = strip_scheme(url)?.split_at_checked(host.len())?;
    (authority.eq_ignore_ascii_case(host) && path.starts_with(b"/")).then_some(path)
}

/// How long a part is that ends with `end`.
fn until(rest: &[u8], end: u8) -> usize {
    memchr::memchr(end, rest).map_or(rest.len(), |at| at + 1)
}

/// How long a list is: tokens and entity tags may have `)` in them.
fn list(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b')' {
        at += match rest[at] {
            b'<' => until(&rest[at..], b'>'),
            b'"' => 1 + until(&rest[at + 1..], b'"'),
            _ => 1,
        };
    }
    (at + 1).min(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BaseUrl;

    fn written(value: &str, shard: &str) -> String {
        let address = Address::of(&BaseUrl::parse(shard).expect("a good URL"));
        let mut out = Vec::new();
        write_condition(&mut out, value.as_bytes(), b"h:81", &address);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn resources_of_this_host_are_named_as_the_shards() {
        for (value, expected) in [
            ("(<urn:a>)", "(<urn:a>)"),
            ("<http://h:81/x> (<urn:a> [\"e\"])", "<https://s/b/x> (<urn:a> [\"e\"])"),
            (
                "<HTTP://H:81/x>(Not <urn:a>)</y>(<urn:b>)",
                "<https://s/b/x>(Not <urn:a>)<https://s/b/y>(<urn:b>)",
            ),
            ("<http://other/x> (<urn:a>)", "<http://other/x> (<urn:a>)"),
            ("<http://h:812/x> (<urn:a>)", "<http://h:812/x> (<urn:a>)"),
            ("<http://h:81> (<urn:a>)", "<http://h:81> (<urn:a>)"),
            ("<//h:81/x> (<urn:a>)", "<//h:81/x> (<urn:a>)"),
            // What stands in a list is no resource, whatever it looks like.
            (
                "(<http://h:81/x>) ([\")<http://h:81/x>\"])",
                "(<http://h:81/x>) ([\")<http://h:81/x>\"])",
            ),
            // Whoever reads it has to see what is wrong with it.
            ("<http://h:81/x", "<https://s/b/x"),
            ("([\"a", "([\"a"),
            ("", ""),
        ] {
            assert_eq!(written(value, "https://s/b"), format!("If: {expected}\r\n"), "{value}");
        }
    }
}
