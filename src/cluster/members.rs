//! How do nodes come, begin, and go?

use std::sync::Arc;

use super::bounds::{Bound, VERSION_BYTES_MAX};
use super::command::FIRST_LEVEL;
use super::envelope::Actor;
use super::history::Record;
use super::node::{NODES_MAX, NodeState, Role};
use super::refusal::{Applied, Refusal};
use super::session::Session;
use super::settings::Settings;
use super::state::{ClusterState, Identity};
use crate::ids::{
    ClusterId, FeatureLevel, Generation, Incarnation, NodeId, NodeName, Nonce, PeerAddress,
    Revision,
};

/// Removed nodes whose joining is remembered. Copies of one command are never that far apart.
const REMOVED_MAX: usize = 256;

impl ClusterState {
    pub(super) fn found(
        &mut self,
        revision: Revision,
        cluster: ClusterId,
        name: &NodeName,
        address: &PeerAddress,
        settings: &Settings,
    ) -> Result<Applied, Refusal> {
        let (node, incarnation) = (NodeId(1), Incarnation(1));
        let answer =
            Applied { node: Some(node), incarnation: Some(incarnation), ..Applied::default() };
        if let Some(identity) = self.identity {
            return if identity.id == cluster {
                Ok(Applied { repeated: true, ..answer })
            } else {
                Err(Refusal::Founded(identity.id))
            };
        }
        settings.check()?;
        self.identity = Some(Identity { id: cluster, generation: Generation(1) });
        self.feature_level = FIRST_LEVEL;
        self.put_settings(settings);
        self.last_node = node;
        let first = NodeState {
            name: name.clone(),
            address: address.clone(),
            role: Role::Voter,
            incarnation,
            joined: revision,
            version: String::new(),
            // Who founds a cluster speaks at least what it begins with, and says the rest when it
            // starts the next time.
            feature_level: FIRST_LEVEL,
            nonce: Nonce(cluster.0),
        };
        self.nodes.insert(node, first);
        self.sessions.insert(node, Arc::new(Session::new(incarnation)));
        Ok(answer)
    }

    pub(super) fn add_node(
        &mut self,
        revision: Revision,
        name: &NodeName,
        address: &PeerAddress,
        role: Role,
        nonce: Nonce,
    ) -> Result<Applied, Refusal> {
        if self.identity.is_none() {
            return Err(Refusal::NotFounded);
        }
        if let Some((&id, node)) = self.nodes.iter().find(|(_, node)| node.nonce == nonce) {
            // Who asks once more because no answer came has not begun. A node that has begun knows
            // its id, so whoever asks with its nonce has a copy of its folder, or an older one of
            // its own: with an empty log under the same id it would vote a second time in terms in
            // which the node has voted. Before its first start a node is chosen by no `voters`.
            let asks_again = node.incarnation == Incarnation(0)
                && (&node.name, &node.address) == (name, address);
            return if asks_again {
                Ok(Applied { node: Some(id), repeated: true, ..Applied::default() })
            } else {
                Err(Refusal::NonceTaken { by: id, name: node.name.clone() })
            };
        }
        if let Some((&id, _)) = self.removed.iter().find(|(_, removed)| **removed == nonce) {
            return Err(Refusal::NodeRemoved(id));
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(Refusal::TooMuch(Bound::Nodes));
        }
        let id = self.last_node.next();
        self.check_unlike_others(id, name, address)?;
        let node = NodeState {
            name: name.clone(),
            address: address.clone(),
            role,
            incarnation: Incarnation(0),
            joined: revision,
            version: String::new(),
            feature_level: FeatureLevel(0),
            nonce,
        };
        self.last_node = id;
        self.nodes.insert(id, node);
        Ok(Applied { node: Some(id), ..Applied::default() })
    }

    pub(super) fn set_node(
        &mut self,
        id: NodeId,
        name: Option<&NodeName>,
        address: Option<&PeerAddress>,
        role: Option<Role>,
    ) -> Result<Applied, Refusal> {
        let mut node = self.node(id)?.clone();
        node.name = name.unwrap_or(&node.name).clone();
        node.address = address.unwrap_or(&node.address).clone();
        node.role = role.unwrap_or(node.role);
        self.check_unlike_others(id, &node.name, &node.address)?;
        if node.role == Role::Observer {
            self.check_other_voter(id)?;
        }
        self.nodes.insert(id, node);
        Ok(Applied { node: Some(id), ..Applied::default() })
    }

    pub(super) fn remove_node(&mut self, id: NodeId) -> Result<Applied, Refusal> {
        let nonce = self.node(id)?.nonce;
        self.check_other_voter(id)?;
        self.nodes.remove(&id);
        self.sessions.remove(&id);
        self.forget(id, nonce);
        Ok(Applied { node: Some(id), ..Applied::default() })
    }

    /// Remembers of a node only that it was.
    fn forget(&mut self, id: NodeId, nonce: Nonce) {
        self.removed.insert(id, nonce);
        while self.removed.len() > REMOVED_MAX {
            self.removed.pop_first();
        }
    }

    pub(super) fn begin(
        &mut self,
        id: NodeId,
        after: Incarnation,
        address: &PeerAddress,
        version: &str,
        feature_level: FeatureLevel,
    ) -> Result<Applied, Refusal> {
        let node = self.node(id)?;
        if version.len() > VERSION_BYTES_MAX {
            return Err(Refusal::TooMuch(Bound::VersionBytes));
        }
        if !version.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(Refusal::Version);
        }
        if node.incarnation != after {
            return Err(Refusal::IncarnationMoved { node: id, now: node.incarnation });
        }
        if feature_level < self.feature_level {
            let (speaks, level) = (feature_level, self.feature_level);
            return Err(Refusal::LevelTooHigh { node: id, speaks, level });
        }
        self.check_unlike_others(id, &node.name, address)?;
        let incarnation = after.next();
        let node = NodeState {
            incarnation,
            address: address.clone(),
            version: version.to_owned(),
            feature_level,
            ..node.clone()
        };
        self.nodes.insert(id, node);
        self.sessions.insert(id, Arc::new(Session::new(incarnation)));
        Ok(Applied { node: Some(id), incarnation: Some(incarnation), ..Applied::default() })
    }

    /// Begins the cluster anew with `survivor` alone, after a majority of its voters was lost for
    /// good: the next generation, in which every other node is removed. What the lost ones had
    /// agreed on and `survivor` never heard of is gone; therefore this is no command, and nothing
    /// but an operator's word brings it about. Removed nodes come back as new ones.
    ///
    /// # Errors
    /// [`Refusal`] when there is no cluster, or `survivor` is none of its nodes.
    pub fn begin_anew(
        &mut self,
        survivor: NodeId,
        actor: Actor,
        at_ms: u64,
    ) -> Result<(), Refusal> {
        let identity = self.identity.ok_or(Refusal::NotFounded)?;
        let node = self.node(survivor)?.clone();
        let generation = identity.generation.next();
        let lost = self.nodes.len() - 1;
        for (id, node) in std::mem::take(&mut self.nodes) {
            self.forget(id, node.nonce);
        }
        self.removed.remove(&survivor);
        self.sessions.retain(|id, _| *id == survivor);
        self.nodes.insert(survivor, NodeState { role: Role::Voter, ..node });
        self.identity = Some(Identity { generation, ..identity });
        self.revision = self.revision.next();
        let record = Record {
            revision: self.revision,
            at_ms,
            actor,
            summary: format!(
                "begin generation {generation} with node {survivor} alone, without {lost} others"
            ),
            epochs: Vec::new(),
        };
        self.history.add(false, record);
        Ok(())
    }

    fn node(&self, id: NodeId) -> Result<&NodeState, Refusal> {
        self.nodes.get(&id).ok_or(if self.was_removed(id) {
            Refusal::NodeRemoved(id)
        } else {
            Refusal::NoNode(id)
        })
    }

    /// Two nodes at one address would answer for each other, and one majority would be counted from
    /// one node's answers.
    fn check_unlike_others(
        &self,
        id: NodeId,
        name: &NodeName,
        address: &PeerAddress,
    ) -> Result<(), Refusal> {
        for (&by, other) in self.nodes.iter().filter(|(other, _)| **other != id) {
            if other.name == *name {
                return Err(Refusal::NodeNameTaken { name: name.clone(), by });
            }
            if other.address == *address {
                return Err(Refusal::AddressTaken { address: address.clone(), by });
            }
        }
        Ok(())
    }

    fn check_other_voter(&self, id: NodeId) -> Result<(), Refusal> {
        let is_other =
            |(other, node): (&NodeId, &NodeState)| *other != id && node.role == Role::Voter;
        if self.nodes.iter().any(is_other) { Ok(()) } else { Err(Refusal::LastVoter(id)) }
    }
}
