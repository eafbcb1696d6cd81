//! How are numbers and bytes written as digits where there are many of them?
//!
//! A request to a store that keeps copies bears a dozen identities, versions and numbers, and so does
//! its answer. The formatting machinery of the standard library takes some 200 instructions for a
//! number and as many for each byte of an identity, which was a microsecond of such a request. Here a
//! [`Text`] of known greatest length is written on the stack, by hand.

/// Lower case, as everything of ours is written.
const HEX: &[u8; 16] = b"0123456789abcdef";

/// The longest number of 64 bits, in decimal.
const NUMBER_DIGITS: usize = 20;

/// A short ASCII text of at most `N` bytes.
#[derive(Debug, Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self { bytes: [0; N], length: 0 }
    }
}

impl<const N: usize> Text<N> {
    /// Appends characters.
    ///
    /// # Panics
    /// Where they do not fit: `N` is to cover the longest.
    #[must_use]
    pub fn with(mut self, text: &str) -> Self {
        debug_assert!(text.is_ascii());
        self.push(text.as_bytes());
        self
    }

    /// Appends a number in decimal.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        let (digits, from) = decimal(number);
        self.push(&digits[from..]);
        self
    }

    /// Appends bytes in hexadecimal, two digits each.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    #[must_use]
    pub fn hex(mut self, bytes: &[u8]) -> Self {
        let room = &mut self.bytes[self.length..][..2 * bytes.len()];
        for (pair, byte) in room.chunks_exact_mut(2).zip(bytes) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        self.length += 2 * bytes.len();
        self
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// What was written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// What was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("ASCII")
    }
}

/// The digits of a number, and where they begin.
fn decimal(number: u64) -> ([u8; NUMBER_DIGITS], usize) {
    let mut digits = [0; NUMBER_DIGITS];
    let (mut at, mut left) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = HEX[usize::try_from(left % 10).expect("one digit")];
        left /= 10;
        if left == 0 {
            return (digits, at);
        }
    }
}

/// Appends a number in decimal.
pub fn write_number(out: &mut Vec<u8>, number: u64) {
    let (digits, from) = decimal(number);
    out.extend_from_slice(&digits[from..]);
}

/// Reads as many bytes as there are pairs of hexadecimal digits, in either case; `None` for
/// anything else.
#[must_use]
pub fn read_hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != BYTES || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// Reads a number in its one spelling: no sign, and no zero before it.
#[must_use]
pub fn read_number(text: &str) -> Option<u64> {
    let spare = text.len() > 1 && text.starts_with('0');
    if text.is_empty() || spare {
        return None;
    }
    text.bytes().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_the_standard_library_writes() {
        let odd = 0x9e37_79b9_7f4a_7c15_u64;
        let numbers = (0..64).map(|bit| odd.wrapping_mul(bit + 1) >> bit);
        let numbers = numbers.chain([0, 9, 10, u64::MAX]);
        for number in numbers {
            let text = Text::<80>::default().with("a-").number(number).hex(&number.to_be_bytes());
            assert_eq!(text.as_str(), format!("a-{number}{number:016x}"));
            let mut out = b"x".to_vec();
            write_number(&mut out, number);
            assert_eq!(out, format!("x{number}").into_bytes());
            assert_eq!(read_number(&number.to_string()), Some(number));
            let digits = format!("{number:016x}");
            assert_eq!(read_hex(&digits), Some(number.to_be_bytes()));
            assert_eq!(read_hex(&digits.to_uppercase()), Some(number.to_be_bytes()));
        }
    }

    #[test]
    fn other_spellings_are_none() {
        for text in ["", "00", "01", "+1", "-1", " 1", "1 ", "a", "18446744073709551616", "1e3"] {
            assert_eq!(read_number(text), None, "{text:?}");
        }
        for text in ["", "0", "000", "0g", "+1", "0x", "äa"] {
            assert_eq!(read_hex::<1>(text), None, "{text:?}");
        }
    }
}
