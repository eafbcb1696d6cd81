//! Which shard is asked next?
//!
//! Health decides which shard answers, never who owns a key. A read goes along the ring from the
//! key's owner on until a shard looks able to answer; the ring's order is the same on every node,
//! so failovers meet. A write goes to the owner or nowhere, unless the pool's keys are immutable:
//! a second copy of a mutable object could come back to life when the owner returns.
//!
//! Whose word moves a request is the pool's [`Mode`]:
//!
//! | | `any` | `primary` |
//! |---|---|---|
//! | a verdict: most nodes see the shard down | moves it | moves it |
//! | this node alone sees the shard down | moves it | does not: it goes there, and may fail |
//! | a read that failed there | is tried on the next | is tried on the next |
//! | a write that failed there | is tried on the next, if keys are immutable | has failed |
//!
//! So with `primary` all nodes ask the same shard first, the *active* one of the key, and one node
//! with a bad network card sends its writes nowhere else. The price is paid until the verdict: a
//! shard that hangs costs each read a time-out, and each write an error. When every shard is agreed
//! down, the verdicts say nothing of which is better, and the owner is active again. That follows
//! from what is agreed alone, and so is the same on every node; panic is not, and decides nothing
//! here but where a read is tried next.

use super::ease::Easing;
use super::view::Pool;
use crate::cluster::Mode;
use crate::ids::Token;
use crate::protocol::health::Class;

/// What a shard is chosen for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Where the key is on the circle.
    pub token: Token,
    /// Read or write.
    pub class: Class,
    /// So much of the pool looks down that health is not believed, and the ring's order alone
    /// counts.
    pub panic: bool,
    /// The time.
    pub now_ms: u64,
}

/// Why no shard can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoShard {
    /// Every shard that might answer was asked already, or looks down, or is in maintenance.
    NoneHealthy,
    /// The key's owner is down or in maintenance, and nobody else may take the write.
    OwnerDown,
}

/// A shard was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// Its place in the pool.
    pub shard: usize,
    /// Whether it is another than the key's owner.
    pub spilled: bool,
    /// Why one before it, which may be asked, was spared.
    pub spared: Option<Spared>,
}

/// Why a shard that may be asked is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spared {
    /// It has more in flight than its share of the pool's requests allows.
    Loaded,
    /// It is back since a short time, and does not have this key again yet.
    SlowStart,
}

/// Chooses a shard that is not in `tried`. For a read, shards that are to be spared are passed over, unless only such are left; see `ease`.
///
/// # Errors
/// [`NoShard`]; nothing was sent for this choice.
pub fn choose(pool: &Pool, asked: Asked, tried: &[usize]) -> Result<Chosen, NoShard> {
    let Asked { token, class, panic, now_ms } = asked;
    if pool.agreed.spec.mode == Mode::Primary {
        let active = active(pool, token, class)?;
        if !tried.contains(&active.shard) {
            return Ok(active);
        }
        if !may_go_on(pool, class) {
            return Err(NoShard::NoneHealthy);
        }
    }
    let usable =
        |shard: usize| !tried.contains(&shard) && (panic || pool.health.usable(shard, class));
    let chosen = first(pool, token, class, usable)?;
    // A write that went elsewhere would not be where it is looked for, once nobody is spared.
    if pool.eases && pool.agreed.spec.mode == Mode::Any && class == Class::Read {
        let easing = Easing { pool, token, class, panic, now_ms };
        if let Some(spared) = easing.spares(chosen.shard) {
            let spares_not = |shard| usable(shard) && easing.spares(shard).is_none();
            if let Ok(other) = first(pool, token, class, spares_not) {
                return Ok(Chosen { spared: Some(spared), ..other });
            }
        }
    }
    Ok(chosen)
}

fn owner(pool: &Pool, token: Token) -> usize {
    usize::from(pool.agreed.ring.replicas(token)[0].0)
}

/// Whether a request of this class that failed at one shard may be tried at another.
#[must_use]
pub fn may_go_on(pool: &Pool, class: Class) -> bool {
    class == Class::Read || (pool.agreed.spec.immutable && pool.agreed.spec.mode == Mode::Any)
}

/// The shard that all nodes ask first, by what is agreed alone.
fn active(pool: &Pool, token: Token, class: Class) -> Result<Chosen, NoShard> {
    let is_down = |shard: usize| pool.health.verdict(shard, class);
    let nearest = first(pool, token, class, |_| true)?;
    if !is_down(nearest.shard) {
        return Ok(nearest);
    }
    let in_service = |shard: &usize| !pool.in_maintenance(*shard);
    if (0..pool.shards.len()).filter(in_service).all(is_down) {
        return Ok(nearest);
    }
    first(pool, token, class, |shard| !is_down(shard))
}

/// The first shard on the ring that may take a request of this class, is in service, and that
/// `usable` lets pass.
fn first(
    pool: &Pool,
    token: Token,
    class: Class,
    usable: impl Fn(usize) -> bool,
) -> Result<Chosen, NoShard> {
    let usable = |shard: usize| !pool.in_maintenance(shard) && usable(shard);
    let ring = &pool.agreed.ring;
    let owner = owner(pool, token);
    if usable(owner) {
        return Ok(Chosen { shard: owner, spilled: false, spared: None });
    }
    if class == Class::Write && !pool.agreed.spec.immutable {
        return Err(NoShard::OwnerDown);
    }
    ring.order(token)
        .map(|shard| usize::from(shard.0))
        .find(|&shard| usable(shard))
        .map(|shard| Chosen { shard, spilled: true, spared: None })
        .ok_or(NoShard::NoneHealthy)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::view::{PoolSettings, View};
    use super::*;
    use crate::cluster::{
        AdminState, ClusterState, Command, Kind, Placement, PoolSpec, ShardSpec, Topology,
    };
    use crate::ids::{BaseUrl, PoolName, ShardId, Weight, Zone};
    use crate::protocol::health::{PerClass, ProbeFailure};

    const SHARDS: usize = 5;

    fn view(mode: Mode, immutable: bool, maint: Option<usize>) -> View {
        let shard = |number: usize| {
            let spec = ShardSpec {
                url: BaseUrl::parse(&format!("http://s{number}")).expect("a URL"),
                zone: Zone::default(),
                weight: Weight::ONE,
                state: if maint == Some(number) { AdminState::Maint } else { AdminState::Ready },
                ketama_name: None,
            };
            (ShardId::new(&format!("s{number}")).expect("a name"), spec)
        };
        let spec = PoolSpec {
            kind: Kind::Cache,
            placement: Placement::Ring,
            hash_seed: "seed".to_owned(),
            vnodes: 16,
            immutable,
            mode,
            kept: None,
        };
        let pool = PoolName::new("p").expect("a name");
        let shards = (0..SHARDS).map(shard).collect();
        let mut state = ClusterState::default();
        state.apply_command(&Command::CreatePool { pool, spec, shards }).expect("a pool");
        let topology = Arc::new(Topology::build(&state, None).expect("a topology"));
        View::build(topology, None, 1, |_| Arc::new(PoolSettings::default()))
    }

    /// What is known of a shard, in the order of the ring from the key's owner on.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Known {
        Well,
        /// This node's probes have it down.
        Suspect,
        /// It is agreed down.
        Agreed,
        Maint,
    }

    /// The places that `choose` names one after the other, as distances from the owner.
    fn order_of_trying(mode: Mode, immutable: bool, class: Class, known: &[Known]) -> Vec<usize> {
        let token = Token(0x1234_5678_9abc_def0);
        let of = |view: &View| -> Vec<usize> {
            view.pools[0].agreed.ring.order(token).map(|shard| usize::from(shard.0)).collect()
        };
        let order = of(&view(mode, immutable, None));
        let maint = known.iter().position(|known| *known == Known::Maint);
        let view = view(mode, immutable, maint.map(|distance| order[distance]));
        let pool = &view.pools[0];
        let mut agreed = [PerClass::default(); SHARDS];
        for (distance, known) in known.iter().enumerate() {
            match known {
                Known::Agreed => agreed[order[distance]] = PerClass { read: true, write: true },
                Known::Suspect => {
                    for _ in 0..3 {
                        let failed = Err(ProbeFailure::Connect);
                        pool.health.probe_result(1, order[distance], failed);
                    }
                }
                Known::Well | Known::Maint => {}
            }
        }
        pool.health.set_agreed(&agreed);
        let panic = pool.health.in_panic(class);
        let (mut tried, mut distances) = (Vec::new(), Vec::new());
        let asked = Asked { token, class, panic, now_ms: 0 };
        while let Ok(chosen) = choose(pool, asked, &tried) {
            let distance = order.iter().position(|shard| *shard == chosen.shard);
            distances.push(distance.expect("every shard is on the ring"));
            assert_eq!(chosen.spilled, distance != Some(0));
            tried.push(chosen.shard);
            if !may_go_on(pool, class) {
                break;
            }
        }
        distances
    }

    #[test]
    fn the_mode_says_whose_word_moves_a_request() {
        use Known::{Agreed, Maint, Suspect, Well};
        let all = [0, 1, 2, 3, 4];
        // What is known; then reads, writes where keys are immutable, other writes: in `any` and
        // in `primary`.
        type Tries<'a> = [&'a [usize]; 3];
        let table: [(&[Known], Tries<'_>, Tries<'_>); 7] = [
            (&[Well], [&all, &all, &[0]], [&all, &[0], &[0]]),
            (
                &[Suspect],
                [&[1, 2, 3, 4], &[1, 2, 3, 4], &[]],
                // Suspicion moves no first try; it says where a read is tried next.
                [&[0, 1, 2, 3, 4], &[0], &[0]],
            ),
            (&[Agreed], [&[1, 2, 3, 4], &[1, 2, 3, 4], &[]], [&[1, 2, 3, 4], &[1], &[]]),
            (&[Agreed, Suspect], [&[2, 3, 4], &[2, 3, 4], &[]], [&[1, 2, 3, 4], &[1], &[]]),
            (&[Maint, Agreed], [&[2, 3, 4], &[2, 3, 4], &[]], [&[2, 3, 4], &[2], &[]]),
            // More than half: panic, in which the ring's order counts; but not for the first try
            // of a pool in `primary`, which is the same on every node.
            (&[Agreed, Agreed, Agreed], [&all, &all, &[0]], [&[3, 0, 1, 2, 4], &[3], &[]]),
            (&[Agreed; SHARDS], [&all, &all, &[0]], [&all, &[0], &[0]]),
        ];
        for (known, any, primary) in table {
            for (mode, expected) in [(Mode::Any, any), (Mode::Primary, primary)] {
                let columns = [(Class::Read, false), (Class::Write, true), (Class::Write, false)];
                for ((class, immutable), expected) in columns.into_iter().zip(expected) {
                    let tries = order_of_trying(mode, immutable, class, known);
                    assert_eq!(tries, expected, "{known:?}: {mode:?}, {class:?}, {immutable}");
                }
            }
        }
    }

    /// A node without a cluster is a group of one.
    #[test]
    fn standalone_the_own_probes_are_the_verdict_and_requests_are_not() {
        use crate::protocol::health::{Observation, Outcome};
        let view = view(Mode::Primary, true, None);
        let pool = &view.pools[0];
        let token = Token(7);
        let asked = Asked { token, class: Class::Write, panic: false, now_ms: 0 };
        let put = || choose(pool, asked, &[]).expect("a shard");
        let owner = put().shard;
        for key in 0..10 {
            let outcome = Outcome::answered(500);
            let seen = Observation { class: Class::Write, key: Token(key), begun_ms: 1, outcome };
            pool.health.observe(1, owner, &seen);
        }
        assert!(!pool.health.usable(owner, Class::Write), "it is ejected");
        assert_eq!(put().shard, owner);
        for _ in 0..3 {
            pool.health.probe_result(2, owner, Err(ProbeFailure::Connect));
        }
        assert_ne!(put().shard, owner);
    }
}
