//! What data does a chunked body carry?
//!
//! The decoder is stepped over whatever bytes are there and tells where data lies in them; nothing
//! is copied. It is strict where readers were found to differ: sizes are at most 15 hexadecimal
//! digits and nothing else, every line ends in CRLF, and a chunk's data is followed by CRLF at
//! once (RFC 9112, section 7.1). Extensions are dropped, within a limit per body. Trailers are
//! collected, within a limit, and judged by [`trailer_fields`].

use std::io::Write;
use std::ops::Range;

use super::head::FieldKind;

/// What a chunked body may cost.
#[derive(Debug, Clone, Copy)]
pub struct ChunkLimits {
    /// Bytes of extensions, over the whole body.
    pub extension_bytes_max: usize,
    /// Bytes of the trailer section.
    pub trailer_bytes_max: usize,
}

/// Why a chunked body cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// No hexadecimal number where a chunk's size must stand, or one too large.
    #[error("a chunk's size is not a hexadecimal number of at most 15 digits")]
    Size,
    /// A line that does not end in CRLF, or data not followed by it.
    #[error("a chunk is not delimited by CRLF")]
    Delimiter,
    /// Control characters in an extension, or too many bytes of them.
    #[error("chunk extensions are malformed or longer than allowed")]
    Extension,
    /// The trailer section is too large.
    #[error("the trailers are larger than allowed")]
    TrailersTooLarge,
    /// A trailer that is no field, or one that may not stand there.
    #[error("a trailer field is malformed or may not be a trailer")]
    Trailer,
}

/// What a step found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Data, at this range of the input.
    Data(Range<usize>),
    /// The body has ended, its trailer section included.
    End,
    /// The input is used up.
    NeedMore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size {
        value: u64,
        digits: u8,
    },
    /// White space that RFC 9112 lets stand before an extension's `;`, and there only.
    Gap {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    TrailerLine {
        empty: bool,
    },
    TrailerLf {
        empty: bool,
    },
    Ended,
}

/// The most hexadecimal digits of a size: 60 bits, so that no sum of sizes met in practice wraps.
const SIZE_DIGITS_MAX: u8 = 15;

/// A chunked body being read.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    limits: ChunkLimits,
    extension_bytes: usize,
    trailers: Vec<u8>,
}

impl Decoder {
    /// At the beginning of a body.
    #[must_use]
    pub fn new(limits: ChunkLimits) -> Self {
        let state = State::Size { value: 0, digits: 0 };
        Self { state, limits, extension_bytes: 0, trailers: Vec::new() }
    }

    /// Looks at `input`: how many of its bytes are used, and what they were. To be called again
    /// with what follows until it says [`Step::End`] (then the rest belongs to the next message)
    /// or [`Step::NeedMore`].
    ///
    /// # Errors
    /// [`ChunkError`]; nothing that follows can be trusted.
    pub fn step(&mut self, input: &[u8]) -> Result<(usize, Step), ChunkError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            if let State::Data { left } = self.state {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - at);
                let left = left - here as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                return Ok((at + here, Step::Data(at..at + here)));
            }
            if self.state == State::Ended {
                break;
            }
            at += 1;
            self.state = self.next(byte)?;
        }
        Ok((at, if self.state == State::Ended { Step::End } else { Step::NeedMore }))
    }

    /// The trailer section, complete after [`Step::End`]: field lines, each with its CRLF.
    #[must_use]
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    fn next(&mut self, byte: u8) -> Result<State, ChunkError> {
        Ok(match (self.state, byte) {
            (State::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).expect("a hexadecimal digit");
                if digits == SIZE_DIGITS_MAX {
                    return Err(ChunkError::Size);
                }
                State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(ChunkError::Size),
            (State::Size { value, .. }, b'\r') => State::SizeLf { size: value },
            (State::Size { value: size, .. } | State::Gap { size }, b';') => {
                self.count_extension()?;
                State::Extension { size }
            }
            (State::Size { value: size, .. } | State::Gap { size }, b' ' | b'\t') => {
                self.count_extension()?;
                State::Gap { size }
            }
            (State::Gap { .. }, _) => return Err(ChunkError::Extension),
            (State::Size { .. }, _) => return Err(ChunkError::Size),
            (State::Extension { size }, b'\r') => State::SizeLf { size },
            (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count_extension()?;
                State::Extension { size }
            }
            (State::Extension { .. }, _) => return Err(ChunkError::Extension),
            (State::SizeLf { size: 0 }, b'\n') => State::TrailerLine { empty: true },
            (State::SizeLf { size }, b'\n') => State::Data { left: size },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { value: 0, digits: 0 },
            (State::TrailerLine { empty }, b'\r') => State::TrailerLf { empty },
            (State::TrailerLine { .. }, b'\n') => return Err(ChunkError::Delimiter),
            (State::TrailerLine { .. }, _) => {
                self.keep_trailer(byte)?;
                State::TrailerLine { empty: false }
            }
            (State::TrailerLf { empty: true }, b'\n') => State::Ended,
            (State::TrailerLf { empty: false }, b'\n') => {
                self.keep_trailer(b'\r')?;
                self.keep_trailer(b'\n')?;
                State::TrailerLine { empty: true }
            }
            _ => return Err(ChunkError::Delimiter),
        })
    }

    fn count_extension(&mut self) -> Result<(), ChunkError> {
        self.extension_bytes += 1;
        let in_bounds = self.extension_bytes <= self.limits.extension_bytes_max;
        if in_bounds { Ok(()) } else { Err(ChunkError::Extension) }
    }

    fn keep_trailer(&mut self, byte: u8) -> Result<(), ChunkError> {
        if self.trailers.len() >= self.limits.trailer_bytes_max {
            return Err(ChunkError::TrailersTooLarge);
        }
        self.trailers.push(byte);
        Ok(())
    }
}

/// Sixteen hexadecimal digits and CRLF.
pub const CHUNK_HEAD_BYTES: usize = 18;

/// Writes the line before a chunk of `length` bytes.
pub fn chunk_head(line: &mut [u8; CHUNK_HEAD_BYTES], length: usize) -> &[u8] {
    let mut rest = &mut line[..];
    write!(rest, "{length:x}\r\n").expect("a chunk's length has at most 16 digits");
    let left = rest.len();
    &line[..CHUNK_HEAD_BYTES - left]
}

/// The most trailer fields that are read; more are [`ChunkError::TrailersTooLarge`].
const TRAILER_FIELDS_MAX: usize = 64;

/// Judges a trailer section and writes what goes on to `out`.
///
/// # Errors
/// [`ChunkError::Trailer`] for a line that is no field and for fields that frame, route or name
/// the message: a reader that merged them into the head would be misled (RFC 9110, 6.5.1).
pub fn trailer_fields(section: &[u8], out: &mut Vec<u8>) -> Result<(), ChunkError> {
    if section.is_empty() {
        return Ok(());
    }
    let mut parsed = [httparse::EMPTY_HEADER; TRAILER_FIELDS_MAX];
    let with_end = [section, b"\r\n"].concat();
    let fields = match httparse::parse_headers(&with_end, &mut parsed) {
        Ok(httparse::Status::Complete((_, fields))) => fields,
        Err(httparse::Error::TooManyHeaders) => return Err(ChunkError::TrailersTooLarge),
        Ok(httparse::Status::Partial) | Err(_) => return Err(ChunkError::Trailer),
    };
    for field in fields {
        match FieldKind::of_name(field.name.as_bytes()) {
            FieldKind::EndToEnd if !never_a_trailer(field.name) => {
                super::head::write_field(out, field.name.as_bytes(), field.value);
            }
            FieldKind::HopByHop | FieldKind::Te | FieldKind::Connection => {}
            _ => return Err(ChunkError::Trailer),
        }
    }
    Ok(())
}

/// Fields that say who asks, under which conditions, or how the content is read, beside those with
/// a kind of their own (RFC 9110, section 6.5.1). By then it has been acted upon.
fn never_a_trailer(name: &str) -> bool {
    const NEVER: [&str; 33] = [
        "age",
        "authentication-info",
        "authorization",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-location",
        "content-range",
        "content-type",
        "cookie",
        "depth",
        "expires",
        "forwarded",
        "if",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "location",
        "max-forwards",
        "overwrite",
        "pragma",
        "prefer",
        "proxy-authenticate",
        "proxy-authorization",
        "range",
        "set-cookie",
        "timeout",
        "vary",
        "via",
        "www-authenticate",
    ];
    NEVER.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests;
