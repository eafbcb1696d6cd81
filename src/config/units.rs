//! How are durations and sizes written?

use std::time::Duration;

/// Units of durations in milliseconds, the largest first.
const DURATIONS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of sizes in bytes, the largest first. Two spellings of a thousand are common.
const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("KB", 1000),
];

/// Reads `250ms`, `10s`, `5m` or `1h`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let (_, millis) = DURATIONS.into_iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Reads `100`, `100B`, `8KiB`, `1MB` and the like, as bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    if matches!(unit, "" | "B") {
        return Some(number);
    }
    let (_, bytes) = SIZES.into_iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(bytes)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

/// Writes a duration as [`duration`] reads it, in its largest unit that leaves no rest.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match DURATIONS.into_iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", millis / unit),
        None => "0s".to_owned(),
    }
}

/// Writes a size as [`size`] reads it, in its largest binary unit that leaves no rest.
pub(super) fn show_size(bytes: u64) -> String {
    let binary = SIZES.into_iter().filter(|(name, _)| name.ends_with("iB"));
    match binary.into_iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, millis) in [("0s", 0), ("250ms", 250), ("10s", 10_000), ("5m", 300_000)] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
            assert_eq!(show_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(show_duration(Duration::from_millis(1500)), "1500ms");
        for bad in ["", "s", "10", "1.5s", "-1s", "+1s", "10 s", "1d", "10S", "99999999999999999h"]
        {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_may_be_plain_bytes() {
        for (text, bytes) in [
            ("0", 0),
            ("100", 100),
            ("100B", 100),
            ("8KiB", 8192),
            ("8kB", 8000),
            ("8KB", 8000),
            ("1MiB", 1 << 20),
            ("1MB", 1_000_000),
            ("2GiB", 1 << 31),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
            assert_eq!(size(&show_size(bytes)), Some(bytes), "{text}");
        }
        assert_eq!(show_size(32 * 1024), "32KiB");
        for bad in ["", "KiB", "8K", "8k", "8 KiB", "8kib", "1.5MiB", "99999999999GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
