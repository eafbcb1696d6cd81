//! What does the store say when it does not do what was asked? RFC 9457 problem details.
//!
//! Each kind has a stable `type`, and each detail says what to do. A refused or failed write also
//! says in `Ringway-Outcome` whether it may have happened.

use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::protocol::replica::{Refusal, words};
use crate::store::body::Body;
use crate::store::writer::WriteError;

/// Says whether a write that was not acknowledged may have happened.
pub(super) const OUTCOME: HeaderName = HeaderName::from_static("ringway-outcome");

const ERROR: HeaderName = HeaderName::from_static(words::ERROR);

const NOT_APPLIED: HeaderValue = HeaderValue::from_static("not-applied");
const UNKNOWN: HeaderValue = HeaderValue::from_static("unknown");

/// An answer that says why not.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    /// Last part of the type's URN.
    kind: &'static str,
    title: &'static str,
    detail: String,
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { status, kind, title, detail: detail.into(), fields: Vec::new() }
    }

    /// A refusal that nodes know.
    pub(super) fn refusal(
        refusal: Refusal,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let status = StatusCode::from_u16(refusal.status()).expect("a status of ours");
        Self::new(status, refusal.word(), title, detail).with(OUTCOME, NOT_APPLIED)
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields.push((name, value));
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The last part of its type.
    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(super) fn bad_request(kind: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, "The request cannot be understood", detail)
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("Use one of {allow}.");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", "The method is not supported", detail)
            .with(ALLOW, HeaderValue::from_static(allow))
    }

    pub(super) fn not_found() -> Self {
        let detail = "The store has no value under this key. Put one there first.";
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such value", detail)
    }

    pub(super) fn precondition_failed() -> Self {
        let detail = "The value is not in the state that the request's conditions ask for; \
                      nothing was changed. Read it anew and decide again.";
        Self::new(StatusCode::PRECONDITION_FAILED, "condition", "A condition does not hold", detail)
    }

    pub(super) fn unsatisfiable(size: u64) -> Self {
        let detail = format!("The value has {size} bytes. Ask for some of those.");
        let field = HeaderValue::from_str(&format!("bytes */{size}")).expect("ASCII");
        let status = StatusCode::RANGE_NOT_SATISFIABLE;
        Self::new(status, "range", "The range lies outside the value", detail)
            .with(CONTENT_RANGE, field)
    }

    pub(super) fn too_large(max: u64) -> Self {
        let detail = format!("A value has at most {max} bytes here. Store it in parts.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The value is too long", detail)
            .with(OUTCOME, NOT_APPLIED)
    }

    pub(super) fn too_slow() -> Self {
        let detail = "The body stopped coming. Repeat the request.";
        Self::new(StatusCode::REQUEST_TIMEOUT, "slow", "The body did not arrive", detail)
            .with(OUTCOME, NOT_APPLIED)
            .with(CONNECTION, HeaderValue::from_static("close"))
    }

    pub(super) fn unreadable(what: &str) -> Self {
        let detail = format!(
            "Reading the value failed: {what}. Look at the store's log and disk; the value can be \
             written again."
        );
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "unreadable", "The value cannot be read", detail)
    }

    pub(super) fn write(error: &WriteError) -> Self {
        match error {
            WriteError::Full => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "full",
                "The disk is full",
                "Nothing was changed and reads go on. Make room on the disk or delete values; \
                 writes are taken again by themselves.",
            )
            .with(OUTCOME, NOT_APPLIED),
            WriteError::Fenced(reason) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "fenced",
                "The store takes no writes",
                format!(
                    "Nothing was changed and reads go on. After a failure of the disk ({reason}) \
                     the store cannot promise to keep a write. Check the disk, then start the \
                     store again."
                ),
            )
            .with(OUTCOME, NOT_APPLIED),
            WriteError::Busy => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "Too many writes are waiting",
                "Nothing was changed. Repeat the request a little later.",
            )
            .with(RETRY_AFTER, HeaderValue::from_static("1"))
            .with(OUTCOME, NOT_APPLIED),
            WriteError::Unknown(reason) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "unknown",
                "Whether the write is kept is unknown",
                format!(
                    "The disk failed while the write was made durable ({reason}). Check the disk, \
                     start the store again, then read the value to learn what was kept."
                ),
            )
            .with(OUTCOME, UNKNOWN),
        }
    }
}

impl From<Problem> for Response<Body> {
    fn from(problem: Problem) -> Self {
        let text = serde_json::json!({
            "type": format!("urn:ringway:problem:store:{}", problem.kind),
            "title": problem.title,
            "status": problem.status.as_u16(),
            "detail": problem.detail,
        })
        .to_string();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = problem.status;
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        fields.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
        // The answer to a HEAD has no body that could say it.
        fields.insert(ERROR, HeaderValue::from_static(problem.kind));
        fields.extend(problem.fields);
        *response.body_mut() = Body::memory(text.into());
        response
    }
}
