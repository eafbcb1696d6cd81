//! Tells stories about shards to `protocol::health` and writes down what it makes of them.
//!
//! | command | what it does |
//! |---|---|
//! | `pool SHARDS [SETTING=VALUE…]` | begins anew, with defaults but for what is named |
//! | `probe SHARD pass\|lookup\|connect\|slow-connect\|slow\|broken\|STATUS` | a probe ends |
//! | `get SHARD WHAT…`, `put SHARD WHAT…` | tries end, 10 ms apart |
//! | `wait SECONDS` | time passes, with a tick at each deadline |
//! | `maint SHARD`, `ready SHARD` | the operator speaks |
//! | `agreed [SHARD\|SHARD/read\|SHARD/write …]` | the cluster agrees that these are down, and no others |
//! | `group lost\|heard` | the lease ends, or is there again |
//! | `own` | what this node reports to the others: what is down, and of what it says nothing |
//! | `keep SHARD…` | a reload: the pool has these shards now, `new` for a new one |
//! | `view` | each shard as the status shows it |
//!
//! `WHAT` is a status or `connect`, `reset`, `slow`; options are `key=` (each try has its own key
//! if not given), `times=`, `begun=` (seconds; now, if not given), `retry_after=true`,
//! `body_sent=false`.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "stories tell of seconds, the machine of milliseconds; both are small"
)]

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use goldenscript::{ArgumentConsumer, Command, Context};
use ringway::ids::Token;
use ringway::protocol::health::{
    Change, Class, ClassView, HealthSettings, Observation, Outcome, PerClass, PoolHealth,
    ProbeFailure, Standing,
};

type Outputs = Result<String, Box<dyn Error>>;

pub struct Story {
    machine: PoolHealth,
    now_ms: u64,
    /// Counted as the request path does: only while the machine asks for it.
    good: Vec<PerClass<u64>>,
    keys: u64,
}

impl Default for Story {
    fn default() -> Self {
        let machine = PoolHealth::new(HealthSettings::default(), 0);
        Self { machine, now_ms: 0, good: Vec::new(), keys: 0 }
    }
}

impl goldenscript::Runner for Story {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Outputs {
        let mut args = command.consume_args();
        let output = match command.name.as_str() {
            "pool" => self.pool(&mut args)?,
            "probe" => self.probe(&mut args)?,
            "get" => self.tries(Class::Read, &mut args)?,
            "put" => self.tries(Class::Write, &mut args)?,
            "wait" => self.wait(&mut args)?,
            "maint" => self.maint(true, &mut args)?,
            "ready" => self.maint(false, &mut args)?,
            "agreed" => self.agreed(&mut args)?,
            "group" => self.group(&mut args)?,
            "own" => self.own(),
            "keep" => self.keep(&mut args)?,
            "view" => self.view(),
            other => return Err(format!("no command `{other}`").into()),
        };
        args.reject_next()?;
        Ok(output)
    }
}

impl Story {
    fn pool(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let shards: usize = args.next_pos().ok_or("how many shards?")?.parse()?;
        *self = Self {
            machine: PoolHealth::new(settings(args)?, shards),
            good: vec![PerClass::default(); shards],
            ..Self::default()
        };
        Ok(String::new())
    }

    fn probe(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let shard = shard(args)?;
        let result = match args.next_pos().ok_or("with what result?")? {
            "pass" => Ok(()),
            "lookup" => Err(ProbeFailure::Lookup),
            "connect" => Err(ProbeFailure::Connect),
            "slow-connect" => Err(ProbeFailure::ConnectTimeout),
            "slow" => Err(ProbeFailure::AnswerTimeout),
            "broken" => Err(ProbeFailure::Broken),
            status => Err(ProbeFailure::Status(status.parse()?)),
        };
        let changes = self.machine.probe_result(self.now_ms, shard, result);
        Ok(self.told(&changes))
    }

    fn tries(&mut self, class: Class, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let shard = shard(args)?;
        let times: u64 = taken(args, "times")?.unwrap_or(1);
        let key: Option<u64> = args.take_key("key").map(fnv);
        let begun: Option<f64> = taken(args, "begun")?;
        let retry_after = taken(args, "retry_after")?.unwrap_or(false);
        let body_fully_sent = taken(args, "body_sent")?.unwrap_or(true);
        let mut outcomes = Vec::new();
        while let Some(what) = args.next_pos() {
            outcomes.push(match what {
                "connect" => Outcome::ConnectFailed,
                "reset" => Outcome::Reset,
                "slow" => Outcome::HeadTimeout,
                status => {
                    Outcome::Answered { status: status.parse()?, retry_after, body_fully_sent }
                }
            });
        }
        let mut output = String::new();
        for _ in 0..times {
            for outcome in &outcomes {
                output += &self.pass(10);
                self.keys += 1;
                let begun_ms = begun.map_or(self.now_ms, |seconds| (seconds * 1000.0) as u64);
                let key = Token(key.unwrap_or(self.keys));
                if outcome.is_success() && self.machine.counts_success(shard, class) {
                    self.good[shard][class] += 1;
                }
                let seen = Observation { class, key, begun_ms, outcome: *outcome };
                let changes = self.machine.observe(self.now_ms, shard, &seen);
                output += &self.told(&changes);
            }
        }
        Ok(output)
    }

    fn wait(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let seconds: f64 = args.next_pos().ok_or("how long?")?.parse()?;
        Ok(self.pass((seconds * 1000.0) as u64))
    }

    /// Lets time pass as `background::probe` does: with a tick at each deadline.
    fn pass(&mut self, ms: u64) -> String {
        let until_ms = self.now_ms + ms;
        let mut output = String::new();
        while let Some(next_ms) = self.machine.next_deadline().filter(|next| *next <= until_ms) {
            self.now_ms = self.now_ms.max(next_ms);
            output += &self.tick();
        }
        self.now_ms = until_ms;
        output
    }

    fn tick(&mut self) -> String {
        let good = &self.good;
        let changes = self.machine.tick(self.now_ms, |shard, class| good[shard][class]);
        self.told(&changes)
    }

    fn maint(&mut self, maint: bool, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let changes = self.machine.set_maint(self.now_ms, shard(args)?, maint);
        Ok(self.told(&changes))
    }

    fn agreed(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let mut down = vec![PerClass::default(); self.machine.len()];
        while let Some(name) = args.next_pos() {
            let (shard, classes) = match name.split_once('/') {
                None => (name, (true, true)),
                Some((shard, "read")) => (shard, (true, false)),
                Some((shard, "write")) => (shard, (false, true)),
                Some(_) => return Err(format!("`{name}`?").into()),
            };
            down[place(shard)?] = PerClass { read: classes.0, write: classes.1 };
        }
        let changes = self.machine.set_agreed(self.now_ms, &down);
        Ok(self.told(&changes))
    }

    fn group(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let heard = match args.next_pos() {
            Some("heard") => true,
            Some("lost") => false,
            _ => return Err("is the group lost or heard?".into()),
        };
        let changes = self.machine.set_group_heard(heard);
        Ok(self.told(&changes))
    }

    fn own(&self) -> String {
        let mut output = String::new();
        for shard in 0..self.machine.len() {
            let Some(own) = self.machine.own_view(shard) else {
                let _ = writeln!(output, "nothing of s{shard}");
                continue;
            };
            if let Some(what) = classes(own) {
                let _ = writeln!(output, "s{shard} is down for {what}");
            }
        }
        output
    }

    fn keep(&mut self, args: &mut ArgumentConsumer<'_>) -> Outputs {
        let mut was = Vec::new();
        while let Some(name) = args.next_pos() {
            was.push(if name == "new" { None } else { Some(place(name)?) });
        }
        let (machine, changes) = self.machine.successor(self.machine.settings().clone(), &was);
        self.good =
            was.iter().map(|at| at.map_or_else(PerClass::default, |at| self.good[at])).collect();
        self.machine = machine;
        Ok(self.told(&changes))
    }

    fn view(&self) -> String {
        let mut output = String::new();
        for shard in 0..self.machine.len() {
            let view = self.machine.view(shard);
            let (read, write) = (told_view(&view.read), told_view(&view.write));
            let maint = if view.maint { ", in maintenance" } else { "" };
            let agreed = told_agreed(view.agreed_down_since_ms);
            if read == write {
                let _ = writeln!(output, "s{shard}: {read}{agreed}{maint}");
            } else {
                let _ = writeln!(output, "s{shard}: read {read}; write {write}{agreed}{maint}");
            }
        }
        for class in Class::ALL.into_iter().filter(|class| self.machine.panic(*class)) {
            let _ = writeln!(output, "panic for {}", class.as_str());
        }
        output
    }

    fn told(&self, changes: &[Change]) -> String {
        let mut output = String::new();
        for change in changes {
            let _ = match change.shard() {
                Some(shard) => writeln!(output, "{} s{shard} {change}", time(self.now_ms)),
                None => writeln!(output, "{} {change}", time(self.now_ms)),
            };
        }
        output
    }
}

fn classes(of: PerClass<bool>) -> Option<&'static str> {
    match (of.read, of.write) {
        (true, true) => Some("reads and writes"),
        (true, false) => Some("reads"),
        (false, true) => Some("writes"),
        (false, false) => None,
    }
}

fn told_agreed(since_ms: PerClass<Option<u64>>) -> String {
    let PerClass { read, write } = since_ms;
    let down = PerClass { read: read.is_some(), write: write.is_some() };
    let since = read.into_iter().chain(write).max();
    match (classes(down), since) {
        (Some(what), Some(since_ms)) => {
            format!("; agreed down for {what} since {}", time(since_ms))
        }
        _ => String::new(),
    }
}

fn told_view(view: &ClassView) -> String {
    let mut output = match view.standing {
        Standing::Up => "up".to_owned(),
        Standing::Down => "down".to_owned(),
        Standing::Ejected { until_ms } => format!("ejected until {}", time(until_ms)),
    };
    let _ = write!(output, " since {}", time(view.since_ms));
    if let Some(why) = view.why {
        let _ = write!(output, ", {why}");
    }
    output
}

fn time(ms: u64) -> String {
    format!("{:.2}s", ms as f64 / 1000.0)
}

fn place(name: &str) -> Result<usize, Box<dyn Error>> {
    Ok(name.strip_prefix('s').ok_or("a shard is s0, s1 …")?.parse()?)
}

fn shard(args: &mut ArgumentConsumer<'_>) -> Result<usize, Box<dyn Error>> {
    place(args.next_pos().ok_or("which shard?")?)
}

fn taken<T: std::str::FromStr>(
    args: &mut ArgumentConsumer<'_>,
    key: &str,
) -> Result<Option<T>, Box<dyn Error>>
where
    T::Err: Error + 'static,
{
    Ok(args.take_key(key).map(str::parse).transpose()?)
}

/// Any spreading of names over numbers will do.
fn fnv(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn settings(args: &mut ArgumentConsumer<'_>) -> Result<HealthSettings, Box<dyn Error>> {
    fn set<T: std::str::FromStr>(
        args: &mut ArgumentConsumer<'_>,
        key: &str,
        to: &mut T,
    ) -> Result<(), Box<dyn Error>>
    where
        T::Err: Error + 'static,
    {
        if let Some(value) = taken(args, key)? {
            *to = value;
        }
        Ok(())
    }
    fn set_seconds(
        args: &mut ArgumentConsumer<'_>,
        key: &str,
        to: &mut Duration,
    ) -> Result<(), Box<dyn Error>> {
        if let Some(seconds) = taken(args, key)? {
            *to = Duration::from_secs(seconds);
        }
        Ok(())
    }
    let mut settings = HealthSettings::default();
    set(args, "panic_percent", &mut settings.panic_percent)?;
    match args.take_key("active") {
        Some("off") => settings.active = None,
        Some(other) => return Err(format!("active={other}?").into()),
        None => {
            let active = settings.active.as_mut().expect("probes are sent by default");
            set(args, "fall", &mut active.fall)?;
            set(args, "rise", &mut active.rise)?;
        }
    }
    match args.take_key("passive") {
        Some("off") => settings.passive = None,
        Some(other) => return Err(format!("passive={other}?").into()),
        None => {
            let passive = settings.passive.as_mut().expect("requests are evidence by default");
            set(args, "consecutive_5xx", &mut passive.consecutive_5xx)?;
            set(args, "keys_min", &mut passive.keys_min)?;
            set(args, "connect_errors", &mut passive.connect_errors)?;
            set(args, "error_rate_percent", &mut passive.error_rate_percent)?;
            set(args, "error_rate_requests_min", &mut passive.error_rate_requests_min)?;
            set(args, "max_ejection_percent", &mut passive.max_ejection_percent)?;
            set_seconds(args, "base_ejection_time", &mut passive.base_ejection_time)?;
            set_seconds(args, "max_ejection_time", &mut passive.max_ejection_time)?;
        }
    }
    Ok(settings)
}
