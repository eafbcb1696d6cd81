//! Who may say what to this node?
//!
//! Before a body is read: is the message for this cluster, and how long may it be
//! ([`Group::admission`])? A stranger makes nobody read megabytes.
//!
//! Afterwards: is the sender who it says it is ([`Group::vouch`])? With TLS, the name in its
//! certificate must be the one that the cluster knows the node by for which the message speaks: a
//! certificate of the cluster, once lent or left behind, is then good for one node and not for all.
//! Of a node that the agreed state does not know nothing can be said: a member that is far behind
//! hears first from nodes that joined meanwhile.
//!
//! Without TLS, which is for nodes of one machine, nothing proves who speaks: every process that
//! reaches the listener is trusted as a node. So such a listener is on loopback only.

use serde::Deserialize;

use super::part::Group;
use super::wire::{self, Join};
use crate::cluster::{Command, Envelope};
use crate::ids::{NodeId, NodeName};
use crate::net::peer::{BODY_BYTES_MAX, Introduction, PeerAnswer, PeerRequest};

/// The longest message but for entries and snapshots. Operators send a mebibyte at most, and a
/// command grows a little on its way.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// The longest that somebody may send who belongs to no cluster: a name, an address, a number.
const JOIN_BYTES_MAX: usize = 16 << 10;

/// Who speaks, of any of Raft's messages.
#[derive(Deserialize)]
struct Speaks {
    from: NodeId,
}

impl Group {
    /// Whether a message so introduced may be read, and how many bytes of it.
    ///
    /// # Errors
    /// The answer to give instead.
    pub fn admission(&self, path: &str, introduction: &Introduction) -> Result<usize, PeerAnswer> {
        // Who wants to join belongs to no cluster; all others must belong to this one.
        if path == wire::JOIN && introduction.cluster.is_none() {
            return Ok(JOIN_BYTES_MAX);
        }
        let cluster = self.member().map(|member| (member.cluster, member.generation));
        Introduction { cluster }.admit(introduction)?;
        Ok(match path {
            wire::APPEND | wire::SNAPSHOT => BODY_BYTES_MAX,
            _ => MESSAGE_BYTES_MAX,
        })
    }

    /// Whether a certificate of this name may speak for `node`.
    ///
    /// # Errors
    /// The answer to give instead.
    pub fn vouch(&self, certificate: Option<&str>, node: NodeId) -> Result<(), PeerAnswer> {
        let state = self.state();
        let known = state.nodes().get(&node).map(|node| &node.name);
        match (certificate, known) {
            (Some(certificate), Some(name)) => matches_name(certificate, name),
            _ => Ok(()),
        }
    }

    /// Whether the sender of a message is the one for whom it speaks.
    pub(super) fn vouch_for(&self, request: &PeerRequest) -> Result<(), PeerAnswer> {
        let certificate = request.certificate.as_deref();
        let body = &request.body;
        match request.path.as_str() {
            wire::PROPOSE => {
                let Envelope { id, command, .. } = wire::decode(body)?;
                match (id.map(|id| id.node), command) {
                    (Some(node), _) | (None, Command::BeginIncarnation { node, .. }) => {
                        self.vouch(certificate, node)
                    }
                    (None, Command::Found { .. } | Command::AddNode { .. }) => Ok(()),
                    // Applied as often as it is in the log, and by nobody's account.
                    (None, _) => Err(PeerAnswer::problem(
                        400,
                        "bad-message",
                        "A command without an id would not be applied once.",
                    )),
                }
            }
            _ if certificate.is_none() => Ok(()),
            wire::JOIN => {
                let Join { name, .. } = wire::decode(body)?;
                certificate.map_or(Ok(()), |certificate| matches_name(certificate, &name))
            }
            wire::APPEND | wire::VOTE | wire::PRE_VOTE | wire::TRANSFER => {
                let Speaks { from } = wire::decode(body)?;
                self.vouch(certificate, from)
            }
            wire::SNAPSHOT => {
                let end = memchr::memchr(b'\n', body).unwrap_or(body.len());
                let Speaks { from } = wire::decode(&body[..end])?;
                self.vouch(certificate, from)
            }
            _ => Ok(()),
        }
    }
}

fn matches_name(certificate: &str, name: &NodeName) -> Result<(), PeerAnswer> {
    if certificate == name.as_str() {
        return Ok(());
    }
    let detail = format!(
        "The sender's certificate is that of `{certificate}`, and it speaks for node `{name}`: \
         give each node the certificate that `ringway certs` made for its `node.name`."
    );
    Err(PeerAnswer::problem(403, "impostor", &detail))
}
