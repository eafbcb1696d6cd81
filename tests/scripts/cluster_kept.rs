//! What only pools that keep data have: stores that shards are bound to, and what those have of what
//! they should.

use std::fmt::Write as _;

use goldenscript::ArgumentConsumer;
use ringway::cluster::{
    ClusterState, Command, KeptSpec, Kind, Placement, PoolSpec, StoreMark,
    TOMBSTONE_MIN_AGE_MS_DEFAULT,
};
use ringway::ids::{ShardId, StoreId};
use ringway::level::Level;

use crate::cluster::{Outcome, pool_name};

/// A pool of so many copies, which is otherwise as `spec` says.
pub fn replicated(spec: PoolSpec, replicas: u8) -> PoolSpec {
    PoolSpec {
        kind: Kind::Replicated,
        placement: Placement::Balanced,
        kept: Some(KeptSpec {
            replicas,
            consistency: Level::default(),
            tombstone_min_age_ms: TOMBSTONE_MIN_AGE_MS_DEFAULT,
            key: "path".to_owned(),
        }),
        ..spec
    }
}

/// The command that a line gives, if it is one of these.
pub fn command(name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome<Option<Command>> {
    Ok(Some(match name {
        // fill POOL: its first write is admitted.
        "fill" => Command::MarkFilled { pool: pool_name(args)? },
        // bind POOL SHARD STORE
        "bind" => {
            Command::BindStore { pool: pool_name(args)?, shard: shard(args)?, store: store(args)? }
        }
        // mark POOL SHARD STORE behind|caught-up|filled
        "mark" => {
            let (pool, shard, store) = (pool_name(args)?, shard(args)?, store(args)?);
            let mark = match args.next_pos() {
                Some("behind") => StoreMark::CatchingUp,
                Some("caught-up") => StoreMark::CaughtUp,
                Some("filled") => StoreMark::Filled,
                other => return Err(format!("what is {other:?} of a store?").into()),
            };
            Command::MarkStore { pool, shard, store, mark }
        }
        _ => return Ok(None),
    }))
}

/// Pools that keep data, with their stores.
pub fn show(state: &ClusterState) -> String {
    let mut output = String::new();
    for (name, pool) in state.pools() {
        let Some(kept) = &pool.spec.kept else { continue };
        let filled = if pool.filled { "keeps data" } else { "keeps nothing yet" };
        let (epoch, barrier, replicas) = (pool.epoch, pool.barrier, kept.replicas);
        write!(output, "{name}: epoch {epoch}, barrier {barrier}, born {}, ", pool.born)
            .expect("a text takes all");
        writeln!(output, "{replicas} replicas, {filled}").expect("a text takes all");
        for (id, shard) in &pool.shards {
            let own = pool.store(id);
            let number = |store: Option<StoreId>| store.map_or(0, |store| store.0[0]);
            let mut words = vec![match own.store {
                Some(_) => format!("store {}", number(own.store)),
                None => "no store".to_owned(),
            }];
            if own.former.is_some() {
                words.push(format!("formerly {}", number(own.former)));
            }
            words.extend(own.fresh.then(|| "fresh".to_owned()));
            words.extend(own.catching_up.then(|| "catching up".to_owned()));
            writeln!(output, "  {id} {}: {}", shard.url, words.join(", "))
                .expect("a text takes all");
        }
    }
    output
}

fn shard(args: &mut ArgumentConsumer<'_>) -> Outcome<ShardId> {
    Ok(ShardId::new(args.next_pos().ok_or("which shard?")?)?)
}

/// A store is a number.
fn store(args: &mut ArgumentConsumer<'_>) -> Outcome<StoreId> {
    Ok(StoreId([args.next_pos().ok_or("which store?")?.parse()?; 16]))
}
