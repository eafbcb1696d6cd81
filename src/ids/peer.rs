//! Where a node is reached by its peers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::split_authority;

/// The longest host name of DNS.
const HOST_BYTES_MAX: usize = 253;

/// `HOST:PORT` of a node's peer listener, checked; the host is a name or an address, and an IPv6
/// address stands in brackets. Equal places written alike in other letters are equal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerAddress {
    host: Arc<str>,
    port: u16,
}

/// Why an address was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not the address of a peer: write `HOST:PORT`, or `[::1]:PORT` for IPv6")]
pub struct PeerAddressError {
    /// What was written instead, cut to what is worth showing.
    pub found: String,
}

impl PeerAddress {
    /// Takes an address apart.
    ///
    /// # Errors
    /// [`PeerAddressError`], which shows the text and what to write instead.
    pub fn parse(text: &str) -> Result<Self, PeerAddressError> {
        let wrong = || PeerAddressError { found: text.chars().take(HOST_BYTES_MAX).collect() };
        let bracketed = text.starts_with('[');
        if !text.contains(if bracketed { "]:" } else { ":" }) {
            return Err(wrong());
        }
        let (host, port) = split_authority(text).ok_or_else(wrong)?;
        let port = port.ok_or_else(wrong)?;
        if host.len() > HOST_BYTES_MAX {
            return Err(wrong());
        }
        let host = if bracketed {
            host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?.to_string()
        } else {
            host.to_ascii_lowercase()
        };
        Ok(Self { host: host.into(), port })
    }

    /// Host name or address; an IPv6 address stands without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for PeerAddress {
    type Err = PeerAddressError;
    fn from_str(text: &str) -> Result<Self, PeerAddressError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for PeerAddress {
    type Error = PeerAddressError;
    fn try_from(text: String) -> Result<Self, PeerAddressError> {
        Self::parse(&text)
    }
}

impl From<PeerAddress> for String {
    fn from(address: PeerAddress) -> String {
        address.to_string()
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (text, host, port, shown) in [
            ("N1.example:7000", "n1.example", 7000, "n1.example:7000"),
            ("10.0.0.11:1", "10.0.0.11", 1, "10.0.0.11:1"),
            ("[0:0::1]:65535", "::1", 65535, "[::1]:65535"),
        ] {
            let address = PeerAddress::parse(text).expect("an address");
            assert_eq!((address.host(), address.port()), (host, port));
            assert_eq!(address.to_string(), shown);
            assert_eq!(PeerAddress::parse(shown), Ok(address));
        }
        let long = format!("{}:1", "x".repeat(254));
        for bad in [
            "", "a", ":1", "a:", "a:0", "a:65536", "a:+1", "::1:1", "[::1]", "[::1]1", "a b:1",
            &long,
        ] {
            assert!(PeerAddress::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
