//! How are a pool's keys placed, and by which names of its shards?

use std::collections::BTreeMap;

use crate::cluster::{Kind, Placement, SEED_BYTES_MAX};
use crate::ids::{BaseUrl, KetamaName, PoolName, ShardId};
use crate::ring::{KETAMA_POINTS, Member, Ring, RingSpec};

use super::checked::{ShardConfig, VNODES_DEFAULT};
use super::kept::placement_of;
use super::section::{Section, Unique};
use super::spot::Spot;

/// What a pool says about the place of its keys.
pub(super) struct Placed {
    pub(super) placement: Placement,
    pub(super) hash_seed: String,
    pub(super) vnodes: u16,
}

/// Reads what a pool says about the place of its keys.
pub(super) fn placed(section: &Section<'_>, name: Option<&PoolName>, kind: Option<Kind>) -> Placed {
    let mut placement = placement_of(kind);
    let placements = [
        ("ring", Placement::Ring),
        ("ketama", Placement::Ketama),
        ("balanced", Placement::Balanced),
    ];
    section.set("placement", &mut placement, |spot| {
        let written = spot.one_of(&placements, &[])?;
        match (kind, written) {
            (Some(Kind::Replicated), Placement::Ring | Placement::Ketama) => {
                let message = "a pool that keeps data is placed by `balanced`";
                spot.refuse(message, "remove it, or write `kind: cache`")
            }
            (Some(Kind::Cache), Placement::Balanced) => {
                let message = "`balanced` is for pools that keep data";
                spot.refuse(message, "remove it, or write `kind: replicated`")
            }
            _ => Some(written),
        }
    });
    let mut hash_seed = name.map(ToString::to_string).unwrap_or_default();
    section.set("hash_seed", &mut hash_seed, |spot| match spot.text("a text")? {
        text if (1..=SEED_BYTES_MAX).contains(&text.len()) => Some(text.to_owned()),
        text => {
            let help = format!("write from 1 to {SEED_BYTES_MAX} bytes");
            spot.refuse(format!("a seed of {} bytes", text.len()), help)
        }
    });
    let mut vnodes = VNODES_DEFAULT;
    section.set("vnodes", &mut vnodes, |spot| spot.number(1..=4096));
    if placement == Placement::Ketama {
        vnodes = KETAMA_POINTS;
        for (key, message) in [
            ("hash_seed", "nginx knows no seed, so there is none with `placement: ketama`"),
            ("vnodes", "with `placement: ketama` it is 160 for each unit of weight, as in nginx"),
        ] {
            if let (Some(spot), Some(placement)) = (section.get(key), section.get("placement")) {
                let help = "remove it, or write `placement: ring`";
                spot.clash(message, (placement.place(), "the placement is set here"), help);
            }
        }
    }
    Placed { placement, hash_seed, vnodes }
}

/// The names by which nginx knows the shards of one pool.
pub(super) struct Names<'a> {
    placement: Placement,
    seen: Unique<'a, KetamaName>,
}

impl<'a> Names<'a> {
    pub(super) fn of(placement: Placement) -> Self {
        Self { placement, seen: Unique::new() }
    }

    /// Reads the name of one shard; `None` if it is that of its URL.
    pub(super) fn read(
        &mut self,
        shard: &Section<'a>,
        url: Option<&(BaseUrl, Spot<'a>)>,
    ) -> Option<KetamaName> {
        let mut written = None;
        shard.set("ketama_name", &mut written, |spot| {
            spot.or_word("url", |spot| spot.parsed("the name of a server", KetamaName::new))
        });
        if self.placement != Placement::Ketama {
            if let Some(spot) = shard.get("ketama_name").filter(|_| written.is_some()) {
                let help = "remove it, or write `placement: ketama` for the pool";
                spot.warn("has no effect without `placement: ketama`", help);
            }
            return None;
        }
        let spot = shard.get("ketama_name").or_else(|| url.map(|(_, spot)| spot.clone()))?;
        let name = written.clone().or_else(|| url.map(|(url, _)| KetamaName::of(url)))?;
        let message = format!("two shards are `{name}` to nginx, and would have the same points");
        let help = "give one another `ketama_name`, or remove it and give the other more `weight`";
        self.seen.note(name, &spot, &message, help);
        written
    }

    /// Where two shards share a point, nginx gives it to the one that stands first in its file, and
    /// the ring to the one whose id sorts first.
    pub(super) fn judge_order(&self, spot: &Spot<'_>, shards: &[ShardConfig]) {
        let in_order = shards.is_sorted_by(|one, other| one.id <= other.id);
        if self.placement != Placement::Ketama || in_order {
            return;
        }
        let rank: BTreeMap<&ShardId, usize> =
            shards.iter().enumerate().map(|(at, shard)| (&shard.id, at)).collect();
        let Some(ring) = ring_of(shards) else { return };
        let otherwise = ring
            .shared_points()
            .into_iter()
            .filter(|(keeps, loses)| rank.get(keeps) > rank.get(loses));
        let count = otherwise.count();
        if count > 0 {
            let message = format!(
                "{count} points of the circle belong to two shards: here the one whose id sorts \
                 first has them, in nginx the one that stands first in its file"
            );
            let help = "to match nginx to the last key, choose ids that sort as its servers stand";
            spot.warn(message, help);
        }
    }
}

fn ring_of(shards: &[ShardConfig]) -> Option<Ring> {
    let members = shards.iter().map(|shard| Member {
        id: shard.id.clone(),
        zone: shard.spec.zone.clone(),
        weight: shard.spec.weight,
    });
    let names = shards.iter().map(|shard| (shard.id.clone(), shard.spec.known_to_nginx()));
    let spec = RingSpec {
        hash_seed: String::new(),
        vnodes: KETAMA_POINTS,
        replicas: 1,
        members: members.collect(),
        ketama: Some(names.collect()),
    };
    // What else is wrong with it is told where it is found.
    Ring::build(&spec).ok()
}
