//! What an operator sets about health, for one pool.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How one pool's shards are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSettings {
    /// Probes that this node sends. `None`: it sends none, and no shard is ever *down*.
    pub active: Option<ActiveSettings>,
    /// What this node concludes from its clients' requests. `None`: nothing, and no shard is ever
    /// *ejected*.
    pub passive: Option<PassiveSettings>,
    /// When more than this percentage of a pool looks down, health is no longer believed and all
    /// shards are tried: so many failures at once are more likely this node's own fault. 100
    /// never panics.
    pub panic_percent: u32,
    /// How long a shard that is back takes to get all of its keys again. `None`: at once.
    pub slow_start: Option<Duration>,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            active: Some(ActiveSettings::default()),
            passive: Some(PassiveSettings::default()),
            panic_percent: 50,
            slow_start: None,
        }
    }
}

/// Probes: what is asked, how often, and what the answers do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveSettings {
    /// The method of the probe.
    pub method: ProbeMethod,
    /// What is asked for, below the shard's base path.
    pub path: ProbePath,
    /// The statuses that pass. Storage answers its root in many ways (S3: 200, 403 or 404).
    pub expect: Vec<StatusRange>,
    /// From the beginning of one probe of a shard to that of the next, give or take the jitter.
    pub interval: Duration,
    /// For a whole probe: name, connection, answer.
    pub timeout: Duration,
    /// Failed probes in a row that put a shard down. 0 means 1.
    pub fall: u32,
    /// Passed probes in a row that bring it up again. 0 means 1.
    pub rise: u32,
}

impl Default for ActiveSettings {
    fn default() -> Self {
        Self {
            method: ProbeMethod::Get,
            path: ProbePath::default(),
            // Storage answers its root in many ways: 200, 400, 403, 404. All are signs of life.
            expect: vec![StatusRange { first: 200, last: 499 }],
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 2,
        }
    }
}

impl ActiveSettings {
    /// Whether a probe that is answered with `status` has passed.
    #[must_use]
    pub fn expects(&self, status: u16) -> bool {
        self.expect.iter().any(|range| range.contains(status))
    }
}

/// Conclusions from requests: what ejects a shard and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassiveSettings {
    /// Failed answers in a row that eject, provided that they spread over `keys_min` keys. 0
    /// switches this rule off.
    pub consecutive_5xx: u32,
    /// Distinct keys that must have failed before answers can eject: many servers answer 500 to a
    /// name that they cannot store, and one key's 500 is not a sick shard.
    pub keys_min: u8,
    /// Connections in a row that could not be made and so eject. 0 switches this rule off.
    pub connect_errors: u32,
    /// Failed requests of those in the window, in percent, that eject. 0 switches this rule off.
    pub error_rate_percent: u32,
    /// Requests that the window must have seen before their rate means anything.
    pub error_rate_requests_min: u64,
    /// How far back the error rate looks.
    pub window: Duration,
    /// How long the first ejection lasts; the second lasts twice as long, and so on. A shard that
    /// then behaves for this long is forgiven one ejection.
    pub base_ejection_time: Duration,
    /// What an ejection may grow to.
    pub max_ejection_time: Duration,
    /// The part of the pool's shards that may be ejected at once, in percent, rounded down. One
    /// shard may always be.
    pub max_ejection_percent: u32,
}

impl Default for PassiveSettings {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            keys_min: 3,
            connect_errors: 3,
            error_rate_percent: 50,
            error_rate_requests_min: 50,
            window: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: 50,
        }
    }
}

/// What a probe may do: only what changes nothing.
///
/// There is no probe that writes. It would put objects of ours among the user's; write health
/// falls by what happens to real writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeMethod {
    /// The answer's body is read, up to a bound, and dropped.
    Get,
    /// As GET, without a body.
    Head,
    /// What WebDAV servers answer at any path.
    Options,
}

impl ProbeMethod {
    /// The method as it stands in a request.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
        }
    }
}

/// A method that no probe has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a probe's method: use GET, HEAD or OPTIONS")]
pub struct ProbeMethodError(pub String);

impl FromStr for ProbeMethod {
    type Err = ProbeMethodError;
    fn from_str(text: &str) -> Result<Self, ProbeMethodError> {
        match text {
            "GET" => Ok(Self::Get),
            "HEAD" => Ok(Self::Head),
            "OPTIONS" => Ok(Self::Options),
            other => Err(ProbeMethodError(other.to_owned())),
        }
    }
}

impl fmt::Display for ProbeMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a probe asks for: begins with `/`, may have a query, and has only bytes that a request
/// line may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbePath(String);

/// A path that no request line may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a probe's path: begin with `/` and escape what is not a letter, a digit or one of -._~!$&'()*+,;=:@/?"
)]
pub struct ProbePathError(pub String);

impl ProbePath {
    /// Checks `text` and makes it a path.
    ///
    /// # Errors
    /// [`ProbePathError`] when it does not begin with `/` or has a byte that RFC 3986 gives to
    /// neither path nor query.
    pub fn new(text: &str) -> Result<Self, ProbePathError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&b);
        if text.starts_with('/') && text.bytes().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(ProbePathError(text.to_owned()))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ProbePath {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

/// Statuses from `first` to `last`, both included, within 200..=599.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    first: u16,
    last: u16,
}

/// A range that no final status is in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a range of statuses: write one from 200 to 599, or two with `-` between them, such as 200-399"
)]
pub struct StatusRangeError(pub String);

impl StatusRange {
    /// A range of one or more final statuses.
    ///
    /// # Errors
    /// [`StatusRangeError`] when a bound is outside 200..=599 or the range is empty.
    pub fn new(first: u16, last: u16) -> Result<Self, StatusRangeError> {
        if (200..=599).contains(&first) && (first..=599).contains(&last) {
            return Ok(Self { first, last });
        }
        Err(StatusRangeError(format!("{first}-{last}")))
    }

    /// Whether `status` is one of them.
    #[must_use]
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl FromStr for StatusRange {
    type Err = StatusRangeError;
    fn from_str(text: &str) -> Result<Self, StatusRangeError> {
        let bad = || StatusRangeError(text.to_owned());
        let number = |part: &str| match part.bytes().all(|b| b.is_ascii_digit()) {
            true => part.parse::<u16>().map_err(|_| bad()),
            false => Err(bad()),
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Self::new(number(first)?, number(last)?).map_err(|_| bad())
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_ranges_are_read_and_shown() {
        for (text, inside, outside) in [("200", 200, 201), ("200-399", 399, 400), ("403", 403, 402)]
        {
            let range: StatusRange = text.parse().expect("a good range");
            assert!(range.contains(inside) && !range.contains(outside));
            assert_eq!(range.to_string(), text);
        }
        for bad in [
            "",
            "100",
            "199-300",
            "300-200",
            "200-600",
            "2xx",
            "200-",
            "-200",
            "200-300-400",
            "+200",
        ] {
            assert!(bad.parse::<StatusRange>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn probe_paths_can_stand_in_a_request_line() {
        for good in ["/", "/healthz", "/_ringway/health?x=1", "/a%20b"] {
            assert_eq!(ProbePath::new(good).expect("a good path").as_str(), good);
        }
        for bad in ["", "healthz", "/a b", "/a\r\nb", "/a#b", "/ä"] {
            assert!(ProbePath::new(bad).is_err(), "{bad:?} was taken");
        }
    }
}
