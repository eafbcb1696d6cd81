//! Speaks to the agreed state: gives it commands one by one, or says what is wanted and lets the
//! plan find the commands. What only a cluster has is in `cluster_log.rs`: once one is founded,
//! every command goes through its log.

use std::error::Error;
use std::fmt::Write as _;

use super::cluster_kept;
use super::cluster_log::Log;
use goldenscript::{ArgumentConsumer, Command as Line, Context};
use ringway::cluster::{
    AdminState, Applied, ClusterState, Command, Desired, DesiredPool, Kind, Mode, Placement,
    PoolReport, PoolSpec, ShardSpec, changes, report,
};
use ringway::ids::{BaseUrl, Epoch, PoolName, ShardId, Weight, Zone};

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// What is agreed, and what is wanted.
#[derive(Default)]
pub struct Runner {
    pub state: ClusterState,
    desired: Desired,
    pub log: Log,
}

impl goldenscript::Runner for Runner {
    type Command = Line;

    fn run(&mut self, line: &Line, _context: &Context) -> Outcome<String> {
        let mut args = line.consume_args();
        match line.name.as_str() {
            // create POOL [seed=TEXT] [vnodes=N] [immutable=BOOL] [replicas=N] SHARD...
            "create" => {
                let pool = pool_name(&mut args)?;
                let spec = pool_spec(&mut args, default_spec(&pool))?;
                let shards = shards(&mut args)?;
                self.apply(&Command::CreatePool { pool, spec, shards })
            }
            // set POOL [seed=TEXT] [vnodes=N] [immutable=BOOL]
            "set" => {
                let pool = pool_name(&mut args)?;
                let present = self.state.pools().get(&pool).map(|pool| pool.spec.clone());
                let spec = pool_spec(&mut args, present.unwrap_or_else(|| default_spec(&pool)))?;
                args.reject_next()?;
                self.apply(&Command::SetPool { pool, spec })
            }
            // drop POOL
            "drop" => {
                let pool = pool_name(&mut args)?;
                args.reject_next()?;
                self.apply(&Command::RemovePool { pool })
            }
            // put POOL SHARD...
            "put" => {
                let pool = pool_name(&mut args)?;
                let put = shards(&mut args)?;
                self.apply(&Command::SetShards { pool, put, remove: vec![] })
            }
            // remove POOL ID...
            "remove" => {
                let pool = pool_name(&mut args)?;
                let mut remove = Vec::new();
                while let Some(id) = args.next_pos() {
                    remove.push(ShardId::new(id)?);
                }
                args.reject_next()?;
                self.apply(&Command::SetShards { pool, put: vec![], remove })
            }
            // want POOL [seed=TEXT] [vnodes=N] [immutable=BOOL] SHARD...
            "want" => {
                let pool = pool_name(&mut args)?;
                let spec = pool_spec(&mut args, default_spec(&pool))?;
                let shards = shards(&mut args)?.into_iter().collect();
                self.desired.insert(pool, DesiredPool { spec, shards });
                Ok(String::new())
            }
            // unwant POOL
            "unwant" => {
                self.desired.remove(&pool_name(&mut args)?);
                args.reject_next()?;
                Ok(String::new())
            }
            // plan: what would lead to what is wanted, and what it would do; changes nothing.
            "plan" => Ok(self.plan()?.0),
            // reach: the same, and does it.
            "reach" => {
                let (output, state) = self.plan()?;
                self.state = state;
                Ok(output)
            }
            // state
            "state" => Ok(show(&self.state)),
            // kept: the pools that keep data, and their stores.
            "kept" => Ok(cluster_kept::show(&self.state)),
            name => match cluster_kept::command(name, &mut args)? {
                Some(command) => {
                    args.reject_next()?;
                    self.apply(&command)
                }
                None => self.run_in_cluster(line),
            },
        }
    }
}

impl Runner {
    fn apply(&mut self, command: &Command) -> Outcome<String> {
        if self.state.identity().is_some() {
            return self.log(command.clone(), None);
        }
        // A leader plans the tables of balanced pools.
        let planned = self.state.planned(command.clone());
        let applied = self.state.apply_command(&planned)?;
        Ok(show_applied(&applied))
    }

    fn plan(&self) -> Outcome<(String, ClusterState)> {
        let mut output = String::new();
        let mut after = self.state.clone();
        for command in changes(&self.state, &self.desired) {
            writeln!(output, "{}", describe(&command))?;
            after.apply_command(&command)?;
        }
        for pool in report(&self.state, &after)? {
            output += &show_report(&pool);
        }
        if output.is_empty() {
            output.push_str("nothing to do\n");
        }
        Ok((output, after))
    }
}

/// What a command did, on one line.
pub fn show_applied(applied: &Applied) -> String {
    let mut output = format!("revision {}", applied.revision);
    for pool in &applied.pools {
        let (before, after) = (epoch(pool.before), epoch(pool.after));
        output += &format!(", {}: epoch {before} -> {after}", pool.pool);
    }
    if let Some(node) = applied.node {
        output += &format!(", node {node}");
    }
    if let Some(incarnation) = applied.incarnation {
        output += &format!(", incarnation {incarnation}");
    }
    if applied.repeated {
        output += ", as before";
    }
    output + "\n"
}

/// What a change does to one pool.
pub fn show_report(pool: &PoolReport) -> String {
    let (from, to) = (epoch(pool.epoch_before), epoch(pool.epoch_after));
    let mut output = format!("{}: epoch {from} -> {to}, moved {}\n", pool.pool, pool.moved);
    for (id, (before, after)) in &pool.shares {
        output += &format!("  {id:<4} {before:>8} -> {after:>8}\n");
    }
    output
}

fn epoch(epoch: Option<Epoch>) -> String {
    epoch.map_or("none".to_owned(), |epoch| epoch.to_string())
}

fn describe(command: &Command) -> String {
    let ids = |ids: &mut dyn Iterator<Item = &ShardId>| {
        ids.map(ShardId::as_str).collect::<Vec<_>>().join(" ")
    };
    match command {
        Command::CreatePool { pool, shards, .. } => {
            format!("create {pool} with {}", ids(&mut shards.iter().map(|(id, _)| id)))
        }
        Command::SetPool { pool, .. } => format!("set {pool}"),
        Command::RemovePool { pool } => format!("drop {pool}"),
        Command::SetShards { pool, put, remove } => {
            let put = ids(&mut put.iter().map(|(id, _)| id));
            format!("change {pool}: put [{put}], remove [{}]", ids(&mut remove.iter()))
        }
        other => format!("{other:?}"),
    }
}

fn show(state: &ClusterState) -> String {
    let mut output = format!("revision {}\n", state.revision());
    for (name, pool) in state.pools() {
        let PoolSpec { hash_seed, vnodes, immutable, .. } = &pool.spec;
        output += &format!(
            "{name}: epoch {}, seed {hash_seed}, vnodes {vnodes}, immutable {immutable}\n",
            pool.epoch
        );
        for (id, ShardSpec { url, zone, weight, state, .. }) in &pool.shards {
            let (weight, state) = (weight.get(), format!("{state:?}").to_lowercase());
            output += &format!("  {id} {url} zone {zone} weight {weight} {state}\n");
        }
    }
    output
}

pub fn pool_name(args: &mut ArgumentConsumer<'_>) -> Outcome<PoolName> {
    Ok(PoolName::new(args.next_pos().ok_or("which pool?")?)?)
}

pub fn default_spec(pool: &PoolName) -> PoolSpec {
    PoolSpec {
        kind: Kind::Cache,
        placement: Placement::Ring,
        hash_seed: pool.to_string(),
        vnodes: 256,
        immutable: false,
        mode: Mode::Any,
        kept: None,
    }
}

pub fn pool_spec(args: &mut ArgumentConsumer<'_>, mut spec: PoolSpec) -> Outcome<PoolSpec> {
    if let Some(seed) = args.take_key("seed") {
        spec.hash_seed = seed.to_owned();
    }
    if let Some(vnodes) = args.take_key("vnodes") {
        spec.vnodes = vnodes.parse()?;
    }
    if let Some(immutable) = args.take_key("immutable") {
        spec.immutable = immutable.parse()?;
    }
    if let Some(replicas) = args.take_key("replicas") {
        spec = cluster_kept::replicated(spec, replicas.parse()?);
    }
    Ok(spec)
}

/// The shards named by the rest of a line, each `ID` or `ID,zone=Z,weight=N,maint,host=H`.
pub fn shards(args: &mut ArgumentConsumer<'_>) -> Outcome<Vec<(ShardId, ShardSpec)>> {
    let mut shards = Vec::new();
    while let Some(text) = args.next_pos() {
        let mut parts = text.split(',');
        let id = ShardId::new(parts.next().unwrap_or_default())?;
        let mut spec = ShardSpec {
            url: BaseUrl::parse(&format!("http://{id}"))?,
            zone: Zone::default(),
            weight: Weight::ONE,
            state: AdminState::Ready,
            ketama_name: None,
        };
        for part in parts {
            match part.split_once('=') {
                Some(("zone", zone)) => spec.zone = Zone::new(zone)?,
                Some(("weight", units)) => spec.weight = Weight::try_from(units.parse::<u64>()?)?,
                Some(("host", host)) => spec.url = BaseUrl::parse(&format!("http://{host}"))?,
                None if part == "maint" => spec.state = AdminState::Maint,
                _ => return Err(format!("what is `{part}` of a shard?").into()),
            }
        }
        shards.push((id, spec));
    }
    args.reject_next()?;
    Ok(shards)
}
