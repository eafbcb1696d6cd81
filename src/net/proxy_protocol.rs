//! Who is behind the proxy in front of us?
//!
//! The PROXY protocol (HAProxy, *The PROXY protocol, versions 1 & 2*, 2020/03/05): before anything
//! else a connection says for whom it was made. This is its reader: pure, over what has arrived so
//! far, and strict, since a listener that expects it is reached by proxies of our own alone and
//! whatever differs is a mistake or an attack. Bounds: a line of version 1 has at most 107 bytes
//! (section 2.1); a header of version 2 may have [`V2_BYTES_MAX`]. What a header has beyond the
//! addresses (TLVs) is skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest line of version 1, CRLF included.
pub const V1_BYTES_MAX: usize = 107;

/// The longest header of version 2 that is taken: 232 bytes are what an address needs at most, the
/// rest is room for TLVs, of which certificates' names are the longest in use.
pub const V2_BYTES_MAX: usize = 4096;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length.
const V2_FIXED_BYTES: usize = 16;

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its bytes, behind which the connection's own begin.
    pub length: usize,
    /// Whose connection it is. `None`: the proxy's own (a health check), or of somebody without an
    /// IP address.
    pub client: Option<IpAddr>,
}

/// What came is no header, or one that says nothing sensible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// It begins with something else: the client does not speak the protocol.
    #[error("no PROXY header")]
    Missing,
    /// It is longer than it may be.
    #[error("a PROXY header that is too long")]
    TooLong,
    /// It is not as the specification has it.
    #[error("a malformed PROXY header")]
    Malformed,
}

/// Reads a header of either version. `None`: more has to arrive, which is never asked for once it
/// is clear that what is there can be no header.
///
/// # Errors
/// [`ProxyError`]; the connection is of no use.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => parse_v1(bytes),
        Some(_) => parse_v2(bytes),
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    if !agree(bytes, b"PROXY ") {
        return Err(ProxyError::Missing);
    }
    let window = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        return if bytes.len() >= V1_BYTES_MAX { Err(ProxyError::TooLong) } else { Ok(None) };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(ProxyError::Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
    let client = client_of_line(line).ok_or(ProxyError::Malformed)?;
    Ok(Some(Header { length: end + 1, client }))
}

/// `PROXY TCP4 SOURCE DESTINATION PORT PORT`, or `PROXY UNKNOWN` with anything behind it.
fn client_of_line(line: &str) -> Option<Option<IpAddr>> {
    let rest = line.strip_prefix("PROXY ")?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let mut words = rest.split(' ');
    let mut next = || words.next();
    let (family, source, destination) = (next()?, next()?, next()?);
    let ports = [next()?, next()?];
    if next().is_some() || !ports.iter().all(|port| is_port(port)) {
        return None;
    }
    let client = match family {
        "TCP4" => {
            destination.parse::<Ipv4Addr>().ok()?;
            IpAddr::V4(source.parse().ok()?)
        }
        "TCP6" => {
            destination.parse::<Ipv6Addr>().ok()?;
            IpAddr::V6(source.parse().ok()?)
        }
        _ => return None,
    };
    Some(Some(client.to_canonical()))
}

/// A decimal number without a sign or zeros before it.
fn is_port(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain && (text == "0" || !text.starts_with('0')) && text.parse::<u16>().is_ok()
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    if !agree(bytes, SIGNATURE) {
        return Err(ProxyError::Missing);
    }
    // Version 2, commands LOCAL and PROXY.
    if bytes.get(12).is_some_and(|byte| !matches!(byte, 0x20 | 0x21)) {
        return Err(ProxyError::Malformed);
    }
    let Some(fixed) = bytes.first_chunk::<V2_FIXED_BYTES>() else { return Ok(None) };
    let length = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let local = fixed[12] == 0x20;
    let address_bytes = match fixed[13] {
        // A check of the proxy's own, whatever it says of addresses.
        _ if local => 0,
        0x00 => 0,
        // TCP over IPv4 and IPv6, and streams over Unix sockets.
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => return Err(ProxyError::Malformed),
    };
    if length > V2_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    if length < V2_FIXED_BYTES + address_bytes {
        return Err(ProxyError::Malformed);
    }
    let Some(header) = bytes.get(..length) else { return Ok(None) };
    let address = &header[V2_FIXED_BYTES..];
    let client = match address_bytes {
        12 => address.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        36 => address.first_chunk::<16>().map(|octets| IpAddr::from(*octets).to_canonical()),
        _ => None,
    };
    Ok(Some(Header { length, client }))
}

/// Whether what is there of `bytes` is also there in `wanted`, as far as both go.
fn agree(bytes: &[u8], wanted: &[u8]) -> bool {
    let both = bytes.len().min(wanted.len());
    bytes[..both] == wanted[..both]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop};
    use proptest::{prop_assert, prop_assert_eq, proptest};

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).expect("a short block").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, block].concat()
    }

    fn client(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn lines_of_version_1() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", client("192.0.2.1")),
            ("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n", client("2001:db8::1")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", client("192.0.2.1")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff:f:f 1 2 what ever\r\n", None),
        ] {
            let whole = Header { length: line.len(), client: expected };
            assert_eq!(parse(line.as_bytes()), Ok(Some(whole)), "{line:?}");
            let more = format!("{line}GET / HTTP/1.1\r\n");
            assert_eq!(parse(more.as_bytes()), Ok(Some(whole)), "{line:?}");
        }
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 \r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.1 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 056324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.256 198.51.100.1 1 443\r\n",
            "PROXY TCP4 ::1 ::1 1 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.1 1 443\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.1 1 443\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
            "PROXY\u{e4}",
            "PRI * HTTP/2.0\r\n",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line:?}");
        }
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(V1_BYTES_MAX));
        assert_eq!(parse(endless.as_bytes()), Err(ProxyError::TooLong));
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 16));
        assert_eq!(longest.len(), V1_BYTES_MAX);
        assert!(parse(longest.as_bytes()).is_ok_and(|header| header.is_some()));
    }

    #[test]
    fn headers_of_version_2() {
        let (v4, v6, unix) = ([1; 12], [0xfe; 36], [b'u'; 216]);
        let tlvs = [&v4[..], &[4, 0, 2, 9, 9]].concat();
        for (bytes, expected) in [
            (v2(0x21, 0x11, &v4), client("1.1.1.1")),
            (v2(0x21, 0x11, &tlvs), client("1.1.1.1")),
            (v2(0x21, 0x21, &v6), client("fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe")),
            (v2(0x21, 0x31, &unix), None),
            (v2(0x21, 0x00, &[]), None),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, &v4), None),
            (v2(0x20, 0xff, b"?"), None),
        ] {
            let whole = Header { length: bytes.len(), client: expected };
            assert_eq!(parse(&bytes), Ok(Some(whole)), "{bytes:?}");
        }
        for bytes in [
            v2(0x22, 0x11, &v4),
            v2(0x11, 0x11, &v4),
            v2(0x21, 0x12, &v4),
            v2(0x21, 0x01, &[]),
            v2(0x21, 0x11, &v4[1..]),
            v2(0x21, 0x21, &v4),
            v2(0x21, 0x11, &[0; V2_BYTES_MAX]),
        ] {
            assert!(parse(&bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Err(ProxyError::Missing));
        assert_eq!(parse(b"\r\n\r\nGET"), Err(ProxyError::Missing));
        assert_eq!(parse(&[0x16, 3, 1]), Err(ProxyError::Missing));
    }

    proptest! {
        /// However a header arrives, it is read at its last byte and not before, and nothing
        /// behind it matters.
        #[test]
        fn a_header_in_pieces(
            family in prop::sample::select(vec![0x00u8, 0x11, 0x21, 0x31]),
            tlvs in prop::collection::vec(any::<u8>(), 0..300),
            address in prop::collection::vec(any::<u8>(), 216),
            behind in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let need = match family { 0x11 => 12, 0x21 => 36, 0x31 => 216, _ => 0 };
            let header = v2(0x21, family, &[&address[..need], &tlvs].concat());
            for end in 0..header.len() {
                prop_assert_eq!(parse(&header[..end]), Ok(None));
            }
            let read = parse(&header).expect("a good header").expect("the whole of it");
            prop_assert_eq!(read.length, header.len());
            prop_assert_eq!(parse(&[&header[..], &behind].concat()), Ok(Some(read)));
        }

        /// No bytes make it panic, run past the end or wait for more than a header may have; and
        /// what was refused or read is so whatever follows.
        #[test]
        fn hostile_bytes(
            start in prop::sample::select(vec![
                b"PROXY ".to_vec(),
                b"PROXY TCP4 1.2.3.4 ".to_vec(),
                SIGNATURE.to_vec(),
                [&SIGNATURE[..], &[0x21, 0x11]].concat(),
                vec![],
            ]),
            rest in prop::collection::vec(any::<u8>(), 0..5000),
        ) {
            let bytes = [start, rest].concat();
            let whole = parse(&bytes);
            match whole {
                Ok(None) => prop_assert!(bytes.len() < V2_BYTES_MAX),
                Ok(Some(header)) => prop_assert!(header.length <= bytes.len()),
                Err(_) => {}
            }
            let half = parse(&bytes[..bytes.len() / 2]);
            if half != Ok(None) {
                prop_assert_eq!(half, whole);
            }
        }
    }
}
