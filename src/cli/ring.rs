//! What may be typed after `ringway ring`?

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Output, RunningNode};
use crate::app::client::Client;
use crate::app::error::AppError;
use crate::app::ring::{self, Edit, ShardPlace, Staging};
use crate::cluster::{AdminState, ShardSpec};
use crate::ids::{BaseUrl, KetamaName, PoolName, Weight, Zone};

/// What `ringway ring` does.
#[derive(Debug, Subcommand)]
pub enum RingCommand {
    /// Show pools and shards as agreed, and what is staged.
    Show {
        /// Only this pool.
        #[arg(long, value_name = "POOL", value_parser = PoolName::new)]
        pool: Option<PoolName>,
        #[command(flatten)]
        node: RunningNode,
        #[command(flatten)]
        output: Output,
    },
    /// Stage a further shard.
    Add {
        /// The shard's id: it decides what the shard owns, and stays when the shard moves.
        #[arg(value_name = "[POOL/]SHARD")]
        shard: ShardPlace,
        /// Where it is, as `http://HOST[:PORT][/BASE]`.
        #[arg(value_name = "URL", value_parser = BaseUrl::parse)]
        url: BaseUrl,
        /// Its failure domain.
        #[arg(long, value_name = "ZONE", default_value = "default", value_parser = Zone::new)]
        zone: Zone,
        /// Its share relative to the others: 0 (owns nothing) to 256.
        #[arg(long, value_name = "N", default_value = "1", value_parser = weight)]
        weight: Weight,
        /// With `placement: ketama`: the word after `server` in nginx's file, unless it is
        /// HOST:PORT of the URL.
        #[arg(long, value_name = "NAME", value_parser = KetamaName::new)]
        ketama_name: Option<KetamaName>,
        /// Add it out of service.
        #[arg(long)]
        maint: bool,
        #[command(flatten)]
        staged: Staged,
    },
    /// Stage that shards leave.
    Remove {
        /// Their ids.
        #[arg(value_name = "[POOL/]SHARD", required = true)]
        shards: Vec<ShardPlace>,
        #[command(flatten)]
        staged: Staged,
    },
    /// Stage another weight of a shard.
    Weight {
        /// Its id.
        #[arg(value_name = "[POOL/]SHARD")]
        shard: ShardPlace,
        /// 0 (owns nothing) to 256.
        #[arg(value_name = "N", value_parser = weight)]
        weight: Weight,
        #[command(flatten)]
        staged: Staged,
    },
    /// Stage another zone of a shard.
    Zone {
        /// Its id.
        #[arg(value_name = "[POOL/]SHARD")]
        shard: ShardPlace,
        /// Its failure domain.
        #[arg(value_name = "ZONE", value_parser = Zone::new)]
        zone: Zone,
        #[command(flatten)]
        staged: Staged,
    },
    /// Stage another address of a shard, which keeps what it owns.
    Url {
        /// Its id.
        #[arg(value_name = "[POOL/]SHARD")]
        shard: ShardPlace,
        /// Where it is, as `http://HOST[:PORT][/BASE]`.
        #[arg(value_name = "URL", value_parser = BaseUrl::parse)]
        url: BaseUrl,
        #[command(flatten)]
        staged: Staged,
    },
    /// Stage that a shard gets a fresh store, since its own is lost for good; repair fills it.
    Replace {
        /// Its id.
        #[arg(value_name = "[POOL/]SHARD")]
        shard: ShardPlace,
        /// Where the fresh store is, if elsewhere.
        #[arg(value_name = "URL", value_parser = BaseUrl::parse)]
        url: Option<BaseUrl>,
        /// Though the pool keeps one copy of each object, so that those of this shard are lost.
        #[arg(long)]
        lose_objects: bool,
        #[command(flatten)]
        staged: Staged,
    },
    /// Stage that a pool goes, with all that it keeps.
    DropPool {
        /// The pool.
        #[arg(value_name = "POOL", value_parser = PoolName::new)]
        name: PoolName,
        #[command(flatten)]
        staged: StagedFile,
    },
    /// Take shards out of service, at once; they keep what they own.
    Maint(Service),
    /// Put shards back into service, at once.
    Ready(Service),
    /// Stage what a file's pools and shards differ in from what is agreed.
    Stage {
        /// The configuration.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        #[command(flatten)]
        staged: StagedFile,
    },
    /// Show what applying the staged changes would do, and the plan's id.
    Plan {
        #[command(flatten)]
        node: RunningNode,
        #[command(flatten)]
        output: Output,
    },
    /// Do what a plan showed, and nothing else.
    Apply {
        /// The plan's id.
        #[arg(value_name = "PLAN")]
        plan: String,
        #[command(flatten)]
        node: RunningNode,
        #[command(flatten)]
        output: Output,
    },
    /// Forget all staged changes.
    Unstage {
        #[command(flatten)]
        node: RunningNode,
        #[command(flatten)]
        output: Output,
    },
    /// Show who changed what, and when.
    History {
        /// How many changes, the newest last.
        #[arg(long, value_name = "N", default_value_t = 20)]
        last: usize,
        #[command(flatten)]
        node: RunningNode,
        #[command(flatten)]
        output: Output,
    },
}

/// What every staged change of a shard may say.
#[derive(Debug, Args)]
pub struct Staged {
    /// The pool; needed only if there are several, and shards are named without.
    #[arg(long, value_name = "POOL", value_parser = PoolName::new)]
    pool: Option<PoolName>,
    #[command(flatten)]
    rest: StagedFile,
}

/// What every staged change may say.
#[derive(Debug, Args)]
pub struct StagedFile {
    /// Do it at once, without staging: shows the plan and applies it.
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    node: RunningNode,
    #[command(flatten)]
    output: Output,
}

/// Shards that go out of service or come back.
#[derive(Debug, Args)]
pub struct Service {
    /// Their ids.
    #[arg(value_name = "[POOL/]SHARD", required = true)]
    shards: Vec<ShardPlace>,
    /// The pool; needed only if there are several, and shards are named without.
    #[arg(long, value_name = "POOL", value_parser = PoolName::new)]
    pool: Option<PoolName>,
    #[command(flatten)]
    node: RunningNode,
    #[command(flatten)]
    output: Output,
}

fn weight(text: &str) -> Result<Weight, String> {
    let number: u64 = text.parse().map_err(|_| format!("`{text}` is no whole number"))?;
    Weight::try_from(number).map_err(|error| error.to_string())
}

impl StagedFile {
    fn client(&self) -> Result<(Client, Staging), AppError> {
        let staging = Staging { now: self.now, json: self.output.json };
        Ok((self.node.client()?, staging))
    }
}

/// Stages the same edit of each shard.
fn stage(
    staged: &Staged,
    shards: Vec<ShardPlace>,
    edit: impl Fn() -> Edit,
) -> Result<(), AppError> {
    let (client, staging) = staged.rest.client()?;
    let edits = shards.into_iter().map(|shard| (shard, edit())).collect();
    ring::stage(&client, staged.pool.as_ref(), edits, staging)
}

fn serve(service: Service, ready: bool) -> Result<(), AppError> {
    let staging = Staging { now: true, json: service.output.json };
    let state = if ready { AdminState::Ready } else { AdminState::Maint };
    let edits = service.shards.into_iter().map(|shard| (shard, Edit::State(state))).collect();
    ring::stage(&service.node.client()?, service.pool.as_ref(), edits, staging)
}

/// Runs what was typed.
///
/// # Errors
/// The node's refusal, or that none answers.
pub fn run(command: RingCommand) -> Result<(), AppError> {
    match command {
        RingCommand::Show { pool, node, output } => {
            ring::show(&node.client()?, pool.as_ref(), output.json)
        }
        RingCommand::Add { shard, url, zone, weight, ketama_name, maint, staged } => {
            let state = if maint { AdminState::Maint } else { AdminState::Ready };
            let spec = ShardSpec { url, zone, weight, state, ketama_name };
            stage(&staged, vec![shard], || Edit::Add(spec.clone()))
        }
        RingCommand::Remove { shards, staged } => stage(&staged, shards, || Edit::Remove),
        RingCommand::Weight { shard, weight, staged } => {
            stage(&staged, vec![shard], || Edit::Weight(weight))
        }
        RingCommand::Zone { shard, zone, staged } => {
            stage(&staged, vec![shard], || Edit::Zone(zone.clone()))
        }
        RingCommand::Url { shard, url, staged } => {
            stage(&staged, vec![shard], || Edit::Url(url.clone()))
        }
        RingCommand::Replace { shard, url, lose_objects: lose, staged } => {
            stage(&staged, vec![shard], || Edit::Replace { url: url.clone(), lose })
        }
        RingCommand::DropPool { name, staged } => {
            let (client, staging) = staged.client()?;
            ring::drop_pool(&client, name, staging)
        }
        RingCommand::Maint(service) => serve(service, false),
        RingCommand::Ready(service) => serve(service, true),
        RingCommand::Stage { config, staged } => {
            let (client, staging) = staged.client()?;
            ring::stage_file(&client, &config, staging)
        }
        RingCommand::Plan { node, output } => ring::plan(&node.client()?, output.json),
        RingCommand::Apply { plan, node, output } => {
            ring::apply(&node.client()?, &plan, output.json)
        }
        RingCommand::Unstage { node, output } => ring::unstage(&node.client()?, output.json),
        RingCommand::History { last, node, output } => {
            ring::history(&node.client()?, last, output.json)
        }
    }
}
