//! What may be typed after `ringway cluster`?

use std::path::PathBuf;

use clap::Subcommand;

use super::{Output, RunningNode};
use crate::app::cluster;
use crate::app::error::AppError;
use crate::ids::PeerAddress;

/// What `ringway cluster` does.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Found a cluster, with this node as its first and with the pools of its file. Once.
    Init {
        #[command(flatten)]
        node: RunningNode,
        #[command(flatten)]
        output: Output,
    },
    /// Have this node join the cluster of another.
    Join {
        /// Peer addresses of nodes that are in it; they are asked in turn.
        #[arg(value_name = "HOST:PORT", required = true, value_parser = PeerAddress::parse)]
        peers: Vec<PeerAddress>,
        /// Never vote: get every topology, hold a lease and report health.
        #[arg(long)]
        observer: bool,
        #[command(flatten)]
        node: RunningNode,
        #[command(flatten)]
        output: Output,
    },
    /// Show the nodes, who leads, and how far each has come.
    Status {
        #[command(flatten)]
        node: RunningNode,
        #[command(flatten)]
        output: Output,
    },
    /// Take a node out for good: it gets no lease any more, and its id is never given again.
    RemoveNode {
        /// Its name or number.
        #[arg(value_name = "NODE")]
        removed: String,
        #[command(flatten)]
        node: RunningNode,
        #[command(flatten)]
        output: Output,
    },
    /// Have another voter lead, as before work on the leader's machine.
    TransferLeader {
        /// Its name or number.
        #[arg(value_name = "NODE")]
        to: String,
        #[command(flatten)]
        node: RunningNode,
        #[command(flatten)]
        output: Output,
    },
    /// Have the node write a snapshot of the agreed state, so that its log can be cut.
    Snapshot {
        #[command(flatten)]
        node: RunningNode,
        #[command(flatten)]
        output: Output,
    },
    /// Write the agreed state to a file that can be kept elsewhere.
    Backup {
        /// The file, which must not exist; standard output if none is named.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        node: RunningNode,
        #[command(flatten)]
        output: Output,
    },
    /// After most voters were lost for good: begin anew from what this stopped node has.
    Recover {
        /// Take what the node in this data_dir has as the truth.
        #[arg(long, required = true)]
        from_survivor: bool,
        /// The survivor's folder.
        #[arg(long, value_name = "DIR", default_value = "./ringway-data")]
        data_dir: PathBuf,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: Output,
    },
}

/// Runs what was typed.
///
/// # Errors
/// The node's refusal, or that none answers.
pub fn run(command: ClusterCommand) -> Result<(), AppError> {
    match command {
        ClusterCommand::Init { node, output } => cluster::init(&node.client()?, output.json),
        ClusterCommand::Join { peers, observer, node, output } => {
            cluster::join(&node.client()?, &peers, observer, output.json)
        }
        ClusterCommand::Status { node, output } => cluster::status(&node.client()?, output.json),
        ClusterCommand::RemoveNode { removed, node, output } => {
            cluster::remove_node(&node.client()?, &removed, output.json)
        }
        ClusterCommand::TransferLeader { to, node, output } => {
            cluster::transfer(&node.client()?, &to, output.json)
        }
        ClusterCommand::Snapshot { node, output } => {
            cluster::snapshot(&node.client()?, output.json)
        }
        ClusterCommand::Backup { out, node, output } => {
            cluster::backup(&node.client()?, out.as_deref(), output.json)
        }
        ClusterCommand::Recover { from_survivor: _, data_dir, yes, output } => {
            cluster::recover(&data_dir, yes, output.json)
        }
    }
}
