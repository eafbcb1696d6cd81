//! What does `traceparent` say?
//!
//! W3C Trace Context (Recommendation of 23 November 2021, level 1), section 3.2. What is malformed
//! says nothing: the request then begins a trace of its own, or none.

use std::fmt;

/// Bytes of a `traceparent` of version 00.
pub const TRACEPARENT_BYTES: usize = 55;

/// The whole of a request's way through all servers. Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// One step of it. Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(u64);

impl TraceId {
    /// An id of random bits; zero, which is none, becomes 1.
    #[must_use]
    pub fn of_random(bits: u128) -> Self {
        Self(bits.max(1))
    }
}

impl SpanId {
    /// An id of random bits; zero, which is none, becomes 1.
    #[must_use]
    pub fn of_random(bits: u64) -> Self {
        Self(bits.max(1))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a request brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace that it belongs to.
    pub trace: TraceId,
    /// The span that caused it.
    pub parent: SpanId,
    /// Whether whoever caused it records the trace.
    pub sampled: bool,
}

impl Context {
    /// Reads a `traceparent`; `None` if it is malformed, and is to be treated as if it were not
    /// there. Of a version to come, the parts that this one knows are read (section 3.2.4).
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(TRACEPARENT_BYTES)?;
        let dashes = [2, 35, 52].iter().all(|&at| known[at] == b'-');
        let version = hex(&known[..2])?;
        let ends = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => matches!(rest, [] | [b'-', ..]),
        };
        let (trace, parent) = (hex(&known[3..35])?, hex(&known[36..52])?);
        let flags = hex(&known[53..])?;
        if !dashes || !ends || trace == 0 || parent == 0 {
            return None;
        }
        let parent = u64::try_from(parent).expect("16 digits");
        Some(Self { trace: TraceId(trace), parent: SpanId(parent), sampled: flags & 1 == 1 })
    }
}

/// The number that digits in lower case are.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// The `traceparent` of a request that `span` causes; `sampled` says whether that is recorded.
///
/// # Panics
/// Never: both ids have their length.
#[must_use]
pub fn traceparent(trace: TraceId, span: SpanId, sampled: bool) -> [u8; TRACEPARENT_BYTES] {
    let text = format!("00-{trace}-{span}-{:02x}", u8::from(sampled));
    text.as_bytes().try_into().expect("both ids have their length")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::{prop_assert_eq, proptest};

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_of_the_recommendation_is_read() {
        let context = Context::parse(GOOD.as_bytes()).expect("the recommendation's own");
        assert_eq!(context.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.parent.to_string(), "b7ad6b7169203331");
        assert!(context.sampled);
        assert_eq!(traceparent(context.trace, context.parent, true), GOOD.as_bytes());
    }

    #[test]
    fn flags_and_versions_to_come_are_read() {
        let sampled = |text: &str| Context::parse(text.as_bytes()).map(|context| context.sampled);
        let ids = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
        for (before, after, expected) in [
            ("00", "00", Some(false)),
            ("00", "01", Some(true)),
            ("00", "ff", Some(true)),
            ("00", "02", Some(false)),
            ("cc", "01", Some(true)),
            ("cc", "01-what-the-future-will-be-like", Some(true)),
            ("cc", "01.what-the-future-will-be-like", None),
            ("00", "01-what-the-future-will-be-like", None),
            ("00", "01-", None),
            ("ff", "01", None),
            ("FE", "01", None),
            ("0", "01", None),
            ("000", "01", None),
            ("00", "0", None),
            ("00", "1G", None),
            ("00", "0A", None),
        ] {
            let text = format!("{before}-{ids}-{after}");
            assert_eq!(sampled(&text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_malformed_says_nothing() {
        for bad in [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333X-01",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331_01",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(Context::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            trace in any::<u128>(),
            span in any::<u64>(),
            sampled in any::<bool>(),
        ) {
            let (trace, parent) = (TraceId::of_random(trace), SpanId::of_random(span));
            let read = Context::parse(&traceparent(trace, parent, sampled));
            prop_assert_eq!(read, Some(Context { trace, parent, sampled }));
        }

        #[test]
        fn anything_is_read_or_refused(value in any::<Vec<u8>>()) {
            let _: Option<Context> = Context::parse(&value);
        }
    }
}
