//! Tells stories about one key and its replicas to the machines of `protocol`, and writes down what
//! is said to whom.
//!
//! A replica keeps what `protocol::holding` says. Versions are the milliseconds of their stamps:
//! `@105`. An operation is known by its name; what it sends waits until the story lets it arrive.
//!
//! | command | what it does |
//! |---|---|
//! | `replicas N [up="0,1"] [fresh=2]` | begins anew with so many empty replicas |
//! | `holds R value\|tombstone\|damaged\|watermark MS` | what a replica has |
//! | `clock MS` | the writer's wall clock |
//! | `put NAME LEVEL [held=yes]`, `delete NAME LEVEL`, `read NAME LEVEL` | an operation begins |
//! | `arrive NAME R…` | each takes the next that was sent to it, and its answer comes |
//! | `repeat NAME R…` | its last answer comes once more |
//! | `lose NAME R…` | the next that was sent to it is lost, and not waited for |
//! | `refuse NAME R…` | it surely does nothing |
//! | `restart R` | it forgets what is staged |
//! | `expire` | the writer's lease ends |
//! | `time NAME` | nothing is waited for any longer |
//! | `show` | what the replicas hold |
//! | `replay R MS [down=1]` | a hint is taken up |
//! | `collect now=MS [told="0,1"]` | tombstones older than 100 ms are collected |

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::fmt::Write as _;

use goldenscript::{ArgumentConsumer, Command, Context};
use ringway::ids::{Incarnation, NodeId};
use ringway::level::Level;
use ringway::protocol::hint::{Replay, replay};
use ringway::protocol::holding::{Decision, Effect, Held, decide, may_drop};
use ringway::protocol::quorum::{Replicas, Set};
use ringway::protocol::read::{self, Answer, Read, Record};
use ringway::protocol::tombstone::{Facts, Listed, Slot, collectable, raised};
use ringway::protocol::write::{self, Fault, Kind, Outcome, Write};
use ringway::version::{HybridClock, Proposer, Stamp, Version};

type Outputs = Result<String, Box<dyn Error>>;

#[derive(Default)]
pub struct Story {
    up: Set,
    fresh: Set,
    stores: Vec<Store>,
    now_ms: u64,
    clock: HybridClock,
    has_no_lease: bool,
    operations: BTreeMap<String, Operation>,
}

struct Store {
    held: Held,
    staged: Vec<String>,
}

struct Operation {
    machine: Machine,
    /// What was sent to each replica and has not arrived.
    sent: BTreeMap<usize, VecDeque<Message>>,
    last: BTreeMap<usize, Reply>,
}

enum Machine {
    Write(Box<Write>),
    Read(Box<Read>),
}

#[derive(Clone, Copy)]
enum Message {
    Stage,
    Ask,
    Commit(Version),
    Bring(Record),
    Abort,
}

#[derive(Clone, Copy)]
enum Reply {
    Staged(Version),
    Held(Held),
    Committed(Effect, Version),
    Failed(Message, Fault),
    None,
}

impl goldenscript::Runner for Story {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Outputs {
        let mut args = command.consume_args();
        let output = match command.name.as_str() {
            "replicas" => self.replicas(&mut args)?,
            "holds" => self.holds(&mut args)?,
            "clock" => {
                self.now_ms = args.next_pos().ok_or("what time?")?.parse()?;
                String::new()
            }
            "put" | "delete" | "read" => self.begin(&command.name, &mut args)?,
            "arrive" => self.each(&mut args, Story::arrive)?,
            "repeat" => self.each(&mut args, Story::repeat)?,
            "lose" => {
                self.each(&mut args, |story, name, at| story.fail(name, at, Fault::Unknown))?
            }
            "refuse" => {
                self.each(&mut args, |story, name, at| story.fail(name, at, Fault::NotDone))?
            }
            "restart" => {
                let at: usize = args.next_pos().ok_or("which replica?")?.parse()?;
                self.stores.get_mut(at).ok_or("no such replica")?.staged.clear();
                String::new()
            }
            "expire" => {
                self.has_no_lease = true;
                String::new()
            }
            "time" => {
                let name = args.next_pos().ok_or("which operation?")?.to_owned();
                match &mut self.operation(&name)?.machine {
                    Machine::Write(write) => write.time_is_up(),
                    Machine::Read(read) => read.time_is_up(),
                }
                self.drain(&name)?
            }
            "show" => self.show(),
            "replay" => self.replay(&mut args)?,
            "collect" => self.collect(&mut args)?,
            other => return Err(format!("no command `{other}`").into()),
        };
        args.reject_next()?;
        Ok(output)
    }
}

impl Story {
    fn replicas(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let count: usize = args.next_pos().ok_or("how many?")?.parse()?;
        let store = || Store { held: Held::NOTHING, staged: vec![] };
        *self = Self {
            up: places(args, "up")?.unwrap_or(Set::first(count)),
            fresh: places(args, "fresh")?.unwrap_or_default(),
            stores: std::iter::repeat_with(store).take(count).collect(),
            now_ms: 100,
            ..Self::default()
        };
        Ok(String::new())
    }

    fn holds(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let at: usize = args.next_pos().ok_or("which replica?")?.parse()?;
        let kind = args.next_pos().ok_or("what?")?.to_owned();
        let version = version(args.next_pos().ok_or("of which version?")?.parse()?);
        self.stores.get_mut(at).ok_or("no such replica")?.held = match kind.as_str() {
            "value" => Held::Value(version),
            "tombstone" => Held::Tombstone(version),
            "damaged" => Held::Damaged(version),
            "watermark" => Held::Absent { watermark: version },
            other => return Err(format!("`{other}` is nothing to hold").into()),
        };
        Ok(String::new())
    }

    fn begin(&mut self, what: &str, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let name = args.next_pos().ok_or("which name?")?.to_owned();
        let level: Level = args.next_pos().ok_or("at which level?")?.parse()?;
        let is_held = args.take_key("held") == Some("yes");
        let replicas = Replicas { count: self.stores.len(), up: self.up, fresh: self.fresh };
        let proposer = Proposer { node: NodeId(1), incarnation: Incarnation(1), worker: 0 };
        let kind = if what == "delete" { Kind::Delete } else { Kind::Put { is_held } };
        let machine = match what {
            "read" => Read::new(level, replicas).map(|read| Machine::Read(Box::new(read))),
            _ => Write::new(level, kind, replicas, proposer)
                .map(|write| Machine::Write(Box::new(write))),
        };
        let machine = match machine {
            Ok(machine) => machine,
            Err(why) => return Ok(format!("{name} is refused, nothing was sent: {why}\n")),
        };
        let operation = Operation { machine, sent: BTreeMap::new(), last: BTreeMap::new() };
        self.operations.insert(name.clone(), operation);
        self.drain(&name)
    }

    fn operation(&mut self, name: &str) -> Result<&mut Operation, Box<dyn Error>> {
        Ok(self.operations.get_mut(name).ok_or("no such operation")?)
    }

    fn each(
        &mut self,
        args: &mut ArgumentConsumer<'_>,
        act: impl Fn(&mut Self, &str, usize) -> Outputs,
    ) -> Outputs {
        let name = args.next_pos().ok_or("which operation?")?.to_owned();
        let mut output = String::new();
        while let Some(at) = args.next_pos() {
            output.push_str(&act(self, &name, at.parse()?)?);
        }
        Ok(output)
    }

    fn arrive(&mut self, name: &str, at: usize) -> Outputs {
        let queue = self.operation(name)?.sent.get_mut(&at);
        let message = queue.and_then(VecDeque::pop_front).ok_or("nothing is underway to it")?;
        let store = self.stores.get_mut(at).ok_or("no such replica")?;
        let mut output = String::new();
        let reply = match message {
            Message::Stage => {
                store.staged.push(name.to_owned());
                Reply::Staged(store.held.newest())
            }
            Message::Ask => Reply::Held(store.held),
            Message::Commit(version) if store.held.covers(version) => {
                Reply::Committed(decide(store.held, version).effect(), store.held.newest())
            }
            Message::Commit(_) if !store.staged.iter().any(|staged| staged == name) => {
                Reply::Failed(message, Fault::NotStaged)
            }
            Message::Commit(version) => store.take(Record { version, is_tombstone: false }),
            Message::Bring(record) => store.take(record),
            Message::Abort => {
                store.staged.retain(|staged| staged != name);
                Reply::None
            }
        };
        match reply {
            Reply::Staged(newest) => {
                writeln!(output, "{at} has it staged, holds {}", at_ms(newest))?;
            }
            Reply::Held(held) => writeln!(output, "{at} holds {}", told(held))?,
            Reply::Committed(Effect::Applied, newest) => {
                writeln!(output, "{at} has {} now", at_ms(newest))?;
            }
            Reply::Committed(Effect::Superseded, newest) => {
                writeln!(output, "{at} is superseded by {}", at_ms(newest))?;
            }
            Reply::Committed(Effect::Forgotten, newest) => {
                writeln!(output, "{at} has forgotten deletions up to {}", at_ms(newest))?;
            }
            Reply::Failed(..) => writeln!(output, "{at} knows no such stage")?,
            Reply::None => {}
        }
        self.operation(name)?.last.insert(at, reply);
        self.reply(name, at, reply)?;
        output.push_str(&self.drain(name)?);
        Ok(output)
    }

    fn repeat(&mut self, name: &str, at: usize) -> Outputs {
        let reply = *self.operation(name)?.last.get(&at).ok_or("it has not answered")?;
        self.reply(name, at, reply)?;
        self.drain(name)
    }

    fn fail(&mut self, name: &str, at: usize, fault: Fault) -> Outputs {
        let queue = self.operation(name)?.sent.get_mut(&at);
        let message = queue.and_then(VecDeque::pop_front).ok_or("nothing is underway to it")?;
        self.reply(name, at, Reply::Failed(message, fault))?;
        self.drain(name)
    }

    fn reply(&mut self, name: &str, at: usize, reply: Reply) -> Result<(), Box<dyn Error>> {
        match (&mut self.operation(name)?.machine, reply) {
            (_, Reply::None) => {}
            (Machine::Write(write), Reply::Staged(newest)) => write.staged(at, newest),
            (Machine::Write(write), Reply::Held(held)) => write.staged(at, held.newest()),
            (Machine::Write(write), Reply::Committed(effect, newest)) => {
                write.committed(at, effect, newest);
            }
            (Machine::Write(write), Reply::Failed(Message::Stage | Message::Ask, _)) => {
                write.stage_failed(at);
            }
            (Machine::Write(write), Reply::Failed(_, fault)) => write.commit_failed(at, fault),
            (Machine::Read(read), Reply::Held(held)) => read.held(at, held),
            (Machine::Read(read), Reply::Committed(effect, _)) => read.repaired(at, effect),
            (Machine::Read(read), Reply::Failed(Message::Ask, _)) => read.failed(at),
            (Machine::Read(read), Reply::Failed(..)) => read.repair_failed(at),
            (Machine::Read(_), Reply::Staged(_)) => return Err("reads stage nothing".into()),
        }
        Ok(())
    }

    /// Lets the machine say what it has to say.
    fn drain(&mut self, name: &str) -> Outputs {
        let has_lease = !self.has_no_lease;
        let (now_ms, clock) = (self.now_ms, &mut self.clock);
        let operation = self.operations.get_mut(name).ok_or("no such operation")?;
        let mut output = String::new();
        let mut sent: Vec<(Set, Message)> = Vec::new();
        match &mut operation.machine {
            Machine::Write(write) => {
                while let Some(said) = write.poll(clock, now_ms) {
                    match said {
                        write::Output::CheckLease if has_lease => write.lease_held(),
                        write::Output::CheckLease => write.lease_lost(),
                        said => {
                            writeln!(output, "{name}: {}", told_write(said))?;
                            sent.extend(messages(said, write));
                        }
                    }
                }
            }
            Machine::Read(read) => {
                while let Some(said) = read.poll() {
                    match said {
                        read::Output::CheckLease if has_lease => read.lease_held(),
                        read::Output::CheckLease => read.lease_lost(),
                        said => {
                            writeln!(output, "{name}: {}", told_read(said))?;
                            match said {
                                read::Output::Ask { to } => sent.push((to, Message::Ask)),
                                read::Output::Repair { record, to, .. } => {
                                    sent.push((to, Message::Bring(record)));
                                }
                                _ => {}
                            }
                        }
                    }
                }
            }
        }
        for (to, message) in sent {
            to.iter().for_each(|at| operation.sent.entry(at).or_default().push_back(message));
        }
        Ok(output)
    }

    fn show(&self) -> String {
        let lines = self.stores.iter().enumerate();
        lines.map(|(at, store)| format!("{at} holds {}\n", told(store.held))).collect()
    }

    fn replay(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let target: usize = args.next_pos().ok_or("which replica?")?.parse()?;
        let hinted = version(args.next_pos().ok_or("of which version?")?.parse()?);
        let down = places(args, "down")?.unwrap_or_default();
        let held = |at: usize| (!down.contains(at)).then(|| self.stores[at].held);
        let others: Vec<_> =
            (0..self.stores.len()).filter(|at| *at != target).map(|at| (at, held(at))).collect();
        Ok(match replay(hinted, held(target), &others) {
            Replay::Settled => "settled: it has it, or newer\n".to_owned(),
            Replay::Nowhere => "settled: nobody has it\n".to_owned(),
            Replay::Wait => "to be tried again later\n".to_owned(),
            Replay::Copy { record, from } => {
                self.stores[target].take(record);
                format!("{target} is brought {} by {from}\n", at_ms(record.version))
            }
        })
    }

    fn collect(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let begun_unix_ms = args.take_key("now").ok_or("when?")?.parse()?;
        let told_ring = places(args, "told")?;
        let replicas = self.stores.len();
        let facts = Facts {
            begun_unix_ms,
            age_ms_min: 100,
            replicas,
            told: told_ring.unwrap_or(Set::first(replicas)),
            is_moving: false,
        };
        let lists: Vec<(Vec<Listed<'_>>, Version)> = (0..replicas)
            .map(|at| match self.stores[at].held {
                Held::Absent { watermark } => (vec![], watermark),
                Held::Damaged(version) => {
                    let damaged = Listed { is_damaged: true, ..listed(version, false) };
                    (vec![damaged], Version::NONE)
                }
                Held::Value(version) => (vec![listed(version, false)], Version::NONE),
                Held::Tombstone(version) => (vec![listed(version, true)], Version::NONE),
            })
            .collect();
        let slots: Vec<Option<Slot<'_, '_>>> = lists
            .iter()
            .enumerate()
            .map(|(at, (records, watermark))| {
                self.up.contains(at).then_some(Slot { records, watermark: *watermark })
            })
            .collect();
        let collected = match collectable(&facts, &slots) {
            Ok(collected) if collected.is_empty() => return Ok("nothing to collect\n".to_owned()),
            Ok(collected) => collected,
            Err(why) => return Ok(format!("nothing is collected: {why}\n")),
        };
        let watermark = raised(Version::NONE, &collected);
        for store in &mut self.stores {
            if may_drop(store.held, collected[0].1) {
                store.held = Held::Absent { watermark };
            }
        }
        Ok(format!("the tombstone {} is dropped\n", at_ms(collected[0].1)))
    }
}

impl Store {
    fn take(&mut self, record: Record) -> Reply {
        let Record { version, is_tombstone } = record;
        let decision = decide(self.held, version);
        if decision == Decision::Apply {
            self.held = if is_tombstone { Held::Tombstone(version) } else { Held::Value(version) };
        }
        Reply::Committed(decision.effect(), self.held.newest())
    }
}

fn messages(said: write::Output, write: &Write) -> Option<(Set, Message)> {
    let record = |version, is_tombstone| Message::Bring(Record { version, is_tombstone });
    Some(match said {
        write::Output::Stage { to } => (to, Message::Stage),
        write::Output::Ask { to } => (to, Message::Ask),
        write::Output::Commit { version, to } => (to, Message::Commit(version)),
        write::Output::Put { version, to } => (to, record(version, false)),
        write::Output::Remove { version, to } => (to, record(version, true)),
        write::Output::Copy { version, to, .. } => {
            assert_eq!(write.version(), Some(version));
            (Set::only(to), record(version, false))
        }
        write::Output::Abort { to } => (to, Message::Abort),
        _ => return None,
    })
}

fn told_write(said: write::Output) -> String {
    match said {
        write::Output::CheckLease => unreachable!("answered at once"),
        write::Output::Stage { to } => format!("stage at {to}"),
        write::Output::Ask { to } => format!("ask {to}"),
        write::Output::Commit { version, to } => format!("commit {} at {to}", at_ms(version)),
        write::Output::Put { version, to } => format!("put {} at {to}", at_ms(version)),
        write::Output::Remove { version, to } => format!("tombstone {} at {to}", at_ms(version)),
        write::Output::Copy { version, to, from } if from.is_empty() => {
            format!("copy {} from the body to {to}", at_ms(version))
        }
        write::Output::Copy { version, to, from } => {
            format!("copy {} from {from} to {to}", at_ms(version))
        }
        write::Output::Hint { version, replica } => {
            format!("hint: {replica} may lack {}", at_ms(version))
        }
        write::Output::Abort { to } => format!("forget the stage at {to}"),
        write::Output::Done(Outcome::Acknowledged { version, acks }) => {
            format!("ACKNOWLEDGED {} by {acks}", at_ms(version))
        }
        write::Output::Done(Outcome::NotApplied(why)) => format!("NOT APPLIED: {why}"),
        write::Output::Done(Outcome::Unknown(why)) => format!("UNKNOWN: {why}"),
    }
}

fn told_read(said: read::Output) -> String {
    match said {
        read::Output::CheckLease => unreachable!("answered at once"),
        read::Output::Ask { to } => format!("ask {to}"),
        read::Output::Repair { record, from, to } => {
            let what = if record.is_tombstone { "tombstone" } else { "value" };
            format!("bring {what} {} from {from} to {to}", at_ms(record.version))
        }
        read::Output::Done(Answer::Value { version, from }) => {
            format!("VALUE {}, served by any of {from}", at_ms(version))
        }
        read::Output::Done(Answer::Absent { deleted: None }) => "ABSENT".to_owned(),
        read::Output::Done(Answer::Absent { deleted: Some(version) }) => {
            format!("ABSENT, deleted {}", at_ms(version))
        }
        read::Output::Done(Answer::None(why)) => format!("NO ANSWER: {why}"),
    }
}

fn told(held: Held) -> String {
    match held {
        Held::Value(version) => at_ms(version),
        Held::Tombstone(version) => format!("tombstone {}", at_ms(version)),
        Held::Damaged(version) => format!("{}, damaged", at_ms(version)),
        Held::Absent { watermark } if watermark.is_none() => "nothing".to_owned(),
        Held::Absent { watermark } => format!("nothing, watermark {}", at_ms(watermark)),
    }
}

fn at_ms(version: Version) -> String {
    let counter = version.stamp.0 & 0xffff;
    match (version.is_none(), counter) {
        (true, _) => "nothing".to_owned(),
        (_, 0) => format!("@{}", version.stamp.unix_ms()),
        (_, counter) => format!("@{}+{counter}", version.stamp.unix_ms()),
    }
}

fn version(ms: u64) -> Version {
    let proposer = Proposer { node: NodeId(1), incarnation: Incarnation(1), worker: 0 };
    Version { stamp: Stamp::of_ms(ms), proposer }
}

fn listed(version: Version, is_tombstone: bool) -> Listed<'static> {
    Listed { key: "k", version, is_tombstone, is_damaged: false }
}

/// Reads `0,2`.
fn places(args: &mut ArgumentConsumer<'_>, name: &str) -> Result<Option<Set>, Box<dyn Error>> {
    let Some(text) = args.take_key(name) else { return Ok(None) };
    let places: Result<Vec<usize>, _> =
        text.split(',').filter(|place| *place != "none").map(str::parse).collect();
    Ok(Some(places?.into_iter().collect()))
}
