//! What does a command do?

use std::sync::Arc;

use super::bounds::{Bound, CHANGES_MAX, VERDICTS_MAX};
use super::command::{Change, Command};
use super::draft::{Checked, Draft};
use super::envelope::Envelope;
use super::history::Record;
use super::placed::TableChange;
use super::pool::{PoolState, Verdict};
use super::refusal::{Applied, Refusal};
use super::session::Seen;
use super::state::ClusterState;
use super::summary::summary;
use crate::ids::{CommandId, Epoch, FeatureLevel, PlanId, PoolName, Revision, ShardId};

impl ClusterState {
    /// Applies one entry of the cluster's log. `at` is its index, and becomes the revision unless
    /// the state is there already; the revision never goes back.
    ///
    /// An envelope whose id was seen before changes nothing and gets the first answer, with
    /// [`Applied::repeated`] set.
    ///
    /// # Errors
    /// [`Refusal`]; the state is as it was, but for remembering the refusal.
    pub fn apply(&mut self, at: Revision, envelope: &Envelope) -> Result<Applied, Refusal> {
        if let Some(id) = &envelope.id
            && let Seen::Before(answer) = self.seen(id)?
        {
            return answer.map(|applied| Applied { repeated: true, ..applied });
        }
        // A plan is told by what it does, which is staged no more when it is done.
        let summary = summary(self, &envelope.command);
        let revision = at.max(self.revision.next());
        let answer = self
            .check_level(&envelope.command)
            .and_then(|()| self.carry_out(revision, &envelope.command, &[]));
        if let Ok(applied) = &answer
            && !applied.repeated
        {
            let record = Record {
                revision: applied.revision,
                at_ms: envelope.at_ms,
                actor: envelope.actor.clone(),
                summary,
                epochs: applied.pools.clone(),
            };
            self.history.add(envelope.command.is_routine(), record);
        }
        if let Some(id) = &envelope.id {
            self.remember(id, &answer);
        }
        answer
    }

    /// Applies one command of a node that has no cluster, and so nobody who could repeat it: the
    /// revision moves by one.
    ///
    /// # Errors
    /// [`Refusal`]; the state is as it was.
    pub fn apply_command(&mut self, command: &Command) -> Result<Applied, Refusal> {
        self.carry_out(self.revision.next(), command, &[])
    }

    fn seen(&self, id: &CommandId) -> Result<Seen, Refusal> {
        self.sessions.get(&id.node).ok_or(Refusal::Superseded)?.look_up(id)
    }

    fn remember(&mut self, id: &CommandId, answer: &Result<Applied, Refusal>) {
        // The command may have ended the session that it came by.
        if let Some(session) = self.sessions.get_mut(&id.node)
            && session.look_up(id).is_ok()
        {
            Arc::make_mut(session).remember(id.sequence, answer.clone());
        }
    }

    /// Whether every node of the cluster understands a command. Whoever proposes asks first: in
    /// the log of a node that does not it would be an entry that cannot be read.
    ///
    /// # Errors
    /// [`Refusal::Level`].
    pub fn check_level(&self, command: &Command) -> Result<(), Refusal> {
        let (needs, agreed) = (command.feature_level(), self.feature_level);
        if needs > agreed { Err(Refusal::Level { needs, agreed }) } else { Ok(()) }
    }

    /// Does all of a command, or nothing.
    fn carry_out(
        &mut self,
        revision: Revision,
        command: &Command,
        tables: &[TableChange],
    ) -> Result<Applied, Refusal> {
        let mut applied = match command {
            Command::CreatePool { pool, spec, shards } => {
                self.draft(tables, |draft| draft.create_pool(pool, spec, shards))?
            }
            Command::SetPool { pool, spec } => {
                self.draft(tables, |draft| draft.set_pool(pool, spec))?
            }
            Command::RemovePool { pool } => self.draft(tables, |draft| draft.remove_pool(pool))?,
            Command::SetShards { pool, put, remove } => {
                self.draft(tables, |draft| draft.set_shards(pool, put, remove))?
            }
            Command::Found { cluster, node, address, settings } => {
                self.found(revision, *cluster, node, address, settings)?
            }
            Command::AddNode { name, address, role, nonce } => {
                self.add_node(revision, name, address, *role, *nonce)?
            }
            Command::SetNode { node, name, address, role } => {
                self.set_node(*node, name.as_ref(), address.as_ref(), *role)?
            }
            Command::RemoveNode { node } => self.remove_node(*node)?,
            Command::BeginIncarnation { node, after, address, version, feature_level } => {
                self.begin(*node, *after, address, version, *feature_level)?
            }
            Command::SetVerdicts { term: _, verdicts } => self.set_verdicts(verdicts)?,
            Command::RaiseBarriers { term: _, barriers } => self.raise_barriers(barriers)?,
            Command::SetSettings { settings } => {
                settings.check()?;
                self.put_settings(settings);
                Applied::default()
            }
            Command::RaiseFeatureLevel { level } => self.raise_level(*level)?,
            Command::Stage { changes } => self.stage(changes)?,
            Command::Unstage => {
                self.staged = Arc::default();
                Applied::default()
            }
            Command::ApplyPlan { plan } => self.apply_plan(*plan, tables)?,
            Command::ChangeNow { changes } => self.change_now(changes, tables)?,
            Command::Placed { command, tables } => {
                return match **command {
                    Command::Placed { .. } => Err(Refusal::PlacedTwice),
                    _ => self.carry_out(revision, command, tables),
                };
            }
            Command::MarkFilled { pool } => self.mark_filled(pool)?,
            Command::AdoptPool { pool, born, fresh } => self.adopt_pool(pool, *born, fresh)?,
            Command::BindStore { pool, shard, store } => self.bind_store(pool, shard, *store)?,
            Command::MarkStore { pool, shard, store, mark } => {
                self.mark_store(pool, shard, *store, *mark)?
            }
        };
        if !applied.repeated {
            self.revision = revision;
        }
        applied.revision = self.revision;
        Ok(applied)
    }

    fn draft(
        &mut self,
        tables: &[TableChange],
        change: impl FnOnce(&mut Draft<'_>) -> Result<(), Refusal>,
    ) -> Result<Applied, Refusal> {
        let mut draft = Draft::of(self);
        change(&mut draft)?;
        let checked = self.with_tables(draft.check()?, tables)?;
        Ok(Applied { pools: self.put(checked), ..Applied::default() })
    }

    /// What the pools would be after `changes`.
    pub(super) fn drafted(&self, changes: &[Change]) -> Result<Checked, Refusal> {
        if changes.len() > CHANGES_MAX {
            return Err(Refusal::TooMuch(Bound::Changes));
        }
        let mut draft = Draft::of(self);
        for change in changes {
            draft.change(change)?;
        }
        draft.check()
    }

    fn change_now(
        &mut self,
        changes: &[Change],
        tables: &[TableChange],
    ) -> Result<Applied, Refusal> {
        let checked = self.with_tables(self.drafted(changes)?, tables)?;
        Ok(Applied { pools: self.put(checked), ..Applied::default() })
    }

    fn stage(&mut self, changes: &[Change]) -> Result<Applied, Refusal> {
        if self.staged.len() + changes.len() > CHANGES_MAX {
            return Err(Refusal::TooMuch(Bound::Changes));
        }
        // Whoever stages what cannot be done shall hear it now. But what was staged before may have
        // been overtaken, and then it is not the new changes that are wrong.
        self.drafted(&self.staged).map_err(|refusal| Refusal::Staged(Box::new(refusal)))?;
        let staged = [&self.staged[..], changes].concat();
        self.drafted(&staged)?;
        self.staged = Arc::new(staged);
        Ok(Applied::default())
    }

    fn apply_plan(&mut self, plan: PlanId, tables: &[TableChange]) -> Result<Applied, Refusal> {
        if self.staged.is_empty() {
            return Err(Refusal::NothingStaged);
        }
        let staged = Arc::clone(&self.staged);
        let checked =
            self.drafted(&staged).map_err(|refusal| Refusal::Staged(Box::new(refusal)))?;
        let checked = self.with_tables(checked, tables)?;
        let now = self.plan_id(&staged, &checked);
        if now != plan {
            return Err(Refusal::PlanChanged { now });
        }
        self.staged = Arc::default();
        Ok(Applied { pools: self.put(checked), ..Applied::default() })
    }

    fn set_verdicts(
        &mut self,
        verdicts: &[(PoolName, ShardId, Verdict)],
    ) -> Result<Applied, Refusal> {
        if verdicts.len() > VERDICTS_MAX {
            return Err(Refusal::TooMuch(Bound::Verdicts));
        }
        for (pool, shard, _) in verdicts {
            if !self.pool(pool)?.shards.contains_key(shard) {
                return Err(Refusal::NoShard { pool: pool.clone(), shard: shard.clone() });
            }
        }
        for (pool, shard, verdict) in verdicts {
            let Some(pool) = self.pools.get_mut(pool) else { continue };
            // Who has a copy of the state keeps it; so a pool is copied only if it changes.
            if pool.verdict(shard) != *verdict {
                let verdicts = &mut Arc::make_mut(pool).verdicts;
                if verdict.is_clear() {
                    verdicts.remove(shard);
                } else {
                    verdicts.insert(shard.clone(), *verdict);
                }
            }
        }
        Ok(Applied::default())
    }

    fn raise_barriers(&mut self, barriers: &[(PoolName, Epoch)]) -> Result<Applied, Refusal> {
        if barriers.len() > VERDICTS_MAX {
            return Err(Refusal::TooMuch(Bound::Verdicts));
        }
        for (name, barrier) in barriers {
            let epoch = self.pool(name)?.epoch;
            if *barrier > epoch {
                let (pool, barrier) = (name.clone(), *barrier);
                return Err(Refusal::BarrierAhead { pool, barrier, epoch });
            }
        }
        for (name, barrier) in barriers {
            if let Some(pool) = self.pools.get_mut(name)
                && pool.barrier < *barrier
            {
                Arc::make_mut(pool).barrier = *barrier;
            }
        }
        Ok(Applied::default())
    }

    fn raise_level(&mut self, level: FeatureLevel) -> Result<Applied, Refusal> {
        let agreed = self.feature_level;
        if level < agreed {
            return Err(Refusal::LevelLowered { level, agreed });
        }
        let behind = self.nodes.iter().find(|(_, node)| node.feature_level < level);
        if let Some((&node, state)) = behind {
            return Err(Refusal::LevelTooHigh { node, speaks: state.feature_level, level });
        }
        self.feature_level = level;
        Ok(Applied::default())
    }

    pub(super) fn pool(&self, name: &PoolName) -> Result<&Arc<PoolState>, Refusal> {
        self.pools.get(name).ok_or_else(|| Refusal::NoPool(name.clone()))
    }
}
