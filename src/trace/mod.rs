//! Which trace does a request belong to, and how are its spans told to a collector?
//!
//! A trace is what one question to a system of many servers becomes: a tree of *spans*, each with
//! a beginning, an end and the span that caused it. `context` is the field that carries a trace
//! from server to server (W3C Trace Context, level 1), `span` is what is told of one step, `otlp`
//! is how it is told (OpenTelemetry protocol 1.x, JSON form).
//!
//! Values and bytes only: `proxy` and `dispatch` make the spans, `background` sends them.

mod context;
mod ids;
mod otlp;
mod span;

pub use context::{Context, SpanId, TRACEPARENT_BYTES, TraceId, traceparent};
pub use ids::Ids;
pub use otlp::{Resource, encode};
pub use span::{Attribute, Kind, Span, Value};
