//! What holds for any history, and the machine against naive twins of its clever parts.
//!
//! The rules one by one are told in `tests/scripts/health/`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop};
use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::evidence::{Evidence, Finding};
use super::*;
use crate::ids::{BaseUrl, ShardId, Token};

/// Small numbers, so that short histories meet every rule.
fn settings() -> HealthSettings {
    let mut settings = HealthSettings::default();
    let passive = settings.passive.as_mut().expect("requests are evidence by default");
    passive.consecutive_5xx = 3;
    passive.keys_min = 2;
    passive.connect_errors = 2;
    passive.error_rate_requests_min = 6;
    passive.window = Duration::from_secs(2);
    passive.base_ejection_time = Duration::from_secs(3);
    passive.max_ejection_time = Duration::from_secs(8);
    settings
}

#[derive(Debug, Clone)]
enum Input {
    Probe(usize, Result<(), ProbeFailure>),
    Seen(usize, Observation),
    /// Time passes: to the next deadline, or by so much.
    Deadline,
    Wait(u64),
    /// A thread whose stamp is old.
    Late(usize, Observation),
    Maint(usize, bool),
    Agreed(Vec<PerClass<bool>>),
    GroupHeard(bool),
    Reload(Vec<Option<usize>>),
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Read), Just(Class::Write)]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let status = prop_oneof![Just(200), Just(404), Just(500), Just(503), Just(507)];
    prop_oneof![
        4 => (status, any::<bool>(), prop::bool::weighted(0.8)).prop_map(
            |(status, retry_after, body_fully_sent)| Outcome::Answered {
                status,
                retry_after,
                body_fully_sent
            }
        ),
        2 => Just(Outcome::ConnectFailed),
        1 => Just(Outcome::Reset),
        1 => Just(Outcome::HeadTimeout),
    ]
}

fn observation() -> impl Strategy<Value = Observation> {
    (class(), 0..4_u64, 0..30_000_u64, outcome()).prop_map(|(class, key, begun_ms, outcome)| {
        Observation { class, key: Token(key), begun_ms, outcome }
    })
}

fn input(shards: usize) -> impl Strategy<Value = Input> {
    // One place too many: what names a shard that is not there must do no harm.
    let shard = 0..=shards;
    let result = prop_oneof![
        Just(Ok(())),
        Just(Err(ProbeFailure::Connect)),
        Just(Err(ProbeFailure::Status(503)))
    ];
    prop_oneof![
        4 => (shard.clone(), result).prop_map(|(shard, result)| Input::Probe(shard, result)),
        12 => (shard.clone(), observation()).prop_map(|(shard, seen)| Input::Seen(shard, seen)),
        2 => Just(Input::Deadline),
        3 => (0..4_000_u64).prop_map(Input::Wait),
        1 => (shard.clone(), observation()).prop_map(|(shard, seen)| Input::Late(shard, seen)),
        1 => (shard.clone(), any::<bool>()).prop_map(|(shard, on)| Input::Maint(shard, on)),
        2 => prop::collection::vec((any::<bool>(), any::<bool>()), 0..6).prop_map(|down| {
            let down = down.into_iter().map(|(read, write)| PerClass { read, write });
            Input::Agreed(down.collect())
        }),
        1 => any::<bool>().prop_map(Input::GroupHeard),
        1 => prop::collection::vec(prop::option::weighted(0.8, shard), 1..6)
            .prop_map(Input::Reload),
    ]
}

/// The machine with the little around it that a runtime adds.
struct Run {
    machine: PoolHealth,
    now_ms: u64,
    good: Vec<PerClass<u64>>,
    /// Whether the group is heard; `None` while there is none.
    heard: Option<bool>,
}

impl Run {
    fn new(shards: usize) -> Self {
        let good = vec![PerClass::default(); shards];
        Self { machine: PoolHealth::new(settings(), shards), now_ms: 0, good, heard: None }
    }

    fn see(&mut self, now_ms: u64, shard: usize, seen: &Observation) -> Vec<Change> {
        if seen.outcome.is_success() && self.machine.counts_success(shard, seen.class) {
            self.good[shard][seen.class] += 1;
        }
        self.machine.observe(now_ms, shard, seen)
    }

    fn tick(&mut self) -> Vec<Change> {
        let good = &self.good;
        self.machine.tick(self.now_ms, |shard, class| good[shard][class])
    }

    fn step(&mut self, input: &Input) -> Vec<Change> {
        match input {
            Input::Probe(shard, result) => self.machine.probe_result(self.now_ms, *shard, *result),
            Input::Seen(shard, seen) => self.see(self.now_ms, *shard, seen),
            Input::Late(shard, seen) => self.see(self.now_ms / 2, *shard, seen),
            Input::Deadline => {
                self.now_ms = self.machine.next_deadline().unwrap_or(0).max(self.now_ms);
                self.tick()
            }
            Input::Wait(ms) => {
                self.now_ms += ms;
                self.tick()
            }
            Input::Maint(shard, on) => self.machine.set_maint(self.now_ms, *shard, *on),
            Input::Agreed(down) => {
                self.heard = self.heard.or(Some(true));
                self.machine.set_agreed(self.now_ms, down)
            }
            Input::GroupHeard(heard) => {
                self.heard = Some(*heard);
                self.machine.set_group_heard(*heard)
            }
            Input::Reload(was) => {
                let (machine, changes) = self.machine.successor(settings(), was);
                let carried = |at: &Option<usize>| {
                    at.and_then(|at| self.good.get(at)).copied().unwrap_or_default()
                };
                self.good = was.iter().map(carried).collect();
                self.machine = machine;
                changes
            }
        }
    }

    fn views(&self) -> Vec<ShardView> {
        (0..self.machine.len()).map(|shard| self.machine.view(shard)).collect()
    }

    /// What must hold after every input, whatever it was.
    fn check(&self) {
        let machine = &self.machine;
        let views = self.views();
        let is_ejected = |class: &ClassView| matches!(class.standing, Standing::Ejected { .. });
        let in_service: Vec<_> = views.iter().filter(|view| !view.maint).collect();
        let ejected =
            in_service.iter().filter(|v| is_ejected(&v.read) || is_ejected(&v.write)).count();

        // Never more ejected than may be, counted by what the views show.
        assert!(ejected <= machine.ejected_max(), "{ejected} of {views:?}");
        assert_eq!(machine.census().ejected as usize, ejected, "a shard that is down is ejected");

        for class in Class::ALL {
            let of = |view: &ShardView| if class == Class::Read { view.read } else { view.write };
            let agreed_down = |v: &ShardView| v.agreed_down_since_ms[class].is_some();
            let is_used = |v: &ShardView| {
                of(v).standing == Standing::Up && !(self.heard == Some(true) && agreed_down(v))
            };
            let down = in_service.iter().filter(|v| !is_used(v)).count();
            let panic = down * 100 > in_service.len() * 50;
            assert_eq!(machine.panic(class), panic, "{class:?}: {down} of {views:?}");
            for (shard, view) in views.iter().enumerate() {
                let own = of(view).standing == Standing::Up;
                assert_eq!(of(view).why.is_none(), own, "what is not up has a reason");
                assert!(machine.own_view(shard).is_none_or(|seen| seen[class] != own));
                let marks = machine.marks(shard);
                assert_eq!(marks.usable[class], is_used(view));
                let probes_say_down = of(view).standing == Standing::Down;
                let verdict = self.heard.map_or(probes_say_down, |_| agreed_down(view));
                assert_eq!(marks.verdict[class], verdict);
            }
        }
        if let Some(deadline_ms) = machine.next_deadline() {
            assert!(deadline_ms > 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_history_keeps_the_invariants_and_is_repeated_exactly(
        inputs in prop::collection::vec(input(4), 1..200),
    ) {
        let (mut run, mut again) = (Run::new(4), Run::new(4));
        for input in &inputs {
            let changes = run.step(input);
            run.check();
            prop_assert_eq!(&changes, &again.step(input));
        }
        prop_assert_eq!(run.views(), again.views());
    }

    /// A tick at a time that has been ticked already changes nothing, and the next deadline lies
    /// ahead: a loop that follows the deadlines neither spins nor depends on being exact.
    #[test]
    fn a_second_tick_does_nothing(inputs in prop::collection::vec(input(4), 1..200)) {
        let mut run = Run::new(4);
        for input in &inputs {
            run.step(input);
            run.tick();
            let (before, deadline) = (format!("{:?}", run.machine), run.machine.next_deadline());
            prop_assert_eq!(run.tick(), vec![]);
            prop_assert_eq!(format!("{:?}", run.machine), before);
            prop_assert!(deadline.is_none_or(|deadline| deadline > run.now_ms));
        }
    }

    /// However much succeeds, and whatever does not count, marks nobody and asks for nothing.
    #[test]
    fn a_shard_without_failures_is_never_marked(
        inputs in prop::collection::vec(input(4), 1..200),
    ) {
        let harmless = |input: &Input| match input {
            Input::Seen(_, seen) | Input::Late(_, seen) => matches!(
                seen.outcome,
                Outcome::Answered { status: 200 | 404 | 507, .. }
                    | Outcome::Answered { body_fully_sent: false, .. }
            ),
            Input::Probe(_, result) => result.is_ok(),
            Input::Agreed(_) | Input::GroupHeard(_) => false,
            _ => true,
        };
        let mut run = Run::new(4);
        for input in inputs.iter().filter(|input| harmless(input)) {
            prop_assert_eq!(run.step(input), vec![]);
            prop_assert_eq!(run.machine.next_deadline(), None);
            for (shard, view) in run.views().iter().enumerate() {
                let up = ClassView { standing: Standing::Up, why: None, since_ms: 0 };
                prop_assert_eq!((view.read, view.write), (up, up));
                for class in Class::ALL {
                    prop_assert!(!run.machine.wants_success(shard, class));
                    prop_assert!(!run.machine.counts_success(shard, class));
                }
            }
        }
    }

    /// What a node reports is its own evidence, whatever is agreed: or a verdict, once given, would
    /// keep itself alive.
    #[test]
    fn a_verdict_is_never_evidence(inputs in prop::collection::vec(input(4), 1..200)) {
        let (mut told, mut untold) = (Run::new(4), Run::new(4));
        for input in &inputs {
            told.step(input);
            if !matches!(input, Input::Agreed(_) | Input::GroupHeard(_)) {
                untold.step(input);
            }
            let own = |run: &Run| (0..5).map(|at| run.machine.own_view(at)).collect::<Vec<_>>();
            prop_assert_eq!(own(&told), own(&untold));
        }
    }

    /// Answers to reads say nothing of writes, and one key's answers nothing of its shard.
    #[test]
    fn answers_eject_their_own_class_and_never_for_one_key(
        inputs in prop::collection::vec(input(4), 1..200),
    ) {
        let (mut reads, mut one_key) = (Run::new(4), Run::new(4));
        for input in inputs {
            match input {
                Input::Probe(..) | Input::Agreed(_) | Input::GroupHeard(_) => continue,
                Input::Seen(_, seen) | Input::Late(_, seen)
                    if seen.outcome == Outcome::ConnectFailed => continue,
                Input::Seen(shard, seen) | Input::Late(shard, seen) => {
                    let read = Observation { class: Class::Read, ..seen };
                    reads.step(&Input::Seen(shard, read));
                    let key = Observation { key: Token(1), ..seen };
                    prop_assert_eq!(one_key.step(&Input::Seen(shard, key)), vec![]);
                }
                other => {
                    reads.step(&other);
                    prop_assert_eq!(one_key.step(&other), vec![]);
                }
            }
            for view in reads.views() {
                prop_assert_eq!(view.write.standing, Standing::Up);
            }
        }
    }

    /// The record keeps a few keys and a few samples; its naive twin keeps everything.
    #[test]
    fn the_record_agrees_with_one_that_keeps_everything(
        steps in prop::collection::vec((0..400_u64, 0..5_u64, 0..10_u8), 1..300),
        keys_min in 1..4_u8,
    ) {
        let rules = PassiveSettings {
            consecutive_5xx: 4,
            keys_min,
            error_rate_requests_min: 10,
            window: Duration::from_secs(1),
            ..PassiveSettings::default()
        };
        let mut record = Evidence::default();
        let (mut now_ms, mut good) = (0, 0);
        // (when, key, in a row): all failures, and those since the last success.
        let (mut failures, mut row): (Vec<(u64, u64)>, Vec<u64>) = (Vec::new(), Vec::new());
        for (passed_ms, key, kind) in steps {
            now_ms += passed_ms;
            match kind {
                0..=4 => {
                    failures.push((now_ms, key));
                    row.push(key);
                    let found = record.failed(now_ms, Token(key), Failure::Reset, &rules);
                    let keys: BTreeSet<_> = row.iter().collect();
                    let met = row.len() >= 4 && keys.len() >= usize::from(keys_min);
                    let streak = Finding::Streak { failures: u32::try_from(row.len()).expect("a few") };
                    prop_assert_eq!(found, met.then_some(streak));
                }
                5..=7 => {
                    good += u64::from(record.counts());
                    row.clear();
                    record.succeeded();
                }
                _ => {
                    let found = record.tick(now_ms, good, &rules);
                    let within = |ms: u64| {
                        failures.iter().filter(move |(at, _)| *at >= now_ms.saturating_sub(ms))
                    };
                    let keys: BTreeSet<_> = within(1000).map(|(_, key)| key).collect();
                    if let Some(Finding::Rate { failed, requests }) = found {
                        prop_assert!(requests >= 10 && failed * 2 >= requests);
                        prop_assert!(keys.len() >= usize::from(keys_min));
                        // At least the window; beyond it, only what no tick has told apart.
                        prop_assert!(failed >= within(1000).count() as u64);
                        prop_assert!(failed <= failures.len() as u64);
                    }
                    prop_assert_eq!(record.counts(), within(1000).count() > 0);
                }
            }
        }
    }
}

fn seats(n: usize) -> Vec<Seat> {
    let seat = |ix| Seat {
        id: ShardId::new(&format!("s{ix}")).expect("a name"),
        url: BaseUrl::parse(&format!("http://127.0.0.1:{}", 9000 + ix)).expect("a URL"),
        maint: false,
    };
    (0..n).map(seat).collect()
}

fn seen(class: Class, key: u64, outcome: Outcome) -> Observation {
    Observation { class, key: Token(key), begun_ms: 0, outcome }
}

#[test]
fn the_request_path_sees_what_the_machine_decides() {
    let shared = SharedHealth::new(HealthSettings::default(), seats(4));
    assert!(!shared.wants_success(0, Class::Read));
    for key in 0..5 {
        assert!(shared.usable(0, Class::Read));
        shared.observe(1, 0, &seen(Class::Read, key, Outcome::answered(500)));
        assert_eq!(shared.wants_success(0, Class::Read), key < 4);
        assert!(!shared.wants_success(0, Class::Write) && !shared.wants_success(1, Class::Read));
    }
    assert!(!shared.usable(0, Class::Read) && shared.usable(0, Class::Write));
    let (changes, lost) = shared.take_changes();
    assert!(matches!(changes[..], [Change::Ejected { shard: 0, .. }]) && lost == 0);

    // It returns, a success is wanted, and after it none is.
    assert_eq!(shared.tick(30_000), Some(30_001));
    assert!(!shared.usable(0, Class::Read));
    assert_eq!(shared.tick(30_001), None);
    assert!(shared.usable(0, Class::Read) && shared.wants_success(0, Class::Read));
    shared.observe(30_002, 0, &seen(Class::Read, 9, Outcome::answered(200)));
    assert!(!shared.wants_success(0, Class::Read));
}

/// A change of weights, addresses or settings must not let requests go to a shard that is agreed
/// down, not even until the next verdict.
#[test]
fn what_is_agreed_is_seen_by_requests_and_goes_through_a_reload() {
    let shared = Arc::new(SharedHealth::new(HealthSettings::default(), seats(4)));
    let down = |read, write| PerClass { read, write };
    shared.set_agreed(&[down(false, false), down(false, true), down(true, true)]);
    let marks = |shared: &SharedHealth, shard| {
        Class::ALL.map(|class| (shared.usable(shard, class), shared.verdict(shard, class)))
    };
    assert_eq!(marks(&shared, 1), [(true, false), (false, true)]);
    assert_eq!(marks(&shared, 2), [(false, true), (false, true)]);
    assert_eq!(shared.own_views(), [], "no probe has come back");
    (0..4).for_each(|shard| shared.probe_result(1, shard, Ok(())));
    let own = shared.own_views();
    assert_eq!((own.len(), &own[2].0), (4, &shared.seats()[2].id));
    assert!(own.iter().all(|(_, view)| *view == PerClass::default()));

    let fewer = SharedHealth::renewed(&shared, HealthSettings::default(), seats(4).split_off(1));
    assert_eq!(marks(&fewer, 0), [(true, false), (false, true)]);
    assert_eq!(marks(&fewer, 1), [(false, true), (false, true)]);
    fewer.set_group_heard(false);
    assert_eq!(marks(&fewer, 1), [(true, true), (true, true)]);
    let (changes, _) = fewer.take_changes();
    assert!(matches!(
        changes[..],
        [Change::Panicked { class: Class::Write }, Change::Calmed { .. }]
    ));
}

#[test]
fn panic_is_shown() {
    let shared = SharedHealth::new(HealthSettings::default(), seats(1));
    assert!(!shared.in_panic(Class::Read));
    for _ in 0..3 {
        shared.probe_result(1, 0, Err(ProbeFailure::Connect));
    }
    assert!(shared.in_panic(Class::Read) && shared.in_panic(Class::Write));
    assert_eq!(shared.census().looks_down, PerClass { read: 1, write: 1 });
}

#[test]
fn a_shard_keeps_its_health_through_a_reload_unless_it_moves() {
    let before = Arc::new(SharedHealth::new(HealthSettings::default(), seats(4)));
    let same = SharedHealth::renewed(&before, HealthSettings::default(), seats(4));
    assert!(Arc::ptr_eq(&same, &before), "what does not change stays");
    for shard in [1, 2] {
        for _ in 0..3 {
            before.probe_result(7, shard, Err(ProbeFailure::Connect));
        }
    }
    // s0 goes, s1 stays, s2 moves to another address, s3 is put into maintenance.
    let mut after = seats(4);
    after.remove(0);
    after[1].url = BaseUrl::parse("http://192.0.2.1:80").expect("a URL");
    after[2].maint = true;
    let after = SharedHealth::renewed(&before, HealthSettings::default(), after);
    let usable: Vec<_> = (0..3).map(|shard| after.usable(shard, Class::Read)).collect();
    assert_eq!(usable, [false, true, true]);
    assert!(after.views()[2].maint);
    assert_eq!(after.census().excluded, 1);
}

/// Successes are counted outside the machine, which remembers how far it has read: a reload in
/// the middle of a window must not make the totals begin anew.
#[test]
fn a_reload_keeps_the_totals_that_the_error_rate_counts_from() {
    let mut shared = Arc::new(SharedHealth::new(HealthSettings::default(), seats(2)));
    let mut now_ms = 0;
    for round in 0..4 {
        for key in 0..100 {
            now_ms += 1;
            // One of five fails: far from half.
            let status = if key % 5 == 0 { 500 } else { 200 };
            shared.observe(now_ms, 0, &seen(Class::Read, key, Outcome::answered(status)));
        }
        shared.tick(now_ms);
        assert!(shared.usable(0, Class::Read), "ejected in round {round}");
        // Each round another shard comes or goes.
        let others = seats(3 - round % 2);
        shared = SharedHealth::renewed(&shared, HealthSettings::default(), others);
    }
}

#[test]
fn changes_that_nobody_takes_are_bounded_and_the_loss_is_told() {
    let mut settings = HealthSettings::default();
    let active = settings.active.as_mut().expect("probes are sent by default");
    (active.fall, active.rise) = (1, 1);
    let shared = SharedHealth::new(settings, seats(4));
    for _ in 0..1000 {
        shared.probe_result(1, 0, Err(ProbeFailure::Broken));
        shared.probe_result(1, 0, Ok(()));
    }
    let (changes, lost) = shared.take_changes();
    assert_eq!((changes.len() as u64 + lost, changes.len()), (2000, 1024));
    assert_eq!(changes.last(), Some(&Change::Up { shard: 0, passed: 1 }));
}

/// Workers that report while the ticker ticks: nothing is lost that matters, and when all is
/// quiet the bytes and the machine say the same.
#[test]
fn many_threads_leave_a_consistent_view() {
    let shared = SharedHealth::new(settings(), seats(4));
    std::thread::scope(|scope| {
        for worker in 0..4_u64 {
            let shared = &shared;
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(worker);
                for now_ms in 0..20_000 {
                    let class = if rng.bool() { Class::Read } else { Class::Write };
                    let outcome = match rng.u8(..10) {
                        0 => Outcome::ConnectFailed,
                        1..=2 => Outcome::answered(500),
                        _ => Outcome::answered(200),
                    };
                    let seen =
                        Observation { class, key: Token(rng.u64(..)), begun_ms: now_ms, outcome };
                    shared.observe(now_ms, rng.usize(..4), &seen);
                    if worker == 0 {
                        shared.tick(now_ms);
                    }
                }
            });
        }
    });
    for (shard, view) in shared.views().iter().enumerate() {
        assert_eq!(shared.usable(shard, Class::Read), view.read.standing == Standing::Up);
        assert_eq!(shared.usable(shard, Class::Write), view.write.standing == Standing::Up);
    }
}
