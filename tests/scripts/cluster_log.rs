//! What only a cluster has: a log, in which each entry has an index and perhaps an id, nodes that
//! come and go, changes that are staged, shown and made, and what was agreed on at an earlier epoch.

use std::collections::BTreeSet;

use goldenscript::{ArgumentConsumer, Command as Line};
use ringway::cluster::{
    Actor, AdminState, Change, ClusterState, Command, Envelope, FEATURE_LEVEL, Plan, Role,
    Settings, Verdict, voters,
};
use ringway::ids::{
    BaseUrl, ClusterId, CommandId, Epoch, FeatureLevel, Incarnation, NodeId, NodeName, Nonce,
    PeerAddress, PlanId, PoolName, Revision, ShardId, Term, Weight, Zone,
};
use ringway::ring::ShardIx;

use crate::cluster::{
    Outcome, Runner, default_spec, pool_name, pool_spec, shards, show_applied, show_report,
};

/// Where the log ends, and which plan was shown last.
#[derive(Default)]
pub struct Log {
    index: u64,
    shown: Option<PlanId>,
}

impl Runner {
    /// Every command that enters the log takes `id=NODE.INCARNATION.SEQUENCE` and `by=ACTOR`.
    pub fn run_in_cluster(&mut self, line: &Line) -> Outcome<String> {
        let mut args = line.consume_args();
        let id = args.take_key("id").map(command_id).transpose()?;
        let by = args.take_key("by").map(str::to_owned);
        let command = match line.name.as_str() {
            // voters [NODE...]: who shall vote if these do now.
            "voters" => return self.voters(&mut args),
            // staged: the plan of what is staged; `make` without an id makes it.
            "staged" => {
                args.reject_next()?;
                let plan = self.state.plan()?;
                self.log.shown = Some(plan.id);
                return Ok(show_plan(&plan));
            }
            // preview CHANGE: the plan of a change that is not staged.
            "preview" => return Ok(show_plan(&self.state.plan_of(&changes(&mut args)?)?)),
            // history
            "history" => return Ok(show_history(&self.state)),
            // cluster: all but the pools.
            "cluster" => return Ok(show_cluster(&self.state)),
            // locate POOL KEY [epoch=N]
            "locate" => return self.locate(&mut args),
            // anew NODE: what `cluster recover` does.
            "anew" => {
                let node = NodeId(number(&mut args)?);
                self.state.begin_anew(node, Actor::new("admin@survivor")?, 0)?;
                return Ok(String::new());
            }
            name => command(name, &mut args, self.log.shown)?,
        };
        args.reject_next()?;
        self.enter(command, id, by.as_deref())
    }

    /// Appends to the log, and applies.
    pub fn log(&mut self, command: Command, id: Option<CommandId>) -> Outcome<String> {
        self.enter(command, id, None)
    }

    fn enter(
        &mut self,
        command: Command,
        id: Option<CommandId>,
        by: Option<&str>,
    ) -> Outcome<String> {
        let actor = Actor::new(by.unwrap_or("admin@n1"))?;
        self.log.index = self.log.index.max(self.state.revision().0) + 1;
        let at_ms = 1000 * self.log.index;
        // As it is read from the log; the leader has planned the tables of balanced pools.
        let command = self.state.planned(command);
        let entry = Envelope { id, actor, at_ms, command }.encode();
        let entry = Envelope::decode(&entry)?;
        Ok(show_applied(&self.state.apply(Revision(self.log.index), &entry)?))
    }

    fn voters(&self, args: &mut ArgumentConsumer<'_>) -> Outcome<String> {
        let mut current = BTreeSet::new();
        while let Some(node) = args.next_pos() {
            current.insert(NodeId(node.parse()?));
        }
        let chosen = voters(self.state.nodes(), &current);
        let chosen: Vec<String> = chosen.iter().map(ToString::to_string).collect();
        Ok(format!("{}\n", chosen.join(" ")))
    }

    fn locate(&self, args: &mut ArgumentConsumer<'_>) -> Outcome<String> {
        let (pool, key) = (pool_name(args)?, args.next_pos().ok_or("which key?")?.to_owned());
        let present = self.state.pools().get(&pool).map_or(Epoch(0), |pool| pool.epoch);
        let epoch = args.take_key("epoch").map(str::parse).transpose()?.map_or(present, Epoch);
        let ring = self.state.ring_at(&pool, epoch)?;
        let owner: ShardIx = ring.replicas(ring.token(key.as_bytes()))[0];
        Ok(format!("epoch {epoch}: {}\n", ring.member(owner).id))
    }
}

/// The command that a line gives.
fn command(name: &str, args: &mut ArgumentConsumer<'_>, shown: Option<PlanId>) -> Outcome<Command> {
    Ok(match name {
        // found NAME [cluster=N] [lease_ms=N]
        "found" => Command::Found {
            cluster: ClusterId([args.take_key("cluster").unwrap_or("7").parse()?; 16]),
            node: NodeName::new(&word(args)?)?,
            address: PeerAddress::parse("n1:7000")?,
            settings: settings(args)?,
        },
        // join NAME [nonce=N] [role=ROLE]: at NAME:7000.
        "join" => {
            let name = word(args)?;
            Command::AddNode {
                address: PeerAddress::parse(&format!("{name}:7000"))?,
                name: NodeName::new(&name)?,
                role: args.take_key("role").map(role).transpose()?.unwrap_or(Role::Voter),
                nonce: Nonce([args.take_key("nonce").unwrap_or("1").parse()?; 16]),
            }
        }
        // begin NODE HOST [after=N] [level=N]: at HOST:7000.
        "begin" => Command::BeginIncarnation {
            node: NodeId(number(args)?),
            address: PeerAddress::parse(&format!("{}:7000", word(args)?))?,
            after: Incarnation(args.take_key("after").unwrap_or("0").parse()?),
            version: "0.1.0".to_owned(),
            feature_level: match args.take_key("level") {
                Some(level) => FeatureLevel(level.parse()?),
                None => FEATURE_LEVEL,
            },
        },
        // node NODE [name=NAME] [host=HOST] [role=ROLE]
        "node" => Command::SetNode {
            node: NodeId(number(args)?),
            name: args.take_key("name").map(NodeName::new).transpose()?,
            address: args
                .take_key("host")
                .map(|host| PeerAddress::parse(&format!("{host}:7000")))
                .transpose()?,
            role: args.take_key("role").map(role).transpose()?,
        },
        // leave NODE
        "leave" => Command::RemoveNode { node: NodeId(number(args)?) },
        // verdict POOL SHARD up|down|reads|writes
        "verdict" => {
            let (pool, shard) = (pool_name(args)?, ShardId::new(&word(args)?)?);
            let verdict = match word(args)?.as_str() {
                "up" => Verdict::CLEAR,
                "down" => Verdict { reads_down: true, writes_down: true, foreign: false },
                "reads" => Verdict { reads_down: true, writes_down: false, foreign: false },
                "writes" => Verdict { reads_down: false, writes_down: true, foreign: false },
                other => return Err(format!("what is `{other}` of a shard?").into()),
            };
            Command::SetVerdicts { term: Term(1), verdicts: vec![(pool, shard, verdict)] }
        }
        // barrier POOL EPOCH
        "barrier" => {
            let barrier = (pool_name(args)?, Epoch(number(args)?));
            Command::RaiseBarriers { term: Term(1), barriers: vec![barrier] }
        }
        // settings [lease_ms=N]
        "settings" => Command::SetSettings { settings: settings(args)? },
        // level N
        "level" => Command::RaiseFeatureLevel { level: FeatureLevel(number(args)?) },
        // stage CHANGE, now CHANGE
        "stage" => Command::Stage { changes: changes(args)? },
        "now" => Command::ChangeNow { changes: changes(args)? },
        // unstage
        "unstage" => Command::Unstage,
        // make [PLAN]
        "make" => {
            let named = args.next_pos().map(str::parse).transpose()?;
            Command::ApplyPlan { plan: named.or(shown).ok_or("no plan was shown")? }
        }
        other => return Err(format!("no command `{other}`").into()),
    })
}

/// `add POOL SHARD...`, `remove POOL ID...`, `weight|zone|url|state POOL ID VALUE`, `create` and
/// `set` as outside of a cluster, `drop POOL`, `replace POOL ID [HOST]`, `replace-lost POOL ID` with what it
/// alone has, `discard POOL` (with what it keeps).
fn changes(args: &mut ArgumentConsumer<'_>) -> Outcome<Vec<Change>> {
    let kind = word(args)?;
    let pool = pool_name(args)?;
    let at = |args: &mut ArgumentConsumer<'_>| -> Outcome<(PoolName, ShardId, String)> {
        Ok((pool.clone(), ShardId::new(&word(args)?)?, word(args)?))
    };
    let change = match kind.as_str() {
        "add" => {
            let add = |(shard, spec)| Change::AddShard { pool: pool.clone(), shard, spec };
            return Ok(shards(args)?.into_iter().map(add).collect());
        }
        "remove" => {
            let mut changes = Vec::new();
            while let Some(shard) = args.next_pos() {
                let shard = ShardId::new(shard)?;
                changes.push(Change::RemoveShard { pool: pool.clone(), shard });
            }
            return Ok(changes);
        }
        "weight" => {
            let (pool, shard, units) = at(args)?;
            Change::SetWeight { pool, shard, weight: Weight::try_from(units.parse::<u64>()?)? }
        }
        "zone" => {
            let (pool, shard, zone) = at(args)?;
            Change::SetZone { pool, shard, zone: Zone::new(&zone)? }
        }
        "url" => {
            let (pool, shard, host) = at(args)?;
            Change::SetUrl { pool, shard, url: BaseUrl::parse(&format!("http://{host}"))? }
        }
        "state" => {
            let (pool, shard, state) = at(args)?;
            let state = match state.as_str() {
                "maint" => AdminState::Maint,
                "ready" => AdminState::Ready,
                other => return Err(format!("what is `{other}` of a shard?").into()),
            };
            Change::SetState { pool, shard, state }
        }
        "create" => {
            let spec = pool_spec(args, default_spec(&pool))?;
            Change::CreatePool { spec, shards: shards(args)?, pool }
        }
        "set" => Change::SetPool { spec: pool_spec(args, default_spec(&pool))?, pool },
        "replace" | "replace-lost" => {
            let (shard, lose) = (ShardId::new(&word(args)?)?, kind == "replace-lost");
            let host = args.next_pos().map(|host| BaseUrl::parse(&format!("http://{host}")));
            Change::ReplaceShard { pool, shard, url: host.transpose()?, lose }
        }
        "discard" => Change::DropPool { pool },
        "drop" => Change::RemovePool { pool },
        other => return Err(format!("no change `{other}`").into()),
    };
    Ok(vec![change])
}

fn word(args: &mut ArgumentConsumer<'_>) -> Outcome<String> {
    Ok(args.next_pos().ok_or("something is missing at the end")?.to_owned())
}

fn number(args: &mut ArgumentConsumer<'_>) -> Outcome<u64> {
    Ok(word(args)?.parse()?)
}

fn role(text: &str) -> Outcome<Role> {
    match text {
        "voter" => Ok(Role::Voter),
        "observer" => Ok(Role::Observer),
        other => Err(format!("what is a node that is `{other}`?").into()),
    }
}

fn settings(args: &mut ArgumentConsumer<'_>) -> Outcome<Settings> {
    let mut settings = Settings::default();
    if let Some(lease) = args.take_key("lease_ms") {
        settings.lease_ms = lease.parse()?;
    }
    Ok(settings)
}

fn command_id(text: &str) -> Outcome<CommandId> {
    let mut numbers = text.split('.').map(str::parse::<u64>);
    let mut next = || numbers.next().ok_or("an id is NODE.INCARNATION.SEQUENCE");
    Ok(CommandId { node: NodeId(next()??), incarnation: Incarnation(next()??), sequence: next()?? })
}

fn show_plan(plan: &Plan) -> String {
    let mut output = format!("plan {}\n", plan.id);
    for pool in &plan.report {
        output += &show_report(pool);
        let (before, after) = pool.peak_to_mean;
        output += &format!("  peak to mean {before} -> {after}\n");
        for loss in &pool.zones {
            let worst = match &loss.worst {
                Some((shard, factor)) => format!("{shard} would have {factor} of what it has"),
                None => "nobody is left".to_owned(),
            };
            output += &format!("  without zone {}: {} lost, {worst}\n", loss.zone, loss.share);
        }
    }
    for warning in &plan.warnings {
        output += &format!("! {warning}\n");
    }
    output
}

fn show_history(state: &ClusterState) -> String {
    let mut output = String::new();
    for record in state.history() {
        let (revision, at, actor) = (record.revision, record.at_ms, &record.actor);
        output += &format!("{revision} at {at} ms, {actor}: {}\n", record.summary);
        for pool in &record.epochs {
            output += &format!("    {pool}\n");
        }
    }
    output
}

fn show_cluster(state: &ClusterState) -> String {
    let Some(identity) = state.identity() else { return "no cluster\n".to_owned() };
    let mut output = format!(
        "revision {}, generation {}, level {}, lease {} ms, {} staged\n",
        state.revision(),
        identity.generation,
        state.feature_level(),
        state.settings().lease_ms,
        state.staged().len()
    );
    for (id, node) in state.nodes() {
        let (name, address, role) = (&node.name, &node.address, node.role);
        output +=
            &format!("node {id} {name} at {address}, {role}, incarnation {}\n", node.incarnation);
    }
    for (name, pool) in state.pools() {
        output += &format!("pool {name}: epoch {}, barrier {}\n", pool.epoch, pool.barrier);
        for (shard, Verdict { reads_down, writes_down, foreign: _ }) in &pool.verdicts {
            output += &format!("  {shard}: reads down {reads_down}, writes down {writes_down}\n");
        }
    }
    output
}
