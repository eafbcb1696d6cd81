//! What may be done with the group of nodes itself?
//!
//! Found it, join it, take a node out, hand over, write down what is agreed. Each answer is a
//! sentence: what was done, or why not.

use serde::{Deserialize, Serialize};

use super::api::{Api, Caller};
use super::asked::document;
use super::control::{Seed, refusal};
use super::http::{Problem, Response, json, text};
use crate::cluster::{ClusterState, Role};
use crate::ids::{NodeId, PeerAddress};

/// What was done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Done {
    /// In a sentence.
    pub done: String,
}

/// Peers to join.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinAsked {
    /// Where nodes of the cluster are; they are asked in turn.
    pub peers: Vec<PeerAddress>,
    /// What the node shall be.
    pub role: Role,
}

/// Who shall lead.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferAsked {
    /// A node's name or number.
    pub to: String,
}

fn done(sentence: String) -> Response {
    json(200, &Done { done: sentence })
}

fn not_done(error: &impl std::fmt::Display) -> Problem {
    Problem::new(409, "refused", error.to_string())
}

/// `GET /v1/cluster`.
pub(super) async fn show(api: &Api) -> Result<Response, Problem> {
    api.control.member()?;
    match api.cluster_status().await {
        Some(cluster) => Ok(json(200, &cluster)),
        None => Err(no_cluster()),
    }
}

fn no_cluster() -> Problem {
    let detail = "this node belongs to no cluster yet: `ringway cluster init` on the first node, \
                  `ringway cluster join ADDRESS` on the others";
    Problem::new(409, "no-cluster", detail)
}

/// `POST /v1/cluster/init`.
pub(super) async fn init(api: &Api, caller: &Caller) -> Result<Response, Problem> {
    let member = api.control.member()?;
    let Seed { settings, commands } = (member.seed)();
    let pools = match commands.len() {
        1 => "the pool".to_owned(),
        more => format!("the {more} pools"),
    };
    let id = member
        .group
        .found(&caller.actor, settings, commands)
        .await
        .map_err(|error| not_done(&error))?;
    Ok(done(format!(
        "cluster {id} is founded with this node and {pools} of its file; the others join by \
         `cluster.join` of their files, or by `ringway cluster join` on them"
    )))
}

/// `POST /v1/cluster/join`.
pub(super) async fn join(api: &Api, body: &[u8]) -> Result<Response, Problem> {
    let member = api.control.member()?;
    let JoinAsked { peers, role } = document(body)?;
    let id = member.group.join(&peers, role).await.map_err(|error| not_done(&error))?;
    Ok(done(format!("this node has joined as node {id}")))
}

/// `POST /v1/cluster/nodes/ID/remove`.
pub(super) async fn remove(api: &Api, caller: &Caller) -> Result<Response, Problem> {
    let member = api.control.member()?;
    let state = member.newest().await?;
    let (node, name) = find_node(&state, &caller.id)?;
    member.group.remove_node(&caller.actor, node).await.map_err(|error| refusal(&error))?;
    Ok(done(format!(
        "node {name} ({node}) is removed; stop it, and clear its folder before it joins anew"
    )))
}

/// `POST /v1/cluster/transfer`.
pub(super) async fn transfer(api: &Api, body: &[u8]) -> Result<Response, Problem> {
    let member = api.control.member()?;
    let TransferAsked { to } = document(body)?;
    let state = member.newest().await?;
    let (node, name) = find_node(&state, &to)?;
    member.group.transfer(node).await.map_err(|error| refusal(&error))?;
    Ok(done(format!("node {name} leads")))
}

/// `POST /v1/cluster/snapshot`.
pub(super) async fn snapshot(api: &Api) -> Result<Response, Problem> {
    let member = api.control.member()?;
    let reached = member.group.snapshot().await.map_err(|why| not_done(&why))?;
    Ok(done(format!("a snapshot of all that was agreed up to entry {reached} is written")))
}

/// `GET /v1/cluster/backup`.
pub(super) fn backup(api: &Api) -> Result<Response, Problem> {
    let bytes = api.control.member()?.group.backup().ok_or_else(no_cluster)?;
    Ok(text(200, "application/octet-stream", bytes))
}

/// The node with this number or name. A number is taken for an id first: names may be numbers,
/// and ids are what `status` shows in its first column.
fn find_node(state: &ClusterState, asked: &str) -> Result<(NodeId, String), Problem> {
    let nodes = state.nodes();
    let by_id = asked.parse().ok().map(NodeId).filter(|id| nodes.contains_key(id));
    let by_name = || nodes.iter().find(|(_, node)| node.name.as_str() == asked).map(|(id, _)| *id);
    by_id.or_else(by_name).map(|id| (id, nodes[&id].name.to_string())).ok_or_else(|| {
        let known: Vec<&str> = nodes.values().map(|node| node.name.as_str()).collect();
        let detail = format!("there is no node `{asked}`; there are {}", known.join(", "));
        Problem::new(404, "no-node", detail)
    })
}
