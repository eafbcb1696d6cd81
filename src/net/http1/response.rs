//! What does an answer's head say?

use super::framing::{self, Framing, FramingError};
use super::head::{self, Field, HeadError, Persistence, Span};
use super::request::FIELDS_MAX;
use super::scan::HeadLimits;

/// Why a shard's answer is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// It cannot be read as a head.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Its body's end is not certain.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// A status below 100 or above 599, or `101`, which nobody asked for.
    #[error("the status code {0} cannot be an answer to this request")]
    Status(u16),
}

/// An answer's head. Its spans point into the buffer that it was parsed from.
#[derive(Debug, Default)]
pub struct ResponseHead {
    status: u16,
    reason: Span,
    fields: Vec<Field>,
    facts: Option<(Framing, Persistence)>,
}

impl ResponseHead {
    /// Parses a complete head, as [`Scanner`](super::scan::Scanner) delimits it; `head_asked` says
    /// whether it answers HEAD. `self` lends its vector; whatever it held is gone.
    ///
    /// # Errors
    /// [`ResponseError`]; the connection cannot be used further.
    pub fn parse(&mut self, whole: &[u8], head_asked: bool) -> Result<(), ResponseError> {
        self.facts = None;
        head::check_first_byte(whole)?;
        let mut parsed = [const { std::mem::MaybeUninit::uninit() }; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut response, whole, &mut parsed) {
            Ok(httparse::Status::Complete(n)) if n == whole.len() => {
                self.judge(whole, &response, head_asked)
            }
            Ok(_) => Err(HeadError::FirstLine.into()),
            Err(error) => Err(HeadError::from(error).into()),
        }
    }

    /// Parses the head that `bytes` begin with, as most answers do that were read at once; as
    /// [`RequestHead::parse_at_once`](super::request::RequestHead::parse_at_once).
    pub fn parse_at_once(
        &mut self,
        bytes: &[u8],
        head_asked: bool,
        limits: &HeadLimits,
    ) -> Option<usize> {
        self.facts = None;
        head::check_first_byte(bytes).ok()?;
        let mut parsed = [const { std::mem::MaybeUninit::uninit() }; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let Ok(httparse::Status::Complete(length)) =
            config.parse_response_with_uninit_headers(&mut response, bytes, &mut parsed)
        else {
            return None;
        };
        let whole = &bytes[..length];
        let sound = head::has_sound_lines(whole, response.headers, limits);
        (sound && self.judge(whole, &response, head_asked).is_ok()).then_some(length)
    }

    fn judge(
        &mut self,
        whole: &[u8],
        response: &httparse::Response<'_, '_>,
        head_asked: bool,
    ) -> Result<(), ResponseError> {
        self.status = response.code.unwrap_or(0);
        if !(100..600).contains(&self.status) || self.status == 101 {
            return Err(ResponseError::Status(self.status));
        }
        let reason = response.reason.unwrap_or("");
        self.reason =
            if reason.is_empty() { Span::default() } else { Span::of(reason.as_bytes(), whole) };
        let minor = response.version.unwrap_or(0);
        let persistence = head::classify(whole, response.headers, &mut self.fields, minor)?;
        let (framing, can_go_on) =
            framing::of_response(whole, &self.fields, minor, self.status, head_asked)?;
        let persistence = if can_go_on { persistence } else { Persistence::Close };
        self.facts = Some((framing, persistence));
        Ok(())
    }

    fn facts(&self) -> (Framing, Persistence) {
        self.facts.expect("facts are read from a parsed head only")
    }

    /// The status code, 100..=599 without 101.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether this is an interim answer (1xx), with the final one to follow.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// The reason phrase; may be empty.
    #[must_use]
    pub fn reason<'a>(&self, whole: &'a [u8]) -> &'a [u8] {
        self.reason.of_bytes(whole)
    }

    /// All fields in order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// How the body is delimited.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.facts().0
    }

    /// Whether the shard goes on with this connection.
    #[must_use]
    pub fn persistence(&self) -> Persistence {
        self.facts().1
    }
}

#[cfg(test)]
mod tests;
