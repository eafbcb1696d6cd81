//! How are all replicas of a pool compared, and brought to the newest?
//!
//! Fold by fold: sums of folds, of slots, pages of keys, and copies. A key that differs in a page
//! may be one that is just being written: so all its replicas are asked once more before anything
//! is concluded. A shard that does not answer is left out for the rest of the pass, since to wait
//! for it at each of 256 folds would take minutes; and the pass is not *whole* for it.
//!
//! A pass can be broken off at any point. The fold that it came to stands in a file of the node's
//! folder, and the next scheduled pass of the pool goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::copy::{Brought, CopyError, bring, tell_lost};
use super::fill::conclude;
use super::metrics::Cause;
use super::passes::{EXAMPLES_MAX, Pass, PassEnd, PassKind};
use super::pool::PoolNow;
use super::world::World;
use crate::disk::atomic::replace;
use crate::ids::{Epoch, PoolName, StoreId, Token};
use crate::protocol::anti_entropy::{
    Circle, Difference, FOLD_SLOTS, FOLDS, Members, Merge, Run, Told, differ, mend,
};
use crate::protocol::quorum::majority;
use crate::protocol::read::Record;
use crate::protocol::replica::{Entry, Sum};
use crate::ring::ShardIx;
use crate::version::{Stamp, Version};

/// Keys of one page.
const PAGE_KEYS: usize = 500;

/// Keys that are mended at once.
const MENDS_MAX: usize = 8;

/// A key that differs is looked at again after this: a write that is under way has ended by then.
const SECOND_LOOK: Duration = Duration::from_millis(250);

/// Bytes of one sum, and about those of a key in a page: what reading them is reckoned at.
const SUM_BYTES: u64 = 24;
const ENTRY_BYTES: u64 = 256;

/// What is held up where values are lost, for people.
const LOST: &str = "the healing of some keys";

/// Folds between two notes of how far a pass has come.
const NOTE_FOLDS: u32 = 8;

/// A pass under way.
struct Progress {
    pass: Pass,
    begun_us: u64,
    /// The pool's epoch, and the store that each of its shards had, when the pass began.
    begun_with: Option<(Epoch, Vec<Option<StoreId>>)>,
    /// Shards that failed to answer.
    away: BTreeSet<usize>,
    /// Shards of which some slot was compared with too few others to be sure that it lacks nothing
    /// that was acknowledged.
    unsure: BTreeSet<usize>,
    /// Of what could not be brought, the oldest.
    unrepaired: Option<Stamp>,
    /// Some keys that are lost in their newest version, and of which a replica has an older one.
    spared: BTreeSet<String>,
}

/// What came of one key.
#[derive(Debug, Default)]
struct Mended {
    differs: bool,
    copied: u64,
    bytes: u64,
    failed: u64,
    /// Nobody has the newest value whole.
    lost: bool,
    /// The key, if it is lost and a replica keeps an older value of it.
    spared: Option<String>,
    stuck: bool,
    stamp: Stamp,
}

/// What is to be brought of one key, and to whom.
struct Plan {
    record: Record,
    from: Vec<usize>,
    to: Vec<usize>,
    stuck: Vec<usize>,
    /// Nobody can give it: the word of it is what is brought.
    is_lost: bool,
    /// An older value of what is lost, which is brought first.
    rescued: Option<Rescued>,
    /// Fresh stores that are not told of what is lost yet, and so cannot count yet.
    waiting: u64,
    /// A replica keeps an older value of what is lost.
    is_spared: bool,
    /// Replicas that lack it for all that is known, and are silent; or may have it.
    unseen: u64,
    /// Whether all replicas have told.
    is_known: bool,
}

/// An older value, which some have and others are to have.
struct Rescued {
    version: Version,
    from: Vec<usize>,
    to: Vec<usize>,
}

/// Sees to it that a pass ends for all who look, also if its task meets a defect: else no other would
/// ever be begun.
struct Shown {
    world: Rc<World>,
    name: PoolName,
    id: u64,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.world.passes.abandon(&self.name, self.id);
    }
}

/// Runs a pass to its end.
pub(super) async fn run(world: Rc<World>, name: PoolName, pass: Pass) {
    let _shown = Shown { world: Rc::clone(&world), name: name.clone(), id: pass.id };
    let begun_us = world.now_us();
    let lost_before = world.parts.hints.counts().lost;
    let mut progress = Progress {
        pass,
        begun_us,
        begun_with: None,
        away: BTreeSet::new(),
        unsure: BTreeSet::new(),
        unrepaired: None,
        spared: BTreeSet::new(),
    };
    let first = match progress.pass.kind {
        PassKind::Scheduled => note_of(&world, &name),
        PassKind::Asked | PassKind::Fill | PassKind::Doubt => 0,
    };
    let failed = folds(&world, &name, &mut progress, first).await.err();
    progress.pass.end = failed.map_or(PassEnd::Done, PassEnd::Failed);
    let whole = progress.pass.end == PassEnd::Done && !progress.pass.dry_run;
    if whole {
        world.counts.unrepaired(&name, progress.unrepaired);
    }
    if whole
        && first == 0
        && progress.pass.failed == 0
        && let Some(pool) = world.pool(&name)
        && still_the_same(&mut progress, &pool).is_ok()
    {
        let sure =
            |shard: &usize| !progress.away.contains(shard) && !progress.unsure.contains(shard);
        let sure: Vec<usize> = (0..pool.seats.len()).filter(sure).collect();
        conclude(&world, &pool, &sure, lost_before).await;
    }
    tell(&world, &name, &progress, first == 0);
    show(&world, &name, &mut progress);
}

fn show(world: &World, name: &PoolName, progress: &mut Progress) {
    progress.pass.took_ms = world.now_us().saturating_sub(progress.begun_us) / 1000;
    world.passes.show(name, &progress.pass);
}

/// Tells what a pass came to; `is_full`: it began at the beginning.
fn tell(world: &World, name: &PoolName, progress: &Progress, is_full: bool) {
    let Progress { pass, spared, .. } = progress;
    let Pass { pool, keys_differing, copied, bytes, failed, lost, away, .. } = pass;
    if pass.end == PassEnd::Done && away.is_empty() && !pass.dry_run && is_full {
        let keys = spared.iter().map(|key| format!("/{key}")).collect::<Vec<String>>().join(", ");
        let why = "their newest version is damaged wherever it is held, and another replica has an \
                   older one; write them again, or delete them";
        world.held_up(name, LOST, (!spared.is_empty()).then(|| format!("{keys}: {why}")));
    }
    let why = match &pass.end {
        PassEnd::Failed(why) => Some(why.clone()),
        _ if !away.is_empty() => Some(format!("no answer everywhere from {}", away.join(", "))),
        _ if *failed > 0 && !pass.dry_run => Some("not all could be brought".to_owned()),
        _ => None,
    };
    world.held_up(name, "the comparison of replicas", why);
    match &pass.end {
        // Said already.
        PassEnd::Failed(_) => {}
        _ if *keys_differing > 0 || *failed > 0 || !away.is_empty() => tracing::info!(
            %pool,
            keys_differing,
            copied,
            bytes,
            failed,
            lost,
            away = away.join(", "),
            "repair has compared all replicas"
        ),
        _ => tracing::debug!(%pool, "repair has found all replicas alike"),
    }
}

/// Goes through the folds from `first` on.
async fn folds(
    world: &Rc<World>,
    name: &PoolName,
    progress: &mut Progress,
    first: u32,
) -> Result<(), String> {
    progress.pass.slots = first * FOLD_SLOTS;
    for fold in first..FOLDS {
        let pool = world.pool(name).ok_or("the pool is no more")?;
        still_the_same(progress, &pool)?;
        one_fold(world, &pool, u8::try_from(fold).expect("256 folds"), progress).await;
        progress.pass.slots += FOLD_SLOTS;
        let named = progress.away.iter().map(|shard| pool.seats[*shard].shard.to_string());
        progress.pass.away = named.collect();
        show(world, name, progress);
        if progress.pass.kind == PassKind::Scheduled && (fold + 1) % NOTE_FOLDS == 0 {
            note(world, name, (fold + 1) % FOLDS);
        }
    }
    Ok(())
}

/// Whether the pool is that with which the pass began. A shard that has got another store meanwhile
/// was compared by its former one so far: of the fresh one it must not be said that it is filled.
fn still_the_same(progress: &mut Progress, pool: &PoolNow) -> Result<(), String> {
    let stores: Vec<_> = pool.agreed.shards.iter().map(|shard| shard.store).collect();
    let (epoch, before) =
        progress.begun_with.get_or_insert_with(|| (pool.agreed.epoch, stores.clone()));
    if *epoch != pool.agreed.epoch || before.len() != stores.len() {
        return Err("the pool's ring has changed meanwhile".to_owned());
    }
    let changed = before.iter().zip(&stores).enumerate().filter(|(_, (old, new))| old != new);
    progress.unsure.extend(changed.map(|(shard, _)| shard));
    Ok(())
}

/// Asks shards for the sums of a fold, at once. Who does not answer is away from now on.
async fn sums(
    world: &Rc<World>,
    pool: &Rc<PoolNow>,
    fold: u8,
    shards: &[u16],
    in_one: u32,
    progress: &mut Progress,
) -> BTreeMap<u16, Vec<Sum>> {
    let mut asked = JoinSet::new();
    for shard in shards {
        let at = usize::from(*shard);
        if progress.away.contains(&at) {
            continue;
        }
        if pool.agreed.shards[at].store.is_none() {
            progress.away.insert(at);
            continue;
        }
        let (world, pool, shard) = (Rc::clone(world), Rc::clone(pool), *shard);
        asked.spawn_local(async move {
            let replica = pool.replica(at).expect("looked at above");
            let from = u32::from(fold) * FOLD_SLOTS;
            let timer = world.timer();
            let begun_us = world.now_us();
            let sums = replica.digests(&world.means, &timer, from, FOLD_SLOTS, in_one).await;
            world.answered(&pool, begun_us);
            (shard, sums)
        });
    }
    let mut found = BTreeMap::new();
    while let Some(joined) = asked.join_next().await {
        match joined {
            Ok((shard, Ok(sums))) => {
                found.insert(shard, sums);
            }
            Ok((shard, Err(fault))) => {
                tracing::debug!(pool = %pool.name(), shard, %fault, "no digests");
                progress.away.insert(usize::from(shard));
            }
            // A task of ours that panicked: the shard has not answered.
            Err(error) => tracing::error!(%error, "asking for digests"),
        }
    }
    let slots = u64::from(FOLD_SLOTS / in_one);
    world.pay(pool, found.len() as u64 * slots * SUM_BYTES).await;
    found
}

async fn one_fold(world: &Rc<World>, pool: &Rc<PoolNow>, fold: u8, progress: &mut Progress) {
    let agreed = Rc::clone(pool);
    let set_of = |slot: u16| -> Vec<u16> {
        let replicas = agreed.agreed.replicas(Token(u64::from(slot) << 48));
        replicas.iter().map(|ShardIx(shard)| *shard).collect()
    };
    let circle = Circle::new(set_of);
    let shards = match circle.members(fold) {
        Members::Same(shards) => {
            let found = sums(world, pool, fold, &shards, FOLD_SLOTS, progress).await;
            judge_answers(pool, &shards, &found, progress);
            if !differ(found.values().filter_map(|sums| sums.first().copied())) {
                return;
            }
            shards
        }
        Members::Mixed(shards) => shards,
    };
    let found = sums(world, pool, fold, &shards, 1, progress).await;
    for slot in 0..=u8::MAX {
        let members = circle.shards((u16::from(fold) << 8) | u16::from(slot));
        judge_answers(pool, &members, &found, progress);
    }
    for run in circle.differing(fold, &found) {
        progress.pass.slots_differing += u32::from(run.last - run.first) + 1;
        compare(world, pool, &run, progress).await;
    }
}

/// Notes which shards of a replica set cannot be said to lack nothing, given who answered.
///
/// A write that was acknowledged stands on a majority of the N, and of those at most one is the
/// shard that is looked at, or the store that it replaced. So with N − majority + 1 of the others,
/// one of them has it. What a fresh store says counts for nothing.
fn judge_answers(
    pool: &PoolNow,
    members: &[u16],
    found: &BTreeMap<u16, Vec<Sum>>,
    progress: &mut Progress,
) {
    let replicas = members.len();
    let needed = replicas - majority(replicas) + 1;
    for shard in members {
        let others = members.iter().filter(|other| {
            let knows = !pool.agreed.shards[usize::from(**other)].fresh;
            *other != shard && knows && found.contains_key(other)
        });
        if replicas > 1 && (others.count() < needed || !found.contains_key(shard)) {
            progress.unsure.insert(usize::from(*shard));
        }
    }
}

/// Lays the keys of a run side by side.
async fn compare(world: &Rc<World>, pool: &Rc<PoolNow>, run: &Run, progress: &mut Progress) {
    let shards: Vec<usize> = run.shards.iter().map(|shard| usize::from(*shard)).collect();
    let mut merge = Merge::new(shards.len(), run.tokens());
    let mut cursors: Vec<Option<String>> = vec![None; shards.len()];
    let mut mends: JoinSet<Mended> = JoinSet::new();
    let compared_before = progress.pass.keys;
    loop {
        while let Some(at) = merge.wants() {
            let replica = pool.replica(shards[at]).expect("it has answered");
            let (timer, cursor) = (world.timer(), cursors[at].take());
            let page = replica
                .keys(&world.means, &timer, run.tokens(), cursor.as_deref(), PAGE_KEYS)
                .await;
            let taken = match page {
                Ok(page) => {
                    world.pay(pool, page.keys.len() as u64 * ENTRY_BYTES).await;
                    let is_last = page.next.is_none();
                    cursors[at] = page.next;
                    merge.page(at, page.keys, is_last).map_err(|error| error.to_string())
                }
                Err(fault) => Err(fault.to_string()),
            };
            if let Err(why) = taken {
                // Without it nothing can be said of this run; with it away, the next ones can.
                let shard = &pool.seats[shards[at]].shard;
                tracing::debug!(pool = %pool.name(), %shard, why, "no page of keys");
                progress.away.insert(shards[at]);
                progress.unsure.extend(&shards);
                finish(&mut mends, 0, progress).await;
                return;
            }
        }
        match merge.next() {
            Some(difference) => {
                finish(&mut mends, MENDS_MAX - 1, progress).await;
                if progress.pass.examples.len() < EXAMPLES_MAX {
                    progress.pass.examples.push(difference.newest.key.clone());
                }
                let (world, pool) = (Rc::clone(world), Rc::clone(pool));
                let (shards, dry_run) = (shards.clone(), progress.pass.dry_run);
                mends.spawn_local(mended(world, pool, shards, difference, dry_run));
            }
            None if merge.is_done() => break,
            None => {}
        }
        progress.pass.keys = compared_before + merge.compared();
        show(world, pool.name(), progress);
    }
    progress.pass.keys = compared_before + merge.compared();
    finish(&mut mends, 0, progress).await;
}

/// Waits until at most `left` keys are being mended.
async fn finish(mends: &mut JoinSet<Mended>, left: usize, progress: &mut Progress) {
    while mends.len() > left {
        let Some(done) = mends.join_next().await else { return };
        let Ok(Mended { differs, copied, bytes, failed, lost, spared, stuck, stamp }) = done else {
            progress.pass.failed += 1;
            continue;
        };
        // The first by name, so that the next pass finds the same.
        progress.spared.extend(spared);
        if progress.spared.len() > EXAMPLES_MAX {
            progress.spared.pop_last();
        }
        let pass = &mut progress.pass;
        pass.keys_differing += u64::from(differs);
        pass.copied += copied;
        pass.bytes += bytes;
        pass.failed += failed;
        pass.lost += u64::from(lost);
        pass.stuck += u64::from(stuck);
        if failed > 0 {
            let oldest = progress.unrepaired.map_or(stamp, |oldest| oldest.min(stamp));
            progress.unrepaired = Some(oldest);
        }
    }
}

/// Brings one key to where it lacks.
async fn mended(
    world: Rc<World>,
    pool: Rc<PoolNow>,
    shards: Vec<usize>,
    difference: Difference,
    dry_run: bool,
) -> Mended {
    let newest = difference.newest.clone();
    let plan = match plan(&world, &pool, &shards, difference, dry_run).await {
        Ok(plan) => plan,
        Err(alike) => return alike,
    };
    let stamp = plan.record.version.stamp;
    let failed = plan.unseen + plan.waiting;
    let mut done = Mended { differs: true, failed, stamp, ..Mended::default() };
    world.counts.differing(pool.name());
    if let Some(stuck) = plan.stuck.first() {
        done.stuck = true;
        tracing::error!(
            pool = %pool.name(),
            key = newest.key,
            version = %plan.record.version,
            shard = %pool.seats[*stuck].shard,
            "a replica has forgotten deletions that are newer than a value which others have, and \
             takes it no more: please report this"
        );
    }
    // One that is silent may have it yet.
    if plan.is_lost && plan.is_known {
        done.lost = true;
        done.spared = plan.is_spared.then(|| newest.key.clone());
        world.counts.lost(pool.name());
    }
    if dry_run {
        return done;
    }
    match (plan.is_lost, &plan.rescued) {
        (false, _) => {
            bring_all(&world, &pool, &newest, plan.record, (&plan.from, &plan.to), &mut done).await;
        }
        (true, rescued) => {
            if let Some(Rescued { version, from, to }) = rescued {
                let record = Record { version: *version, is_tombstone: false };
                bring_all(&world, &pool, &newest, record, (from, to), &mut done).await;
            }
            tell_all(&world, &pool, &newest, &plan, &mut done).await;
        }
    }
    done
}

/// Brings a record of the key to each of those.
async fn bring_all(
    world: &World,
    pool: &PoolNow,
    key: &Entry,
    record: Record,
    (from, to): (&[usize], &[usize]),
    done: &mut Mended,
) {
    for shard in to.iter().copied() {
        let place = (key.key.as_str(), key.token);
        match bring_from(world, pool, place, record, (from, shard)).await {
            Ok(brought) => {
                done.copied += u64::from(brought.applied);
                done.bytes += brought.bytes;
                let id = &pool.seats[shard].shard;
                world.counts.brought(pool.name(), id, Cause::AntiEntropy, brought.bytes);
            }
            Err(error) => not_brought(world, pool, &key.key, shard, &error, done),
        }
    }
}

/// Looks what is to be done about a key. If nothing is: what came of that.
async fn plan(
    world: &Rc<World>,
    pool: &Rc<PoolNow>,
    shards: &[usize],
    difference: Difference,
    dry_run: bool,
) -> Result<Plan, Mended> {
    let Difference { newest, holders, damaged, older, absent } = difference;
    let record = Record { version: newest.version, is_tombstone: newest.tombstone };
    let lacking = damaged.iter().chain(&older).chain(&absent);
    let lacking: Vec<usize> = lacking.map(|at| shards[*at]).collect();
    let holders: Vec<usize> = holders.iter().map(|at| shards[*at]).collect();
    let is_fresh = |shard: &usize| pool.agreed.shards[*shard].fresh;
    // A fresh store lacks it for certain; of others it may be on its way.
    if lacking.iter().all(is_fresh) && !holders.is_empty() && !dry_run {
        let (from, to, stuck) = (holders, lacking, Vec::new());
        return Ok(Plan {
            record,
            from,
            to,
            stuck,
            is_lost: false,
            rescued: None,
            waiting: 0,
            is_spared: false,
            unseen: 0,
            is_known: true,
        });
    }
    tokio::time::sleep(SECOND_LOOK).await;
    let looked = world.look(pool, &newest.key, newest.token).await;
    let held: Vec<_> = looked.iter().map(|(_, held)| held.clone().ok()).collect();
    let mend = mend(&held);
    let is_lost = mend.as_ref().is_some_and(|mend| mend.is_lost);
    // One that lacked it and is silent now lacks it still, for all that is known; and one that had it
    // may be all that is left of it.
    let is_unseen = |(shard, held): &&(usize, Result<_, _>)| {
        held.is_err() && (lacking.contains(shard) || (is_lost && holders.contains(shard)))
    };
    let unseen = looked.iter().filter(is_unseen).count() as u64;
    let Some(mend) = mend.filter(|mend| !mend.is_alike()) else {
        return Err(Mended { failed: unseen, stamp: record.version.stamp, ..Mended::default() });
    };
    let places = |at: &[usize]| at.iter().map(|at| looked[*at].0).collect::<Vec<usize>>();
    let told = match is_lost {
        true => mend.told(&held, |at| is_fresh(&looked[at].0)),
        false => Told { to: mend.to, ..Told::default() },
    };
    let rescued = told.rescued.map(|(version, from, to)| {
        let (from, to) = (places(&from), places(&to));
        Rescued { version, from, to }
    });
    Ok(Plan {
        record: mend.newest,
        from: places(&mend.holders),
        to: places(&told.to),
        // Who has forgotten a value that is lost had its slot collected while others hid that they
        // hold it damaged, as those of layout 3 did. Nothing can be done, and nothing is left undone.
        stuck: if is_lost { Vec::new() } else { places(&mend.stuck) },
        is_lost,
        is_spared: !told.spared.is_empty() || (rescued.is_none() && !told.waiting.is_empty()),
        rescued,
        waiting: told.waiting.len() as u64,
        unseen,
        is_known: held.iter().all(Option::is_some),
    })
}

/// Has those that lack it know of a value that nobody can give any more.
async fn tell_all(world: &World, pool: &PoolNow, value: &Entry, plan: &Plan, done: &mut Mended) {
    for shard in plan.to.iter().copied() {
        // Another one was written meanwhile, of which too little is known: the next pass.
        let told = match value.version == plan.record.version {
            true => tell_lost(world, pool, value, shard).await,
            false => Err(CopyError::Gone),
        };
        if let Err(error) = told {
            not_brought(world, pool, &value.key, shard, &error, done);
        }
    }
    // Told once: from then on all replicas are alike.
    if done.lost && !plan.to.is_empty() {
        tracing::error!(
            pool = %pool.name(),
            key = value.key,
            version = %value.version,
            "every replica that has this value has it damaged, and reads of it fail: write it \
             again, or delete it"
        );
    }
}

fn not_brought(
    world: &World,
    pool: &PoolNow,
    key: &str,
    shard: usize,
    error: &CopyError,
    done: &mut Mended,
) {
    done.failed += 1;
    world.counts.failure(pool.name());
    let shard = &pool.seats[shard].shard;
    tracing::debug!(pool = %pool.name(), %shard, key, %error, "not brought");
}

/// Brings a record from the first that can give it.
async fn bring_from(
    world: &World,
    pool: &PoolNow,
    place: (&str, Token),
    record: Record,
    (from, to): (&[usize], usize),
) -> Result<Brought, CopyError> {
    let mut result = Err(CopyError::Gone);
    for giver in from {
        result = bring(world, pool, place, record, (*giver, to)).await;
        if matches!(result, Ok(_) | Err(CopyError::To(_) | CopyError::Forgotten)) {
            break;
        }
    }
    result
}

fn note_file(world: &World, pool: &PoolName) -> PathBuf {
    world.parts.folder.join(format!("repair-{pool}.next"))
}

/// The fold at which a scheduled pass goes on.
fn note_of(world: &World, pool: &PoolName) -> u32 {
    let text = std::fs::read_to_string(note_file(world, pool)).unwrap_or_default();
    // A note that cannot be read costs a pass from the beginning.
    text.trim().parse().ok().filter(|fold| *fold < FOLDS).unwrap_or(0)
}

fn note(world: &World, pool: &PoolName, fold: u32) {
    let file = note_file(world, pool);
    if let Err(error) = replace(&file, format!("{fold}\n").as_bytes(), 0o600) {
        tracing::debug!("{}: {error}", file.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::background::heal::tests::{pool_with, store};

    #[test]
    fn a_shard_that_gets_another_store_is_not_sure_to_be_filled() {
        let name = PoolName::new("p").expect("a name");
        let mut progress = Progress {
            pass: Pass::asked_for(1, &name, PassKind::Fill, false, 0),
            begun_us: 0,
            begun_with: None,
            away: BTreeSet::new(),
            unsure: BTreeSet::new(),
            unrepaired: None,
            spared: BTreeSet::new(),
        };
        let stores = [Some(store(1)), Some(store(2)), Some(store(3))];
        let same = |progress: &mut Progress, stores: &[_]| {
            still_the_same(progress, &pool_with(stores)).expect("the same ring");
            progress.unsure.iter().copied().collect::<Vec<_>>()
        };
        assert_eq!(same(&mut progress, &stores), Vec::<usize>::new());
        assert_eq!(same(&mut progress, &[stores[0], None, stores[2]]), [1]);
        // Bound anew, it is another one; and what was once unsure stays so.
        assert_eq!(same(&mut progress, &[stores[0], Some(store(9)), stores[2]]), [1]);
        assert_eq!(same(&mut progress, &stores), [1]);
    }
}
