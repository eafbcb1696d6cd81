//! By which name does nginx know a shard?

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::BaseUrl;

/// The longest name of a server: twice the longest host name of DNS, or a path.
const BYTES_MAX: usize = 512;

/// What stands after `server` in nginx's file: `HOST:PORT`, `HOST`, `[::1]:PORT` or `unix:PATH`.
/// With `placement: ketama` a shard's points are drawn from it, byte for byte, so nothing is
/// brought to another spelling here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KetamaName(Arc<str>);

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is not the name of a server: write what stands after `server` in nginx's file, such as `10.0.0.1:8080` or `10.0.0.1`"
)]
pub struct KetamaNameError {
    /// What was written instead, cut to what is worth showing.
    pub found: String,
}

impl KetamaName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`KetamaNameError`] for what nginx would not take as one word, and for more than 512 bytes.
    pub fn new(text: &str) -> Result<Self, KetamaNameError> {
        let plain = |b: u8| b.is_ascii_graphic() && !b";{}\"'\\$".contains(&b);
        if !text.is_empty() && text.len() <= BYTES_MAX && text.bytes().all(plain) {
            return Ok(Self(text.into()));
        }
        Err(KetamaNameError { found: text.chars().take(64).collect() })
    }

    /// The name of a shard that has no other: `HOST:PORT` of its URL, the port always written.
    #[must_use]
    pub fn of(url: &BaseUrl) -> Self {
        let (host, port) = (url.host(), url.port());
        let name = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and port as nginx takes the name apart: what stands behind the last `:` is a port if it
    /// is digits alone; `unix:` is cut off.
    #[must_use]
    pub fn host_and_port(&self) -> (&str, &str) {
        let is_unix = |prefix: &str| prefix.eq_ignore_ascii_case("unix:");
        if self.0.get(..5).is_some_and(is_unix) {
            return (&self.0[5..], "");
        }
        match self.0.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, port),
            _ => (&self.0, ""),
        }
    }
}

impl TryFrom<String> for KetamaName {
    type Error = KetamaNameError;
    fn try_from(text: String) -> Result<Self, KetamaNameError> {
        Self::new(&text)
    }
}

impl From<KetamaName> for String {
    fn from(name: KetamaName) -> String {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for KetamaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for KetamaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_as_nginx_does() {
        for (name, host, port) in [
            ("10.0.0.1:8080", "10.0.0.1", "8080"),
            ("10.0.0.1", "10.0.0.1", ""),
            ("cache1.example", "cache1.example", ""),
            ("[::1]:9000", "[::1]", "9000"),
            ("[::1]", "[::1]", ""),
            ("unix:/run/a.sock", "/run/a.sock", ""),
            ("UNIX:/run/a.sock:80", "/run/a.sock:80", ""),
            ("host:", "host", ""),
        ] {
            let name = KetamaName::new(name).expect("a name");
            assert_eq!(name.host_and_port(), (host, port), "{name}");
        }
        for bad in ["", "a b", "a;", "$host", "ä:80", &"x".repeat(513)] {
            assert!(KetamaName::new(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_url_gives_host_and_port() {
        for (url, name) in [
            ("http://10.0.0.1", "10.0.0.1:80"),
            ("http://cache1:8080/base", "cache1:8080"),
            ("http://[::1]:9000", "[::1]:9000"),
        ] {
            let url = BaseUrl::parse(url).expect("a URL");
            assert_eq!(KetamaName::of(&url).as_str(), name);
        }
    }
}
