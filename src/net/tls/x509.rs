//! Whose is a certificate, and until when is it good?
//!
//! Those two facts are for people: a name in a log line, a warning before the day comes. What
//! decides whether a certificate is accepted is rustls alone. So this reads no more of X.509 than
//! the way to the two fields (RFC 5280, section 4.1), and what it does not understand is none.

/// What is told of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The subject's common name.
    pub common_name: Option<String>,
    /// The last second of its validity, in seconds since 1970.
    pub not_after_s: u64,
}

// Tags of X.690 that lie on the way.
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// 2.5.4.3, `id-at-commonName`.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

impl Facts {
    /// Reads a certificate in DER; none if it is not one.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let mut body = Der(Der(certificate).of(SEQUENCE)?);
        let mut body = Der(body.of(SEQUENCE)?);
        if body.0.first() == Some(&VERSION) {
            body.any()?;
        }
        let [_serial, _algorithm, _issuer] = [body.any()?, body.any()?, body.any()?];
        let mut validity = Der(body.of(SEQUENCE)?);
        validity.any()?;
        let (tag, not_after) = validity.any()?;
        Some(Self {
            not_after_s: seconds(tag, not_after)?,
            common_name: common_name(Der(body.of(SEQUENCE)?)),
        })
    }
}

fn common_name(mut names: Der<'_>) -> Option<String> {
    while let Some(set) = names.of(SET) {
        let mut pair = Der(Der(set).of(SEQUENCE)?);
        if pair.of(OID)? == COMMON_NAME {
            let (_kind_of_string, text) = pair.any()?;
            return String::from_utf8(text.to_vec()).ok();
        }
    }
    None
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`, which are all that RFC 5280 allows (4.1.2.5).
fn seconds(tag: u8, text: &[u8]) -> Option<u64> {
    let digits = text.strip_suffix(b"Z")?;
    let pairs: Vec<u64> = digits
        .chunks(2)
        .map(|pair| match pair {
            [a @ b'0'..=b'9', b @ b'0'..=b'9'] => {
                Some(u64::from(a - b'0') * 10 + u64::from(b - b'0'))
            }
            _ => None,
        })
        .collect::<Option<_>>()?;
    let (year, rest) = match (tag, pairs.as_slice()) {
        (UTC_TIME, [year, rest @ ..]) if *year < 50 => (2000 + year, rest),
        (UTC_TIME, [year, rest @ ..]) => (1900 + year, rest),
        (GENERALIZED_TIME, [century, year, rest @ ..]) => (century * 100 + year, rest),
        _ => return None,
    };
    let &[month @ 1..=12, day @ 1..=31, hour @ 0..24, minute @ 0..60, second @ 0..=60] = rest
    else {
        return None;
    };
    let days = days_before(year, month)?.checked_add(day - 1)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days from 1970-01-01 to the first of a month (Howard Hinnant, *chrono-Compatible Low-Level Date
/// Algorithms*, `days_from_civil`).
fn days_before(year: u64, month: u64) -> Option<u64> {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// What is left of an encoding.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The contents of the next value if it has this tag; otherwise it stays the next one.
    fn of(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() != Some(&tag) {
            return None;
        }
        self.any().map(|(_, contents)| contents)
    }

    /// The next value, its tag and contents.
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // As many bytes of length follow; three of them are 16 MiB.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, contents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    fn certificate(name: Option<&str>, year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["n1".to_owned()]).expect("a name");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "somebody");
        if let Some(name) = name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.not_after = date_time_ymd(year, 2, 28);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("signed").der().to_vec()
    }

    #[test]
    fn both_ways_to_write_a_date_are_read() {
        let facts = |name, year| Facts::of(&certificate(name, year));
        let named = |name: &str, not_after_s| {
            Some(Facts { common_name: Some(name.to_owned()), not_after_s })
        };
        // `date -u -d 2027-02-28 +%s` and so on: to 2049 two digits of the year, then four.
        assert_eq!(facts(Some("n1"), 2027), named("n1", 1_803_772_800));
        assert_eq!(facts(Some("Zürich"), 2049), named("Zürich", 2_498_083_200));
        assert_eq!(facts(Some("n1"), 2050), named("n1", 2_529_619_200));
        assert_eq!(facts(None, 2000), Some(Facts { common_name: None, not_after_s: 951_696_000 }));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let good = certificate(Some("n1"), 2027);
        for end in 0..good.len() {
            assert_eq!(Facts::of(&good[..end]), None, "cut at {end}");
        }
        for at in 0..good.len() {
            for byte in [0x00, 0x7f, 0x80, 0x83, 0x84, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = byte;
                let _facts = Facts::of(&bytes);
            }
        }
    }
}
