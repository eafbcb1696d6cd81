//! Tells stories about views to `cluster::verdict` and writes down what becomes agreed.
//!
//! There is one pool. What the book decides is agreed at once, unless it is lost.
//!
//! | command | what it does |
//! |---|---|
//! | `holders NODE…` | these nodes hold a lease now |
//! | `shards SHARD…` | begins anew, with these shards, all of them up |
//! | `see NODE… SHARD=up\|down\|full\|foreign\|unprobed\|unknown…` | from now on nodes see shards so; `full` takes no writes; `unprobed` is foreign, and nothing else is known of it |
//! | `wait SECONDS [lost=true]` | time passes, with a look each second; proposals may be lost |
//! | `view` | what is agreed |

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;

use goldenscript::{ArgumentConsumer, Command, Context};
use ringway::cluster::Verdict;
use ringway::cluster::verdict::{Agreed, Seen, VerdictBook, VerdictSettings, Views};
use ringway::ids::{NodeId, PoolName, ShardId};

type Outputs = Result<String, Box<dyn Error>>;

#[derive(Default)]
pub struct Story {
    now_ms: u64,
    book: VerdictBook,
    holders: BTreeSet<NodeId>,
    views: BTreeMap<NodeId, Views>,
    agreed: Agreed,
}

impl goldenscript::Runner for Story {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Outputs {
        let mut args = command.consume_args();
        let output = match command.name.as_str() {
            "shards" => self.shards(&mut args)?,
            "holders" => self.holders(&mut args)?,
            "see" => self.see(&mut args)?,
            "wait" => self.wait(&mut args)?,
            "view" => self.view(),
            other => return Err(format!("no command `{other}`").into()),
        };
        args.reject_next()?;
        Ok(output)
    }
}

impl Story {
    fn shards(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let mut shards = BTreeMap::new();
        while let Some(name) = args.next_pos() {
            shards.insert(ShardId::new(name)?, Verdict::CLEAR);
        }
        let agreed = BTreeMap::from([(pool_name(), shards)]);
        let book = VerdictBook::new(VerdictSettings::default());
        *self = Self { book, agreed, ..Self::default() };
        Ok(String::new())
    }

    fn holders(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        self.holders.clear();
        while let Some(name) = args.next_pos() {
            self.holders.insert(node_id(name)?);
        }
        Ok(String::new())
    }

    fn see(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let mut nodes = Vec::new();
        while let Some(name) = args.next_pos() {
            nodes.push(node_id(name)?);
        }
        let known: Vec<ShardId> = self.agreed.values().flat_map(BTreeMap::keys).cloned().collect();
        for shard in known {
            let Some(how) = args.take_key(shard.as_str()) else { continue };
            let (reads_down, writes_down) = match how {
                "up" | "foreign" => (Some(false), Some(false)),
                "unknown" | "unprobed" => (None, None),
                "down" => (Some(true), Some(true)),
                "full" => (Some(false), Some(true)),
                other => return Err(format!("seen as {other}?").into()),
            };
            for node in &nodes {
                let shards = self.views.entry(*node).or_default().entry(pool_name()).or_default();
                if how == "unknown" {
                    shards.remove(&shard);
                } else {
                    let foreign = matches!(how, "foreign" | "unprobed");
                    shards.insert(shard.clone(), Seen { reads_down, writes_down, foreign });
                }
            }
        }
        Ok(String::new())
    }

    fn wait(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let seconds: u64 = args.next_pos().ok_or("how long?")?.parse()?;
        let is_lost = args.take_key("lost").is_some();
        let mut output = String::new();
        for _ in 0..seconds {
            self.now_ms += 1000;
            for node in &self.holders {
                if let Some(views) = self.views.get(node) {
                    self.book.views(*node, views.clone());
                }
            }
            for (pool, shard, verdict) in self.book.decide(self.now_ms, &self.holders, &self.agreed)
            {
                let lost = if is_lost { " (lost)" } else { "" };
                let seconds = self.now_ms / 1000;
                let _ = writeln!(output, "{seconds}s {shard} is {}{lost}", told(verdict));
                if !is_lost && let Some(shards) = self.agreed.get_mut(&pool) {
                    shards.insert(shard, verdict);
                }
            }
        }
        Ok(output)
    }

    fn view(&self) -> String {
        let mut output = String::new();
        for (shard, verdict) in self.agreed.values().flatten() {
            let _ = writeln!(output, "{shard}: {}", told(*verdict));
        }
        output
    }
}

fn told(verdict: Verdict) -> &'static str {
    match (verdict.reads_down, verdict.writes_down) {
        (false, false) if verdict.foreign => "foreign",
        (false, false) => "up",
        (true, true) => "down",
        (false, true) => "down for writes",
        (true, false) => "down for reads",
    }
}

fn node_id(name: &str) -> Result<NodeId, Box<dyn Error>> {
    Ok(NodeId(name.strip_prefix('n').ok_or("a node is n1, n2 …")?.parse()?))
}

fn pool_name() -> PoolName {
    PoolName::new("objects").expect("a plain name")
}
