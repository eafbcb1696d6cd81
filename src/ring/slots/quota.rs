//! How many copies shall each shard have?
//!
//! Its share by weight, rounded down or up; but no more than one of each slot, and no more than its
//! zone can have. A zone has at most `most` and at least `least` replicas of every slot, where they
//! differ by one at most: with as many zones as replicas, or more, one and none.
//!
//! Shares with such bounds are found as water finds its level: all have the same measure of their
//! weight, but for those that are full, or have more by their bound; what these have too little or
//! too much goes to the others. All of it is in whole numbers and fractions of them.

use std::collections::BTreeMap;

use super::table::SLOTS;
use crate::ids::Zone;
use crate::ring::spec::Member;

/// What each shard and each zone may have.
#[derive(Debug, Clone)]
pub(super) struct Quotas {
    /// Copies of each shard.
    pub(super) copies: Vec<u32>,
    /// The shares that these are rounded from.
    pub(super) shares: Vec<Fraction>,
    /// Each shard's zone.
    pub(super) zone: Vec<u16>,
    /// Of each zone: the least and the most replicas of one slot.
    pub(super) bounds: Vec<(u16, u16)>,
    /// Whether there are fewer zones than replicas.
    pub(super) zones_short: bool,
}

/// A share to be found: weight, the least and the most of it.
#[derive(Debug, Clone, Copy)]
struct Claim {
    weight: u128,
    least: u128,
    most: u128,
}

/// A share: `part / whole`.
pub(super) type Fraction = (u128, u128);

/// The quotas of `members`, which are sorted and all own something. `held` is what each has now:
/// of two with the same claim to one copy more, who has it already keeps it.
pub(super) fn quotas(members: &[Member], replicas: usize, held: &[u32]) -> Quotas {
    let names: BTreeMap<&Zone, u16> = {
        let mut names: Vec<&Zone> = members.iter().map(|member| &member.zone).collect();
        names.sort_unstable();
        names.dedup();
        (0..).zip(names).map(|(at, name)| (name, at)).collect()
    };
    let zone: Vec<u16> = members.iter().map(|member| names[&member.zone]).collect();
    let mut sizes = vec![0_usize; names.len()];
    zone.iter().for_each(|zone| sizes[usize::from(*zone)] += 1);
    // The fewest replicas of one slot in one zone that make room for all.
    let room = |level: usize| sizes.iter().map(|size| *size.min(&level)).sum::<usize>();
    let level = (1..=replicas).find(|level| room(*level) >= replicas).unwrap_or(replicas);
    let bound = |size: &usize| {
        let fit = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        (fit((*size).min(level - 1)), fit((*size).min(level)))
    };
    let bounds: Vec<(u16, u16)> = sizes.iter().map(bound).collect();

    let slots = SLOTS as u128;
    let weight = |member: &Member| u128::from(member.weight.get());
    let mut weights = vec![0; names.len()];
    members.iter().zip(&zone).for_each(|(m, zone)| weights[usize::from(*zone)] += weight(m));
    let zones: Vec<Claim> = (weights.iter().zip(&bounds))
        .map(|(&weight, &(least, most))| Claim {
            weight,
            least: slots * u128::from(least),
            most: slots * u128::from(most),
        })
        .collect();
    let zone_shares = shares(slots * replicas as u128, 1, &zones);
    let mut shard_shares: Vec<Fraction> = vec![(0, 1); members.len()];
    for (number, &(part, whole)) in (0_u16..).zip(&zone_shares) {
        let here: Vec<usize> = (0..members.len()).filter(|at| zone[*at] == number).collect();
        let claims: Vec<Claim> = here
            .iter()
            .map(|at| Claim { weight: weight(&members[*at]), least: 0, most: slots })
            .collect();
        for (at, share) in here.iter().zip(shares(part, whole, &claims)) {
            shard_shares[*at] = share;
        }
    }
    let total = slots * replicas as u128;
    let of_zones: Vec<(u128, u128)> = zones.iter().map(|claim| (claim.least, claim.most)).collect();
    let copies = whole_numbers(total, &shard_shares, held, |at| usize::from(zone[at]), &of_zones);
    Quotas { copies, shares: shard_shares, zone, bounds, zones_short: names.len() < replicas }
}

/// How many slots each shard is to be the primary of: by weight, but no more than it has.
pub(super) fn primaries(members: &[Member], copies: &[u32], now: &[u32]) -> Vec<u32> {
    let (shares, most) = primary_shares(members, copies);
    let most: Vec<(u128, u128)> = most.into_iter().map(|most| (0, most)).collect();
    whole_numbers(SLOTS as u128, &shares, now, |at| at, &most)
}

/// The shares that those are rounded from, and the most of each.
pub(super) fn primary_shares(members: &[Member], copies: &[u32]) -> (Vec<Fraction>, Vec<u128>) {
    let claims: Vec<Claim> = (members.iter().zip(copies))
        .map(|(member, copies)| Claim {
            weight: u128::from(member.weight.get()),
            least: 0,
            most: u128::from(*copies),
        })
        .collect();
    let most = claims.iter().map(|claim| claim.most).collect();
    (shares(SLOTS as u128, 1, &claims), most)
}

/// Divides `part / whole` among the claims.
fn shares(part: u128, whole: u128, claims: &[Claim]) -> Vec<Fraction> {
    let mut fixed: Vec<Option<u128>> = vec![None; claims.len()];
    loop {
        let taken: u128 = fixed.iter().flatten().sum();
        let free = || claims.iter().zip(&fixed).filter(|(_, fixed)| fixed.is_none());
        let weight: u128 = free().map(|(claim, _)| claim.weight).sum();
        if weight == 0 {
            break;
        }
        let left = part.saturating_sub(taken * whole);
        // A claim's measure is `weight_of_it * left / (whole * weight)`.
        let over = whole * weight;
        let (mut too_much, mut too_little) = (0_u128, 0_u128);
        for (claim, _) in free() {
            let measure = claim.weight * left;
            too_much += measure.saturating_sub(claim.most * over);
            too_little += (claim.least * over).saturating_sub(measure);
        }
        if too_much == 0 && too_little == 0 {
            return (claims.iter().zip(&fixed))
                .map(|(claim, fixed)| fixed.map_or((claim.weight * left, over), |f| (f, 1)))
                .collect();
        }
        for (claim, fixed) in claims.iter().zip(&mut fixed).filter(|(_, fixed)| fixed.is_none()) {
            let measure = claim.weight * left;
            if too_much >= too_little && measure >= claim.most * over {
                *fixed = Some(claim.most);
            } else if too_little >= too_much && measure <= claim.least * over {
                *fixed = Some(claim.least);
            }
        }
    }
    fixed.into_iter().map(|fixed| (fixed.unwrap_or(0), 1)).collect()
}

/// Rounds shares to whole numbers that are `total` together: each down, and what is left to those who
/// are the least over their share with one more, so that the peak is as low as it can be; then to who
/// has it already, then in order. Each group has its least and no more than its most.
///
/// The largest remainders, which are the usual rule, would go to light shards too: at 1000 shards of
/// weights 1 to 4 that makes a peak of 1.025 of what is 1.011 here, and moves no less.
fn whole_numbers(
    total: u128,
    shares: &[Fraction],
    held: &[u32],
    group: impl Fn(usize) -> usize,
    groups: &[(u128, u128)],
) -> Vec<u32> {
    let mut whole: Vec<u128> = shares.iter().map(|(part, over)| part / over).collect();
    let mut in_group = vec![0; groups.len()];
    whole.iter().enumerate().for_each(|(at, count)| in_group[group(at)] += count);
    let mut left = total.saturating_sub(whole.iter().sum());
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|&a, &b| {
        // One more over the share, without dividing.
        let ((a_part, a_over), (b_part, b_over)) = (shares[a], shares[b]);
        let one_more = (whole[a] + 1) * a_over * b_part;
        let keeps = |at: usize| u128::from(held[at]) > whole[at];
        let by_peak = one_more.cmp(&((whole[b] + 1) * b_over * a_part));
        by_peak.then(keeps(b).cmp(&keeps(a))).then(a.cmp(&b))
    });
    let mut up = vec![false; shares.len()];
    // First the groups that must have more; then any; and if groups are full, others have more than
    // their ceiling.
    for (only_least, with_claim) in [(true, true), (false, true), (false, false)] {
        for &at in &order {
            let (least, most) = groups[group(at)];
            let bound = if only_least { least } else { most };
            let has_claim = !with_claim || !shares[at].0.is_multiple_of(shares[at].1);
            let has_room = whole[at] < SLOTS as u128 && in_group[group(at)] < bound;
            if left > 0 && has_claim && has_room && !(with_claim && up[at]) {
                whole[at] += 1;
                in_group[group(at)] += 1;
                left -= 1;
                up[at] = true;
            }
        }
    }
    whole.into_iter().map(|count| u32::try_from(count).unwrap_or(u32::MAX)).collect()
}
