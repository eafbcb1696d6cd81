//! Where does a message's body end?
//!
//! Request smuggling is two servers disagreeing about this. So there is one answer or an error:
//! what RFC 9112, section 6.3 lets a recipient repair, is refused here.

use super::head::{Field, FieldKind};

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body at all.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks, perhaps with trailers behind them.
    Chunked,
    /// Until the connection ends. Answers only.
    UntilClose,
}

/// Why a body's end is not certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// More than one `Content-Length`, or a list in one.
    #[error("Content-Length is given more than once")]
    LengthTwice,
    /// Anything but digits, or more than [`LENGTH_MAX`].
    #[error("Content-Length is not a number of bytes")]
    LengthSyntax,
    /// `Content-Length` beside `Transfer-Encoding`.
    #[error("both Content-Length and Transfer-Encoding are given")]
    LengthAndEncoding,
    /// `Transfer-Encoding` in an HTTP/1.0 message.
    #[error("Transfer-Encoding in an HTTP/1.0 message")]
    EncodingInOldVersion,
    /// A transfer coding other than one `chunked`.
    #[error("a Transfer-Encoding other than `chunked` alone")]
    Encoding,
    /// An interim answer that announces content.
    #[error("an interim answer announces content")]
    Misplaced,
}

/// What the framing fields of a head say: a length, or chunks, or neither.
///
/// # Errors
/// [`FramingError`] for whatever is not plainly one of these.
pub(super) fn stated(
    whole: &[u8],
    fields: &[Field],
    version_minor: u8,
) -> Result<Option<Framing>, FramingError> {
    let mut length = None;
    let mut chunked = false;
    for field in fields {
        let value = || field.value.of_bytes(whole);
        match field.kind {
            FieldKind::ContentLength if length.is_some() => return Err(FramingError::LengthTwice),
            FieldKind::ContentLength => length = Some(parse_length(value())?),
            FieldKind::TransferEncoding if version_minor == 0 => {
                return Err(FramingError::EncodingInOldVersion);
            }
            FieldKind::TransferEncoding if chunked || !value().eq_ignore_ascii_case(b"chunked") => {
                return Err(FramingError::Encoding);
            }
            FieldKind::TransferEncoding => chunked = true,
            _ => {}
        }
    }
    match (length, chunked) {
        (Some(_), true) => Err(FramingError::LengthAndEncoding),
        (Some(length), false) => Ok(Some(Framing::Length(length))),
        (None, true) => Ok(Some(Framing::Chunked)),
        (None, false) => Ok(None),
    }
}

/// The longest body. Whoever keeps lengths in signed numbers, as many servers do, would take a
/// longer one for a negative length or none, and the body for requests of its own.
const LENGTH_MAX: u64 = i64::MAX as u64;

fn parse_length(value: &[u8]) -> Result<u64, FramingError> {
    let add = |sum: u64, byte: &u8| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    };
    match value.iter().try_fold(0, add) {
        Some(length) if !value.is_empty() && length <= LENGTH_MAX => Ok(length),
        _ if value.contains(&b',') => Err(FramingError::LengthTwice),
        _ => Err(FramingError::LengthSyntax),
    }
}

/// How a request's body is delimited: none unless stated.
pub(super) fn of_request(
    whole: &[u8],
    fields: &[Field],
    version_minor: u8,
) -> Result<Framing, FramingError> {
    Ok(match stated(whole, fields, version_minor)? {
        None | Some(Framing::Length(0)) => Framing::None,
        Some(framing) => framing,
    })
}

/// How an answer's body is delimited, given its status and whether HEAD was asked; and whether the
/// connection can carry another answer after it.
///
/// A wrong framing field is an error even where no body follows: such a shard is not to be
/// trusted with the next answer on this connection. Neither is one that announces content where
/// none may be: if it sends it, the next answer would begin with it.
pub(super) fn of_response(
    whole: &[u8],
    fields: &[Field],
    version_minor: u8,
    status: u16,
    head_asked: bool,
) -> Result<(Framing, bool), FramingError> {
    let stated = match stated(whole, fields, version_minor)? {
        Some(Framing::Length(0)) => Some(Framing::None),
        stated => stated,
    };
    let announces = !matches!(stated, None | Some(Framing::None));
    match status {
        ..200 if announces => Err(FramingError::Misplaced),
        204 => Ok((Framing::None, !announces)),
        ..200 | 304 => Ok((Framing::None, true)),
        _ if head_asked => Ok((Framing::None, true)),
        _ => Ok(stated.map_or((Framing::UntilClose, false), |framing| (framing, true))),
    }
}
