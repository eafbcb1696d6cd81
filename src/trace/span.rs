//! What is told of one step of a request?

use super::context::{SpanId, TraceId};

/// From which side a span looks at a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request that came.
    Server,
    /// A request that was sent.
    Client,
}

/// One finished step.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The trace that it is part of.
    pub trace: TraceId,
    /// Its own id.
    pub id: SpanId,
    /// The span that caused it; `None` if the trace begins with it.
    pub parent: Option<SpanId>,
    /// From which side it looks.
    pub kind: Kind,
    /// What spans of its kind have in common: the method.
    pub name: String,
    /// On the process's clock, in microseconds.
    pub begun_micros: u64,
    /// The same.
    pub ended_micros: u64,
    /// What else is told, named by the semantic conventions for HTTP.
    pub attributes: Vec<Attribute>,
    /// Whether it counts as an error there.
    pub failed: bool,
}

/// One thing that is told of a span.
pub type Attribute = (&'static str, Value);

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Whole(u64),
    /// A truth value.
    Truth(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Whole(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Whole(number.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Truth(value)
    }
}
