//! Which replica answers a read at `one`?
//!
//! Any that is up: first of this node's own zone, then the one with the least in flight. With
//! `mode: primary` the first of the replica set that is not agreed down, so that all nodes ask the
//! same one. One that is catching up lacks writes that the others have, and is asked last; its "I
//! have nothing" counts only if nobody else can be asked.
//!
//! Nothing is compared and nothing repaired: what is answered may be old (README, levels). But one
//! whose bytes prove to be damaged gets a hint, once another has given that version: what nobody can
//! give would be noted with each read anew, and its shards be *catching up* for as long as somebody
//! asks for it. The comparing of replicas sees to that.

use std::rc::Rc;

use super::super::outcome::{Failure, KeptFailure, Note};
use super::super::seam::Answer;
use super::super::view::Pool;
use super::conditions::Verdict;
use super::exchanges::Reply;
use super::serve::Serving;
use crate::cluster::Mode;
use crate::drivers::native::{Fault, Fetch, Held};
use crate::ids::Token;
use crate::level::REPLICAS_MAX;
use crate::protocol::health::Class;

/// The places of the replicas in the order in which they are asked for a value. `wanted` says which
/// may be asked at all.
pub(super) fn order(pool: &Pool, token: Token, wanted: impl Fn(usize) -> bool) -> Vec<usize> {
    let members = pool.agreed.replicas(token);
    let is_primary_first = pool.agreed.spec.mode == Mode::Primary;
    let rank = |place: usize| {
        let at = usize::from(members[place].0);
        let agreed = &pool.agreed.shards[at];
        let is_away = match is_primary_first {
            true => pool.health.verdict(at, Class::Read),
            false => !pool.health.usable(at, Class::Read),
        };
        let lags = agreed.catching_up || agreed.fresh;
        let is_far = pool.settings.zone.as_ref().is_some_and(|zone| *zone != agreed.zone);
        let load = if is_primary_first { 0 } else { pool.shards[at].in_flight() };
        (lags, is_away, !is_primary_first && is_far, load, place)
    };
    let mut ranks = [(false, false, false, 0, 0); REPLICAS_MAX];
    let mut count = 0;
    for place in (0..members.len()).filter(|place| wanted(*place)) {
        ranks[count] = rank(place);
        count += 1;
    }
    let ranks = &mut ranks[..count];
    ranks.sort_unstable();
    ranks.iter().map(|rank| rank.4).collect()
}

impl Serving<'_> {
    /// Answers from one replica after the other, until one has a word to say.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn one<A: Answer>(
        &self,
        answer: &mut A,
        note: &mut Note,
    ) -> Result<(), Failure> {
        let pool = self.job.pool();
        let token = self.job.token;
        let is_asked =
            |place: usize| pool.is_asked(usize::from(pool.agreed.replicas(token)[place].0));
        let order = order(&pool, token, is_asked);
        let mut has_nothing = false;
        let mut damaged = [None; REPLICAS_MAX];
        for (at, place) in order.iter().copied().enumerate() {
            let shard = self.job.shard(&pool, place);
            note.attempts += 1;
            note.shard = Some(shard);
            let Ok((held, fetch)) = self.look(place).await else { continue };
            note.upstream_status = if matches!(held, Held::Value(_)) { 200 } else { 404 };
            if let Held::Damaged(version) = held {
                // The next one may have it whole.
                damaged[place] = Some(version);
                continue;
            }
            let Held::Value(value) = held else {
                has_nothing = true;
                note.reached(1, None);
                let agreed = &pool.agreed.shards[shard];
                if agreed.catching_up || agreed.fresh {
                    continue;
                }
                break;
            };
            note.reached(1, Some(value.version));
            match self.request.conditions.judge(value.version, value.modified_ms) {
                Verdict::Proceed => {}
                Verdict::NotModified => {
                    return self.empty(answer, 304, Some(&value), Some(value.version)).await;
                }
                Verdict::Failed => return Err(Failure::Kept(KeptFailure::ConditionFailed)),
            }
            // Else it was overwritten between the two questions: the next one tells what is there.
            if let Ok(()) = self.value(&value, &order[at..], fetch, answer, note).await? {
                for (place, lost) in damaged.into_iter().enumerate() {
                    if let Some(version) = lost.filter(|lost| *lost <= value.version) {
                        self.job.hint(self.worker.hints.as_ref(), place, version);
                    }
                }
                return Ok(());
            }
        }
        match has_nothing && damaged.iter().all(Option::is_none) {
            true => Err(self.nothing()),
            false => Err(Failure::Kept(KeptFailure::NoReplica)),
        }
    }

    /// There is no such key.
    pub(super) fn nothing(&self) -> Failure {
        Failure::Kept(match self.request.conditions.judge_nothing() {
            Verdict::Failed => KeptFailure::ConditionFailed,
            Verdict::Proceed | Verdict::NotModified => {
                KeptFailure::NotFound(self.achieved.text().as_str().to_owned())
            }
        })
    }

    /// What a replica holds. Where the value is certainly wanted, it begins to come.
    async fn look(&self, place: usize) -> Result<(Held, Option<Box<Fetch>>), Fault> {
        let job = Rc::clone(self.job);
        let looked = match self.request.wants_whole() {
            true => job.look_and_fetch(place).await,
            false => job.look(place).await,
        };
        let Reply::Held(held) = looked else { unreachable!("that is what looking brings") };
        Ok((held?, self.job.fetched.take().map(|(_, fetch)| fetch)))
    }
}
