//! What does Ringway itself answer when something went wrong?
//!
//! `application/problem+json` (RFC 9457) with a stable `type`, a sentence that says what to do,
//! and an *outcome* for whoever wrote: `not-applied` is a promise that nothing happened,
//! `unknown` that it may have. A time-out after sending is never called "not done".

mod kept;

use serde::Serialize;

pub use self::kept::KEPT_ALLOWED;
use crate::dispatch::outcome::Failure;
use crate::dispatch::seam::BodyError;
use crate::key::KeyError;
use crate::net::http1::chunked::ChunkError;
use crate::net::http1::framing::FramingError;
use crate::net::http1::head::HeadError;
use crate::net::http1::request::RequestError;
use crate::net::http1::scan::ScanError;
use crate::net::upstream::ConnectError;
use crate::protocol::health::Class;
use crate::proxy::site::OtherKey;

/// What is certain about a write that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing happened.
    NotApplied,
    /// It may have happened.
    Unknown,
}

impl Outcome {
    /// As it stands in `Ringway-Outcome`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotApplied => "not-applied",
            Self::Unknown => "unknown",
        }
    }
}

/// A problem that a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The status code.
    pub status: u16,
    /// The stable name of the problem; its `type` is this below the project's name space.
    pub kind: &'static str,
    /// What happened, and what to do.
    pub detail: String,
    /// For writes: what is certain.
    pub outcome: Option<Outcome>,
    /// Seconds after which a repeat makes sense.
    pub retry_after: Option<u32>,
    /// The flag of the access log, in Envoy's letters.
    pub flag: &'static str,
    /// The methods that are allowed, with 405.
    pub allow: Option<String>,
    /// Further fields of the answer.
    pub fields: Vec<(&'static str, String)>,
}

impl Problem {
    fn new(status: u16, kind: &'static str, flag: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let (outcome, retry_after, allow, fields) = (None, None, None, Vec::new());
        Self { status, kind, detail, outcome, retry_after, flag, allow, fields }
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.fields.push((name, value));
        self
    }

    fn outcome(self, outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), ..self }
    }

    fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// A request in itself malformed: nothing was looked at further.
    fn malformed(detail: impl std::fmt::Display) -> Self {
        let detail = format!("{detail}: correct the request");
        Self::new(400, "malformed-request", "DPE", detail).outcome(Outcome::NotApplied)
    }

    /// A condition of WebDAV that stands twice.
    #[must_use]
    pub fn two_conditions() -> Self {
        Self::malformed("the field `If` stands twice")
    }

    /// A head that is too large, or has a bare LF.
    #[must_use]
    pub fn of_scan(error: ScanError) -> Self {
        match error {
            ScanError::BareLf => Self::malformed(error),
            ScanError::FirstLineTooLong => {
                Self::new(414, "target-too-long", "DPE", format!("{error}: send a shorter target"))
                    .outcome(Outcome::NotApplied)
            }
            ScanError::FieldTooLong | ScanError::HeadTooLarge | ScanError::TooManyFields => {
                let detail = format!("{error}: send fewer or shorter fields");
                Self::new(431, "head-too-large", "DPE", detail).outcome(Outcome::NotApplied)
            }
        }
    }

    /// A head that is refused.
    #[must_use]
    pub fn of_request(error: RequestError) -> Self {
        let problem = match error {
            RequestError::Head(HeadError::Version) => {
                Self::new(505, "version-not-supported", "DPE", "speak HTTP/1.1 or HTTP/1.0")
            }
            RequestError::Framing(FramingError::Encoding) => {
                let detail = "the only transfer coding that is understood is `chunked`, once";
                Self::new(501, "transfer-coding", "DPE", detail)
            }
            RequestError::Expectation => {
                let detail = "the only expectation that can be met is `100-continue`";
                Self::new(417, "expectation-failed", "DPE", detail)
            }
            other => return Self::malformed(other),
        };
        problem.outcome(Outcome::NotApplied)
    }

    /// A path or query that has no canonical form.
    #[must_use]
    pub fn of_key(error: &KeyError) -> Self {
        Self::new(400, "bad-key", "DPE", format!("{error}")).outcome(Outcome::NotApplied)
    }

    /// A route whose key cannot be found in the request.
    #[must_use]
    pub fn of_route_key(error: &crate::route::KeyError) -> Self {
        Self::new(400, "bad-key", "DPE", error.to_string()).outcome(Outcome::NotApplied)
    }

    /// No route takes the request.
    #[must_use]
    pub fn no_route() -> Self {
        let detail = "no route takes this request: compare host, path and method with `routes`";
        Self::new(404, "no-route", "NR", detail).outcome(Outcome::NotApplied)
    }

    /// Nothing is agreed yet, so no pool is known.
    #[must_use]
    pub fn no_topology() -> Self {
        let detail = "this node does not know the cluster's pools yet: it has not joined one, or \
                      none was founded: see `ringway status`, then `ringway cluster init` or `join`";
        Self::new(503, "no-topology", "NC", detail).outcome(Outcome::NotApplied).retry_after(1)
    }

    /// The route names a pool that the cluster does not have.
    #[must_use]
    pub fn no_pool(pool: &str) -> Self {
        let detail = format!(
            "the cluster has no pool `{pool}`, to which this route leads: add it with \
             `ringway ring`, or correct `routes` in this node's file"
        );
        Self::new(503, "no-pool", "NC", detail).outcome(Outcome::NotApplied).retry_after(1)
    }

    /// The route would look for objects where they are not.
    #[must_use]
    pub fn other_key(other: &OtherKey) -> Self {
        Self::new(503, "other-key", "NC", other.to_string())
            .outcome(Outcome::NotApplied)
            .retry_after(1)
    }

    /// The method is not one that may be forwarded.
    #[must_use]
    pub fn method(allow: String) -> Self {
        let detail = "the method is not allowed here";
        let problem = Self::new(405, "method-not-allowed", "NR", detail);
        Self { allow: Some(allow), ..problem.outcome(Outcome::NotApplied) }
    }

    /// A field of ours that a request may not have.
    #[must_use]
    pub fn reserved_field(name: &str) -> Self {
        let detail =
            format!("`{name}`: fields that begin with `Ringway-` are reserved; leave it out");
        Self::new(400, "reserved-field", "DPE", detail).outcome(Outcome::NotApplied)
    }

    /// A level that the pool cannot give.
    #[must_use]
    pub fn level(level: &str) -> Self {
        let detail = format!(
            "`Ringway-Consistency: {level}`: a cache pool keeps one copy and gives the level `one`"
        );
        Self::new(400, "bad-level", "DPE", detail).outcome(Outcome::NotApplied)
    }

    /// A path below `/_ringway/` that does not exist on the data port.
    #[must_use]
    pub fn reserved_path() -> Self {
        let detail = "paths below `/_ringway/` are reserved, and this one does not exist";
        Self::new(404, "reserved-path", "NR", detail).outcome(Outcome::NotApplied)
    }

    /// A WebDAV destination on another host.
    #[must_use]
    pub fn bad_destination() -> Self {
        let detail = "the Destination field is not a path or URL of this host";
        Self::new(400, "bad-destination", "DPE", detail).outcome(Outcome::NotApplied)
    }

    /// The head did not come in time.
    #[must_use]
    pub fn head_timeout() -> Self {
        let detail = "the request's head was not complete in time";
        Self::new(408, "request-timeout", "DPE", detail).outcome(Outcome::NotApplied)
    }

    /// A request in the clear where TLS is spoken.
    #[must_use]
    pub fn tls_wanted() -> Self {
        let detail = "this port speaks TLS, and the request came in the clear: use `https://`";
        Self::new(400, "tls-wanted", "DPE", detail).outcome(Outcome::NotApplied)
    }

    /// More connections than allowed.
    #[must_use]
    pub fn too_many_connections() -> Self {
        let detail = "this node has as many connections as it may: try again, or try another node";
        let problem = Self::new(503, "too-many-connections", "OM", detail);
        problem.outcome(Outcome::NotApplied).retry_after(1)
    }

    /// The client has asked too often.
    #[must_use]
    pub fn rate_limited(wait_micros: u64) -> Self {
        let detail = "this client asks more often than the route's `rate_limit` allows: ask again \
                      after the time in Retry-After";
        let seconds = u32::try_from(wait_micros.div_ceil(1_000_000)).unwrap_or(u32::MAX);
        let problem = Self::new(429, "rate-limited", "RL", detail);
        problem.outcome(Outcome::NotApplied).retry_after(seconds.max(1))
    }

    /// The body that is announced is larger than allowed; none of it was read.
    #[must_use]
    pub fn announced_body_too_large() -> Self {
        Self::body_too_large().outcome(Outcome::NotApplied)
    }

    fn body_too_large() -> Self {
        let detail = "the body is larger than this node takes";
        Self::new(413, "body-too-large", "DPE", detail)
    }

    /// A request that dispatch could not have answered. `None`: the client is gone, there is
    /// nobody to tell.
    #[must_use]
    pub fn of_failure(failure: &Failure, class: Class) -> Option<Self> {
        use Outcome::{NotApplied, Unknown};
        // A read changes nothing, whatever became of it.
        let is_write = class == Class::Write;
        let problem = match failure {
            Failure::NoneHealthy => Self::new(
                503,
                "no-healthy-shard",
                "UH",
                "no shard of the pool can be asked now: try again later",
            )
            .outcome(NotApplied)
            .retry_after(1),
            Failure::OwnerDown => Self::new(
                503,
                "owner-down",
                "UH",
                "the shard that owns this key is down or in maintenance, and only it may take the \
                 write: try again later",
            )
            .outcome(NotApplied)
            .retry_after(1),
            Failure::CrossShard => Self::new(
                502,
                "cross-shard",
                "NR",
                "source and destination belong to different shards: GET and PUT instead",
            )
            .outcome(NotApplied),
            Failure::Overflow => Self::new(
                503,
                "shard-busy",
                "UO",
                "the shard has as many requests in flight as it may: try again later",
            )
            .outcome(NotApplied)
            .retry_after(1),
            Failure::Connect(ConnectError::Local(_)) => Self::new(
                503,
                "node-exhausted",
                "OM",
                "this node cannot open more connections: try again, or try another node",
            )
            .outcome(NotApplied)
            .retry_after(1),
            Failure::Connect(ConnectError::Tls(refused)) => {
                let detail = format!(
                    "no TLS session with the shard ({}): look at its certificate, at `tls` of the \
                     pool, and at this node's log",
                    refused.reason().label()
                );
                Self::new(503, "shard-untrusted", "UF", detail).outcome(NotApplied).retry_after(1)
            }
            Failure::Connect(_) => Self::new(
                503,
                "shard-unreachable",
                "UF",
                "the shard cannot be reached: try again later",
            )
            .outcome(NotApplied)
            .retry_after(1),
            Failure::Reset => {
                let detail = "the connection to the shard broke before it answered";
                Self::new(502, "shard-broke", "UC", detail).outcome(Unknown)
            }
            Failure::BadAnswer(what) => {
                let detail = format!(
                    "the shard's answer cannot be understood ({what}): look at the shard, and at \
                     what stands before it"
                );
                Self::new(502, "bad-answer", "UPE", detail).outcome(Unknown)
            }
            Failure::GatewayError(status) => {
                let detail = format!(
                    "the shard answered {status}, and no other may be asked now: try again later"
                );
                Self::new(502, "bad-answer", "URX", detail).outcome(Unknown)
            }
            Failure::HeadTimeout => {
                let detail = "the shard did not answer in time";
                Self::new(504, "shard-timeout", "UT", detail).outcome(Unknown)
            }
            Failure::RequestTimeout => {
                let detail = "the request took longer than this pool allows";
                Self::new(504, "request-deadline", "DT", detail).outcome(Unknown)
            }
            Failure::Body(error) => Self::of_body(error)?.outcome(Unknown),
            Failure::Kept(failure) => return Self::of_kept(failure),
            Failure::ClientGone | Failure::AnswerBroke => return None,
        };
        Some(if is_write { problem } else { Self { outcome: None, ..problem } })
    }

    /// What is wrong with a body; `None` when the client is gone.
    fn of_body(error: &BodyError) -> Option<Self> {
        Some(match error {
            BodyError::Gone => return None,
            BodyError::TooSlow => {
                Self::new(408, "body-too-slow", "SI", "the body came too slowly: send it again")
            }
            BodyError::TooLarge => Self::body_too_large(),
            BodyError::Malformed(ChunkError::TrailersTooLarge) => {
                Self::new(431, "trailers-too-large", "DPE", "send fewer or shorter trailers")
            }
            BodyError::Malformed(error) => Self::malformed(error),
        })
    }

    /// The body of the answer.
    #[must_use]
    pub fn json(&self, about: &ProblemAbout<'_>) -> Vec<u8> {
        #[derive(Serialize)]
        struct Document<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            pool: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            shard: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            epoch: Option<u64>,
            request_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            outcome: Option<Outcome>,
        }
        let document = Document {
            r#type: format!("urn:ringway:problem:{}", self.kind),
            title: reason_phrase(self.status),
            status: self.status,
            detail: &self.detail,
            pool: about.pool,
            shard: about.shard,
            epoch: about.epoch,
            request_id: about.request_id,
            outcome: self.outcome,
        };
        let mut json = serde_json::to_vec(&document).expect("texts and numbers are always JSON");
        json.push(b'\n');
        json
    }
}

/// What a problem says of the request beside what is wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProblemAbout<'a> {
    /// The pool that the route names.
    pub pool: Option<&'a str>,
    /// The shard asked last.
    pub shard: Option<&'a str>,
    /// The pool's epoch.
    pub epoch: Option<u64>,
    /// The request's id.
    pub request_id: &'a str,
}

/// The reason phrase of a status that Ringway itself answers.
#[must_use]
pub fn reason_phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()).unwrap_or("")
}
