//! Tells stories about nodes and leaders to `cluster::lease` and writes down who may serve.
//!
//! There is one pool. Every node has a holder, a book and pins, and a clock that shows the story's
//! time.
//!
//! | command | what it does |
//! |---|---|
//! | `cluster NODE…` | begins anew: these nodes, the pool at epoch 1, and nobody leads |
//! | `elect NODE`, `ready NODE`, `depose NODE` | it leads; its first entry is applied; it hears that it does not lead |
//! | `confirm NODE` | a majority confirms a heartbeat that it sends now |
//! | `wait SECONDS` | time passes |
//! | `apply NODE… epoch=N` | nodes apply and publish an epoch |
//! | `renew NODE to=LEADER [ahead=MS] [behind=MS]` | a renewal and its answer, both at once |
//! | `send NODE as=NAME`, `hear LEADER NAME`, `answer NODE NAME` | the same, step by step |
//! | `begin NODE NAME`, `finish NODE NAME` | an operation, under the epoch that the node has applied |
//! | `advance LEADER epoch=N` | may the barrier be proposed? |
//! | `barrier epoch=N` | the proposal is committed, and applied by every book |
//! | `remove NODE`, `restart NODE` | agreed, and applied by every book |
//! | `lease NODE` | how it stands with the node's lease |
//! | `standing LEADER` | how a leader sees the nodes |

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use goldenscript::{ArgumentConsumer, Command, Context};
use ringway::cluster::lease::{
    AgreedPool, Denial, Grant, LeaseBook, LeaseHolder, LeaseSettings, Pin, Pins, Renewal,
};
use ringway::ids::{Digest, Epoch, Incarnation, NodeId, PoolName, Term};

type Outputs = Result<String, Box<dyn Error>>;

/// The wall clock at the beginning of a story.
const WALL_MS: u64 = 1_795_000_000_000;

#[derive(Default)]
pub struct Story {
    now_ms: u64,
    term: Term,
    nodes: BTreeMap<NodeId, Node>,
    members: BTreeMap<NodeId, Incarnation>,
    epoch: Epoch,
    barrier: Epoch,
    renewals: BTreeMap<String, Renewal>,
    answers: BTreeMap<String, Result<Grant, Denial>>,
}

struct Node {
    holder: LeaseHolder,
    book: LeaseBook,
    pins: Pins,
    applied: Epoch,
    operations: BTreeMap<String, Pin>,
}

impl Node {
    fn start(id: NodeId, incarnation: Incarnation, applied: Epoch) -> Self {
        let settings = LeaseSettings::default();
        Self {
            holder: LeaseHolder::new(settings, id, incarnation),
            book: LeaseBook::new(settings),
            pins: Pins::new(settings.op_pin_max_ms),
            applied,
            operations: BTreeMap::new(),
        }
    }
}

impl goldenscript::Runner for Story {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Outputs {
        let mut args = command.consume_args();
        let output = match command.name.as_str() {
            "cluster" => self.cluster(&mut args)?,
            "elect" => self.elect(&mut args)?,
            "ready" => self.ready(&mut args)?,
            "depose" => self.depose(&mut args)?,
            "confirm" => self.confirm(&mut args)?,
            "wait" => self.wait(&mut args)?,
            "apply" => self.apply(&mut args)?,
            "renew" => self.renew(&mut args)?,
            "send" => self.send(&mut args)?,
            "hear" => self.hear(&mut args)?,
            "answer" => self.answer(&mut args)?,
            "begin" => self.begin(&mut args)?,
            "finish" => self.finish(&mut args)?,
            "advance" => self.advance(&mut args)?,
            "barrier" => self.barrier(&mut args)?,
            "remove" => self.remove(&mut args)?,
            "restart" => self.restart(&mut args)?,
            "lease" => self.lease(&mut args)?,
            "standing" => self.standing(&mut args)?,
            other => return Err(format!("no command `{other}`").into()),
        };
        args.reject_next()?;
        Ok(output)
    }
}

impl Story {
    fn cluster(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        *self = Self { now_ms: 100_000, epoch: Epoch(1), ..Self::default() };
        while let Some(name) = args.next_pos() {
            let id = node_id(name)?;
            self.members.insert(id, Incarnation(1));
            self.nodes.insert(id, Node::start(id, Incarnation(1), Epoch(1)));
        }
        self.tell_books();
        Ok(String::new())
    }

    fn tell_books(&mut self) {
        let pool = AgreedPool { epoch: self.epoch, digest: Some(digest()), barrier: self.barrier };
        for node in self.nodes.values_mut() {
            node.book.members(self.now_ms, &self.members);
            node.book.agreed(BTreeMap::from([(pool_name(), pool)]));
        }
    }

    fn node(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<&mut Node, Box<dyn Error>> {
        let name = args.next_pos().ok_or("which node?")?;
        Ok(self.nodes.get_mut(&node_id(name)?).ok_or("no such node")?)
    }

    fn elect(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        self.term = self.term.next();
        let (term, now_ms) = (self.term, self.now_ms);
        self.node(args)?.book.elected(term, now_ms);
        self.tell_books();
        Ok(format!("{} leads in term {term}\n", self.time()))
    }

    fn ready(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let term = self.term;
        self.node(args)?.book.first_entry_applied(term);
        Ok(String::new())
    }

    fn depose(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        self.node(args)?.book.deposed();
        Ok(String::new())
    }

    fn confirm(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let (term, now_ms) = (self.term, self.now_ms);
        self.node(args)?.book.quorum_confirmed(term, now_ms);
        Ok(String::new())
    }

    fn wait(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        self.now_ms += millis(args.next_pos().ok_or("how long?")?)?;
        Ok(String::new())
    }

    fn apply(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let epoch = Epoch(args.take_key("epoch").ok_or("which epoch?")?.parse()?);
        self.epoch = self.epoch.max(epoch);
        self.tell_books();
        while let Some(name) = args.next_pos() {
            self.nodes.get_mut(&node_id(name)?).ok_or("no such node")?.applied = epoch;
        }
        Ok(String::new())
    }

    fn renew(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let to = node_id(args.take_key("to").ok_or("to whom?")?)?;
        let ahead_ms: i64 = args.take_key("ahead").map_or(Ok(0), str::parse)?;
        let behind_ms: i64 = args.take_key("behind").map_or(Ok(0), str::parse)?;
        let name = args.next_pos().ok_or("which node?")?;
        let renewal = self.renewal(node_id(name)?, ahead_ms - behind_ms)?;
        let now_ms = self.now_ms;
        let leader = self.nodes.get_mut(&to).ok_or("no such leader")?;
        let answer = leader.book.renewal(now_ms, &renewal);
        self.take(node_id(name)?, &answer)?;
        Ok(format!("{} {name} reports {}: {}\n", self.time(), told(&renewal), outcome(&answer)))
    }

    fn renewal(&mut self, id: NodeId, off_by_ms: i64) -> Result<Renewal, Box<dyn Error>> {
        let now_ms = self.now_ms;
        let node = self.nodes.get_mut(&id).ok_or("no such node")?;
        let applied = BTreeMap::from([(pool_name(), node.applied)]);
        let epochs = node.pins.report(now_ms, &applied);
        let wall_ms = (WALL_MS + now_ms).saturating_add_signed(off_by_ms);
        Ok(node.holder.renew(now_ms, wall_ms, epochs, BTreeMap::new()))
    }

    fn take(&mut self, id: NodeId, answer: &Result<Grant, Denial>) -> Result<(), Box<dyn Error>> {
        let now_ms = self.now_ms;
        let holder = &mut self.nodes.get_mut(&id).ok_or("no such node")?.holder;
        match answer {
            Ok(grant) => {
                holder.granted(now_ms, grant);
            }
            Err(denial) => holder.denied(now_ms, denial),
        }
        Ok(())
    }

    fn send(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let name = args.take_key("as").ok_or("as what?")?.to_owned();
        let node = args.next_pos().ok_or("which node?")?;
        let renewal = self.renewal(node_id(node)?, 0)?;
        let output = format!("{} {node} reports {}\n", self.time(), told(&renewal));
        self.renewals.insert(name, renewal);
        Ok(output)
    }

    fn hear(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let leader = node_id(args.next_pos().ok_or("which leader?")?)?;
        let name = args.next_pos().ok_or("which renewal?")?.to_owned();
        let renewal = self.renewals.get(&name).ok_or("no such renewal")?;
        let book = &mut self.nodes.get_mut(&leader).ok_or("no such leader")?.book;
        let answer = book.renewal(self.now_ms, renewal);
        let output = format!("{} {}\n", self.time(), outcome(&answer));
        self.answers.insert(name, answer);
        Ok(output)
    }

    fn answer(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let node = node_id(args.next_pos().ok_or("which node?")?)?;
        let name = args.next_pos().ok_or("which answer?")?;
        let answer = self.answers.get(name).ok_or("no such answer")?.clone();
        self.take(node, &answer)?;
        Ok(self.told_lease(node))
    }

    fn begin(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let (now_ms, time) = (self.now_ms, self.time());
        let node = self.node(args)?;
        let name = args.next_pos().ok_or("which operation?")?;
        let epoch = node.applied;
        if let Err(why) = node.holder.check(now_ms, &pool_name(), epoch) {
            return Ok(format!("{time} {name} is refused: {why}\n"));
        }
        let pin = node.pins.pin(now_ms, &pool_name(), epoch)?;
        node.operations.insert(name.to_owned(), pin);
        Ok(format!("{time} {name} begins under epoch {epoch}\n"))
    }

    fn finish(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let (now_ms, time) = (self.now_ms, self.time());
        let node = self.node(args)?;
        let name = args.next_pos().ok_or("which operation?")?;
        let pin = node.operations.remove(name).ok_or("no such operation")?;
        let (is_live, epoch) = (pin.is_live(now_ms), pin.epoch());
        node.pins.release(pin);
        Ok(match node.holder.check(now_ms, &pool_name(), epoch) {
            Err(why) => format!("{time} {name} is unknown: {why}\n"),
            Ok(()) if !is_live => format!("{time} {name} is unknown: it took too long\n"),
            Ok(()) => format!("{time} {name} is acknowledged under epoch {epoch}\n"),
        })
    }

    fn advance(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let (now_ms, time) = (self.now_ms, self.time());
        let epoch = Epoch(args.take_key("epoch").ok_or("to which epoch?")?.parse()?);
        let answer = self.node(args)?.book.advance(now_ms, &pool_name(), epoch);
        Ok(match answer {
            Ok(term) => format!("{time} barrier {epoch} may be proposed in term {term}\n"),
            Err(ringway::cluster::lease::Unsettled::Nodes(nodes)) => {
                let nodes: Vec<String> = nodes.iter().map(|node| format!("n{node}")).collect();
                format!("{time} not yet: waits for {}\n", nodes.join(", "))
            }
            Err(why) => format!("{time} not yet: {why}\n"),
        })
    }

    fn barrier(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        self.barrier = Epoch(args.take_key("epoch").ok_or("at which epoch?")?.parse()?);
        self.tell_books();
        Ok(format!("{} barrier {} has passed\n", self.time(), self.barrier))
    }

    fn remove(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        self.members.remove(&node_id(args.next_pos().ok_or("which node?")?)?);
        self.tell_books();
        Ok(String::new())
    }

    fn restart(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let name = args.next_pos().ok_or("which node?")?;
        let id = node_id(name)?;
        let incarnation = self.members.get(&id).ok_or("no such node")?.next();
        self.members.insert(id, incarnation);
        let applied = self.nodes.get(&id).ok_or("no such node")?.applied;
        self.nodes.insert(id, Node::start(id, incarnation, applied));
        self.tell_books();
        Ok(format!("{} {name} begins incarnation {incarnation}\n", self.time()))
    }

    fn lease(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let node = node_id(args.next_pos().ok_or("which node?")?)?;
        Ok(self.told_lease(node))
    }

    fn told_lease(&self, id: NodeId) -> String {
        let Some(Node { holder, .. }) = self.nodes.get(&id) else { return String::new() };
        let left = holder.remaining_ms(self.now_ms);
        let reads = if holder.reads_at_one(self.now_ms) { "yes" } else { "no" };
        let lease = match holder.until_ms() {
            None => "no lease yet".to_owned(),
            Some(_) if left > 0 => format!("a lease for {}", seconds(left)),
            Some(until_ms) => format!("none since {}", seconds(until_ms - 100_000)),
        };
        format!("{} n{id} has {lease}; reads at one: {reads}\n", self.time())
    }

    fn standing(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let now_ms = self.now_ms;
        let mut output = String::new();
        for (id, node) in self.node(args)?.book.standing(now_ms) {
            let told =
                node.epochs.values().next().map_or("nothing".to_owned(), ToString::to_string);
            let holds = seconds(node.holds_for_ms);
            let _ = write!(output, "n{id}: reported {told}, may hold a lease for {holds}");
            if let Some(denial) = node.denial {
                let _ = write!(output, ", denied: {denial}");
            }
            output.push('\n');
        }
        Ok(output)
    }

    /// Stories begin at 0.
    fn time(&self) -> String {
        seconds(self.now_ms - 100_000)
    }
}

fn outcome(answer: &Result<Grant, Denial>) -> String {
    match answer {
        Ok(grant) => format!("granted for {}", seconds(grant.duration_ms)),
        Err(denial) => format!("denied: {denial}"),
    }
}

fn told(renewal: &Renewal) -> String {
    let epoch = renewal.epochs.get(&pool_name()).copied().unwrap_or_default();
    format!("epoch {epoch}")
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}s", ms / 1000, ms % 1000)
}

/// Reads seconds with at most three decimals.
fn millis(text: &str) -> Result<u64, Box<dyn Error>> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let part: u64 = format!("{part:0<3}").parse()?;
    Ok(whole.parse::<u64>()? * 1000 + part)
}

fn node_id(name: &str) -> Result<NodeId, Box<dyn Error>> {
    Ok(NodeId(name.strip_prefix('n').ok_or("a node is n1, n2 …")?.parse()?))
}

fn pool_name() -> PoolName {
    PoolName::new("objects").expect("a plain name")
}

fn digest() -> Digest {
    Digest([7; 32])
}
