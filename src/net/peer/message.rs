//! What do nodes say to each other, and for whom is it meant?
//!
//! Three fields travel with every request: `Ringway-Protocol`, the version of what the body
//! means; `Ringway-Cluster` and `Ringway-Generation`, the cluster that the sender belongs to. A
//! node that belongs to none yet, and asks to join one, sends the first alone.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::ids::{ClusterId, Generation};

/// The version of the messages that this release sends.
pub const PROTOCOL: u64 = 1;

/// The versions that this release understands: its own and the one before, of which there is none
/// yet.
const UNDERSTOOD: RangeInclusive<u64> = 1..=PROTOCOL;

const CLUSTER: HeaderName = HeaderName::from_static("ringway-cluster");
const GENERATION: HeaderName = HeaderName::from_static("ringway-generation");
const VERSION: HeaderName = HeaderName::from_static("ringway-protocol");

/// Which cluster a node belongs to, if any: said with each request, and checked against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Introduction {
    /// The cluster and how often it was rebuilt after a loss; none before `init` or `join`.
    pub cluster: Option<(ClusterId, Generation)>,
}

impl Introduction {
    /// Whether a request introduced as `theirs` may be answered by a node that is introduced as
    /// `self`.
    ///
    /// # Errors
    /// The answer to give instead: 421, which says what is wrong and what to do.
    pub fn admit(&self, theirs: &Self) -> Result<(), PeerAnswer> {
        let refuse = |sentence: String| Err(PeerAnswer::misdirected(&sentence));
        let ((ours, our_generation), (theirs, their_generation)) =
            match (self.cluster, theirs.cluster) {
                (Some(ours), Some(theirs)) => (ours, theirs),
                (None, _) => {
                    return refuse(
                        "This node belongs to no cluster yet: have it join, or address another one."
                            .to_owned(),
                    );
                }
                // Which cluster this is, is told only to whoever knows it.
                (Some(_), None) => {
                    return refuse(
                        "This node belongs to a cluster, and the request names none: the sender \
                         must join first."
                            .to_owned(),
                    );
                }
            };
        if ours != theirs {
            return refuse(format!(
                "This node belongs to another cluster than {theirs}, for which the request is: the \
                 sender's list of nodes names an address that another cluster uses."
            ));
        }
        if our_generation != their_generation {
            return refuse(format!(
                "Cluster {ours} was rebuilt: this node is of generation {our_generation}, the \
                 sender of generation {their_generation}. Whichever is lower must join again \
                 with an empty data folder."
            ));
        }
        Ok(())
    }

    pub(super) fn write(&self, fields: &mut HeaderMap) {
        let mut put = |name, value: &dyn Display| {
            let value = HeaderValue::try_from(value.to_string());
            fields.insert(name, value.expect("numbers and hexadecimal digits are a value"));
        };
        put(VERSION, &PROTOCOL);
        if let Some((cluster, generation)) = self.cluster {
            put(CLUSTER, &cluster);
            put(GENERATION, &generation);
        }
    }

    /// Reads what [`Self::write`] wrote, perhaps in another release.
    pub(super) fn read(fields: &HeaderMap) -> Result<Self, PeerAnswer> {
        let get = |name| fields.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let number = |name| get(name).and_then(|text| text.parse::<u64>().ok());
        let Some(version) = number(VERSION) else {
            return Err(PeerAnswer::problem(
                400,
                "bad-request",
                "The request says no version of the protocol between nodes: it is not one of a \
                 node's. Clients belong on the data listener, operators on the admin listener.",
            ));
        };
        if !UNDERSTOOD.contains(&version) {
            let (least, most) = (UNDERSTOOD.start(), UNDERSTOOD.end());
            return Err(PeerAnswer::misdirected(&format!(
                "This node understands versions {least} to {most} of the protocol between nodes, \
                 and the request is in version {version}: bring both to releases that are next \
                 to each other."
            )));
        }
        if !fields.contains_key(CLUSTER) {
            return Ok(Self::default());
        }
        let cluster = get(CLUSTER).and_then(|text| text.parse().ok());
        match (cluster, number(GENERATION)) {
            (Some(cluster), Some(generation)) => {
                Ok(Self { cluster: Some((cluster, Generation(generation))) })
            }
            _ => Err(PeerAnswer::problem(
                400,
                "bad-request",
                "The fields Ringway-Cluster and Ringway-Generation are not as a node writes them.",
            )),
        }
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct PeerRequest {
    /// What is asked for, as `/peer/v1/append`.
    pub path: String,
    /// The message, whole.
    pub body: Bytes,
    /// Which cluster the sender belongs to. Not checked yet: see [`Introduction::admit`].
    pub introduction: Introduction,
    /// The common name in the sender's certificate, which `ringway certs` sets to the node's name;
    /// none without TLS.
    pub certificate: Option<Arc<str>>,
    /// Where it came from.
    pub from: SocketAddr,
}

/// An answer, whole. From 400 on the body is a problem document (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The message.
    pub body: Bytes,
}

impl PeerAnswer {
    /// A message that answers what was asked.
    #[must_use]
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self { status: 200, body: body.into() }
    }

    /// A refusal: `kind` for programs, `detail` a sentence that says what to do.
    #[must_use]
    pub fn problem(status: u16, kind: &str, detail: &str) -> Self {
        let document = serde_json::json!({
            "type": format!("urn:ringway:problem:{kind}"),
            "status": status,
            "detail": detail,
        });
        Self { status, body: document.to_string().into() }
    }

    /// Whether this is a refusal of ours of this kind. The status alone may be a stranger's, at an
    /// address that a node had once.
    #[must_use]
    pub fn is_problem(&self, status: u16, kind: &str) -> bool {
        let kind = format!("urn:ringway:problem:{kind}");
        self.status == status
            && serde_json::from_slice::<serde_json::Value>(&self.body)
                .is_ok_and(|document| document["type"] == kind)
    }

    fn misdirected(detail: &str) -> Self {
        Self::problem(421, "misdirected", detail)
    }

    /// The sentence of a refusal; none if this is not one, or not one of ours.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        if self.status < 400 {
            return None;
        }
        let document: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        Some(document.get("detail")?.as_str()?.to_owned())
    }
}
