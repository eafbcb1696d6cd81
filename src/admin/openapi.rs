//! How do programs learn what they may ask?
//!
//! From an OpenAPI 3.1 document, written by hand so that it can say what the numbers mean, and
//! held against the running API by tests: each route is in it and nothing else is, and every
//! answer is of the form that it describes.

/// The document, in JSON.
pub const DOCUMENT: &str = include_str!("openapi.json");
