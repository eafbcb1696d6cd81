//! Where does a head end?
//!
//! The scanner looks at each byte once, however slowly a head arrives, and enforces line by line
//! what `httparse` leaves open: a bare LF is refused rather than taken for a line's end, since the
//! next server may read it as data.

/// How large a head may be.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Bytes of the whole head, its last empty line included.
    pub head_bytes_max: usize,
    /// Bytes of one line, its CRLF included.
    pub line_bytes_max: usize,
    /// Number of fields.
    pub fields_max: usize,
}

/// Why no head can come of these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// A line ends in LF without CR.
    #[error("a line of the head ends in a bare LF")]
    BareLf,
    /// The first line is too long: a request's target, most likely.
    #[error("the first line is longer than allowed")]
    FirstLineTooLong,
    /// A field is too long.
    #[error("a field is longer than allowed")]
    FieldTooLong,
    /// All together are too long.
    #[error("the head is larger than allowed")]
    HeadTooLarge,
    /// There are too many fields.
    #[error("the head has more fields than allowed")]
    TooManyFields,
}

/// How far a head has been looked at. Fresh for each head.
#[derive(Debug, Default, Clone)]
pub struct Scanner {
    looked_at: usize,
    line_start: usize,
    lines: usize,
}

impl Scanner {
    /// Whether it has looked at nothing yet.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.looked_at == 0
    }

    /// Looks at the bytes that are new since the last call; `bytes` always begins where the head
    /// begins. Returns the head's length once its last line is there.
    ///
    /// # Errors
    /// [`ScanError`] as soon as it is certain.
    pub fn scan(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, ScanError> {
        for lf in memchr::memchr_iter(b'\n', &bytes[self.looked_at..]) {
            let lf = self.looked_at + lf;
            let line = lf - self.line_start + 1;
            if line < 2 || bytes[lf - 1] != b'\r' {
                return Err(ScanError::BareLf);
            }
            self.check_line(line, lf + 1, limits)?;
            if line == 2 && self.lines > 0 {
                return Ok(Some(lf + 1));
            }
            // The first line is no field, the last one is empty and returned above.
            if self.lines > limits.fields_max {
                return Err(ScanError::TooManyFields);
            }
            self.lines += 1;
            self.line_start = lf + 1;
        }
        self.looked_at = bytes.len();
        self.check_line(bytes.len() - self.line_start, bytes.len(), limits)?;
        Ok(None)
    }

    fn check_line(&self, line: usize, head: usize, limits: &HeadLimits) -> Result<(), ScanError> {
        if line > limits.line_bytes_max {
            let first = self.lines == 0;
            return Err(if first { ScanError::FirstLineTooLong } else { ScanError::FieldTooLong });
        }
        if head > limits.head_bytes_max { Err(ScanError::HeadTooLarge) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prop_assert_eq, proptest};

    const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 64, line_bytes_max: 24, fields_max: 3 };

    fn scan(bytes: &[u8]) -> Result<Option<usize>, ScanError> {
        Scanner::default().scan(bytes, &LIMITS)
    }

    #[test]
    fn the_end_is_found_and_nothing_behind_it_counts() {
        assert_eq!(scan(b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest\n"), Ok(Some(24)));
        assert_eq!(scan(b"GET / HTTP/1.1\r\n\r\n"), Ok(Some(18)));
        assert_eq!(scan(b"GET / HTTP/1.1\r\n"), Ok(None));
        assert_eq!(scan(b""), Ok(None));
    }

    #[test]
    fn each_limit_has_its_error() {
        assert_eq!(scan(b"GET / HTTP/1.1\nA: b\r\n\r\n"), Err(ScanError::BareLf));
        assert_eq!(scan(b"\n"), Err(ScanError::BareLf));
        assert_eq!(scan(b"GET / HTTP/1.1\r\nA: b\r\n\n"), Err(ScanError::BareLf));
        assert_eq!(scan(&[b'x'; 25]), Err(ScanError::FirstLineTooLong));
        assert_eq!(scan(b"G\r\nA: 0123456789012345678901"), Err(ScanError::FieldTooLong));
        assert_eq!(
            scan(b"G\r\nA: b\r\nC: d\r\nE: f\r\nG: h\r\n\r\n"),
            Err(ScanError::TooManyFields)
        );
        assert_eq!(scan(b"G\r\nA: b\r\nC: d\r\nE: f\r\n\r\n"), Ok(Some(23)));
        let field = b"A: 01234567890123456\r\n";
        let long = [b"G\r\n", &field[..], &field[..], &field[..]].concat();
        assert_eq!(scan(&long), Err(ScanError::HeadTooLarge));
    }

    proptest! {
        #[test]
        fn arriving_in_pieces_changes_nothing(
            bytes in "[a\r\n]{0,40}|G\r\n(A: b\r\n){0,5}\r\n.{0,5}", cut in 1usize..40,
        ) {
            let whole = scan(bytes.as_bytes());
            let mut scanner = Scanner::default();
            let mut pieces = Ok(None);
            for end in (0..bytes.len()).step_by(cut).chain([bytes.len()]) {
                pieces = scanner.scan(&bytes.as_bytes()[..end], &LIMITS);
                if pieces != Ok(None) {
                    break;
                }
            }
            prop_assert_eq!(pieces, whole);
        }
    }
}
