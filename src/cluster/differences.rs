//! In which steps does what is agreed differ from what a file says?
//!
//! As [`Change`]s, which can be staged, planned and shown one by one. (`desired` makes commands of
//! the same difference: those a node that stands alone applies itself.)

use super::command::Change;
use super::desired::{Desired, DesiredPool};
use super::pool::ShardSpec;
use super::state::ClusterState;
use crate::ids::{PoolName, ShardId};

impl ClusterState {
    /// What is agreed of pools and shards, in the form in which files say it.
    #[must_use]
    pub fn desired(&self) -> Desired {
        let pools = self.pools().iter().map(|(name, pool)| {
            let (spec, shards) = (pool.spec.clone(), pool.shards.clone());
            (name.clone(), DesiredPool { spec, shards })
        });
        pools.collect()
    }
}

/// The changes that lead from `present` to `wanted`, none if they are the same. A shard that
/// differs in one respect is changed in that respect alone.
#[must_use]
pub fn differences(present: &Desired, wanted: &Desired) -> Vec<Change> {
    let mut changes: Vec<Change> = present
        .keys()
        .filter(|name| !wanted.contains_key(*name))
        .map(|pool| Change::RemovePool { pool: pool.clone() })
        .collect();
    for (name, pool) in wanted {
        match present.get(name) {
            Some(before) => of_pool(name, before, pool, &mut changes),
            None => changes.push(Change::CreatePool {
                pool: name.clone(),
                spec: pool.spec.clone(),
                shards: pool.shards.clone().into_iter().collect(),
            }),
        }
    }
    changes
}

fn of_pool(name: &PoolName, before: &DesiredPool, after: &DesiredPool, changes: &mut Vec<Change>) {
    let pool = || name.clone();
    if before.spec != after.spec {
        changes.push(Change::SetPool { pool: pool(), spec: after.spec.clone() });
    }
    let gone = before.shards.keys().filter(|id| !after.shards.contains_key(*id));
    changes.extend(gone.map(|shard| Change::RemoveShard { pool: pool(), shard: shard.clone() }));
    for (id, shard) in &after.shards {
        match before.shards.get(id) {
            Some(was) => of_shard(name, id, was, shard, changes),
            None => changes.push(Change::AddShard {
                pool: pool(),
                shard: id.clone(),
                spec: shard.clone(),
            }),
        }
    }
}

fn of_shard(
    pool: &PoolName,
    shard: &ShardId,
    was: &ShardSpec,
    is: &ShardSpec,
    changes: &mut Vec<Change>,
) {
    let ids = || (pool.clone(), shard.clone());
    // Taken apart, so that a field that is added is not forgotten here.
    let ShardSpec { url, zone, weight, state, ketama_name } = is.clone();
    if was.ketama_name != ketama_name {
        // It decides the shard's place: as far as keys go, another shard takes its id.
        let ((pool, shard), spec) = (ids(), is.clone());
        changes.push(Change::RemoveShard { pool: pool.clone(), shard: shard.clone() });
        changes.push(Change::AddShard { pool, shard, spec });
        return;
    }
    if was.url != url {
        let (pool, shard) = ids();
        changes.push(Change::SetUrl { pool, shard, url });
    }
    if was.zone != zone {
        let (pool, shard) = ids();
        changes.push(Change::SetZone { pool, shard, zone });
    }
    if was.weight != weight {
        let (pool, shard) = ids();
        changes.push(Change::SetWeight { pool, shard, weight });
    }
    if was.state != state {
        let (pool, shard) = ids();
        changes.push(Change::SetState { pool, shard, state });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{AdminState, Kind, Mode, Placement, PoolSpec};
    use crate::ids::{BaseUrl, Weight, Zone};

    fn shard(host: &str, zone: &str, weight: u64, state: AdminState) -> ShardSpec {
        ShardSpec {
            url: BaseUrl::parse(&format!("http://{host}")).expect("a URL"),
            zone: Zone::new(zone).expect("a name"),
            weight: Weight::try_from(weight).expect("a weight"),
            state,
            ketama_name: None,
        }
    }

    /// Name, virtual nodes, shards.
    type Written<'a> = (&'a str, u16, &'a [(&'a str, ShardSpec)]);

    fn desired(pools: &[Written<'_>]) -> Desired {
        let pool = |(name, vnodes, shards): &Written<'_>| {
            let spec = PoolSpec {
                kind: Kind::Cache,
                placement: Placement::Ring,
                hash_seed: "seed".to_owned(),
                vnodes: *vnodes,
                immutable: false,
                mode: Mode::Any,
                kept: None,
            };
            let shards = shards
                .iter()
                .map(|(id, shard)| (ShardId::new(id).expect("a name"), shard.clone()))
                .collect();
            (PoolName::new(name).expect("a name"), DesiredPool { spec, shards })
        };
        pools.iter().map(pool).collect()
    }

    #[test]
    fn each_difference_is_a_step_and_the_steps_lead_there() {
        use AdminState::{Maint, Ready};
        let from = desired(&[
            ("gone", 8, &[("a", shard("a", "z", 1, Ready))]),
            (
                "p",
                8,
                &[
                    ("a", shard("a", "z", 1, Ready)),
                    ("b", shard("b", "z", 1, Ready)),
                    ("c", shard("c", "z", 1, Ready)),
                ],
            ),
        ]);
        let to = desired(&[
            ("new", 8, &[("a", shard("a", "z", 1, Ready))]),
            (
                "p",
                16,
                &[
                    ("a", shard("elsewhere", "y", 2, Maint)),
                    ("b", shard("b", "z", 1, Ready)),
                    ("d", shard("d", "z", 1, Ready)),
                ],
            ),
        ]);
        let steps = differences(&from, &to);
        let shown: Vec<String> = steps.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "remove pool gone",
                "create pool new with 1 shard",
                "change the settings of pool p",
                "remove p/c",
                "p/a is now at http://elsewhere",
                "put p/a into zone y",
                "give p/a weight 2",
                "set p/a to maint",
                "add p/d (weight 1, zone z, http://d)",
            ]
        );
        let mut state = ClusterState::default();
        for command in crate::cluster::changes(&state.clone(), &from) {
            state.apply_command(&command).expect("applied");
        }
        assert_eq!(state.desired(), from);
        let now = crate::cluster::Command::ChangeNow { changes: steps };
        state.apply_command(&now).expect("applied");
        assert_eq!(state.desired(), to);
        assert_eq!(differences(&state.desired(), &to), []);
    }
}
