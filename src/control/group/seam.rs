//! How does the group reach other nodes?
//!
//! By [`Call`]: over the peer transport in a node, and by memory in tests, which lose messages and
//! answers as they like.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::ids::PeerAddress;
use crate::net::peer::{Introduction, PeerAnswer, PeerClient};

/// An answer that is being waited for.
pub type Calling<'a> = Pin<Box<dyn Future<Output = Result<PeerAnswer, Unanswered>> + Send + 'a>>;

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}")]
pub struct Unanswered {
    /// What happened, for people.
    pub why: String,
    /// Whether the other node has certainly not seen the request.
    pub unsent: bool,
}

/// Asks other nodes.
pub trait Call: Send + Sync + 'static {
    /// Asks the node at `to`. An answer of any status is an answer.
    fn call<'a>(
        &'a self,
        to: &'a PeerAddress,
        path: &'static str,
        body: Bytes,
        within: Duration,
    ) -> Calling<'a>;

    /// The same with connections of its own: what is many or large on one lane does not make
    /// another wait.
    fn lane(&self) -> Arc<dyn Call>;

    /// What requests of all lanes say from now on of who sends them.
    fn introduce(&self, introduction: Introduction);
}

impl Call for PeerClient {
    fn call<'a>(
        &'a self,
        to: &'a PeerAddress,
        path: &'static str,
        body: Bytes,
        within: Duration,
    ) -> Calling<'a> {
        Box::pin(async move {
            Self::call(self, to, path, body, within).await.map_err(|error| Unanswered {
                why: format!("{to}: {error}"),
                unsent: error.is_surely_unsent(),
            })
        })
    }

    fn lane(&self) -> Arc<dyn Call> {
        Arc::new(Self::lane(self))
    }

    fn introduce(&self, introduction: Introduction) {
        Self::introduce(self, introduction);
    }
}
