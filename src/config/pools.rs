//! Which shards are there, and how are they treated?

use std::collections::BTreeSet;
use std::time::Duration;

use rustls_pki_types::ServerName;

use crate::cluster::{
    AdminState, Kind, Mode, POOLS_MAX, Placement, PoolSpec, ShardSpec, URL_BYTES_MAX,
};
use crate::ids::{BaseUrl, PoolName, ShardId, Weight, Zone};
use crate::limits::{PoolLimits, RetryPolicy, UpstreamTimeouts};
use crate::protocol::health::{
    ActiveSettings, HealthSettings, PassiveSettings, ProbeMethod, ProbePath, StatusRange,
};
use crate::ring::TOKENS_MAX;

use super::checked::{HostRule, PoolConfig, PoolTlsConfig, ShardConfig};
use super::kept::{self, Kept, Rule, kept};
use super::placement::{Names, Placed, placed};
use super::process::path;
use super::schema;
use super::section::{Section, Unique};
use super::spot::Spot;
use super::units::show_duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Shards of one pool. With one virtual node for each unit of weight, a ring would take more, but
/// with the usual 256 it has 2^20 points then.
const SHARDS_MAX: usize = 4096;

/// Ranges of accepted statuses.
const RANGES_MAX: usize = 32;

/// How long common servers keep an idle connection: 60 s and 75 s, some far shorter.
const KEEP_ALIVE_USUAL: Duration = Duration::from_secs(60);

/// A pool, and where it is written.
pub(super) struct WrittenPool<'a> {
    /// `None` if it has no name. Counts only if nothing is wrong with the file.
    pub(super) config: Option<PoolConfig>,
    /// Its name, if that is one.
    pub(super) name: Option<(PoolName, Spot<'a>)>,
    /// The URLs of its shards.
    pub(super) urls: Vec<(BaseUrl, Spot<'a>)>,
    /// The rule of all routes into it, if it keeps data.
    pub(super) rule: Option<Rule<'a>>,
}

/// Reads the pools. Where they are agreed (`clustered`), the file may leave them out, or their
/// shards.
pub(super) fn pools<'a>(file: &Section<'a>, clustered: bool) -> Vec<WrittenPool<'a>> {
    let spot = match clustered {
        true => file.get("pools"),
        false => file.need("pools", "a list with at least one pool"),
    };
    let Some(spot) = spot else { return vec![] };
    let Some(spots) = spot.items() else { return vec![] };
    if spots.is_empty() {
        spot.refuse::<()>("found an empty list", "write at least one pool");
    }
    if spots.len() > POOLS_MAX {
        let help = format!("write at most {POOLS_MAX}");
        spot.refuse::<()>(format!("found {} pools", spots.len()), help);
        return vec![];
    }
    let read = |spot: &Spot<'a>| match spot.section(&schema::POOL) {
        Some(section) => pool(&section, clustered),
        None => WrittenPool { config: None, name: None, urls: vec![], rule: None },
    };
    let pools: Vec<_> = spots.iter().map(read).collect();
    let mut names = Unique::new();
    for (name, spot) in pools.iter().filter_map(|pool| pool.name.as_ref()) {
        let message = format!("the pool `{name}` is there twice");
        names.note(name.clone(), spot, &message, "give each pool its own name");
    }
    pools
}

/// What all nodes agree on, and so counts only together with the shards.
const AGREED: [&str; 6] = ["kind", "placement", "hash_seed", "vnodes", "immutable", "mode"];

fn pool<'a>(section: &Section<'a>, clustered: bool) -> WrittenPool<'a> {
    let name_spot = section.need("name", "a name that routes can refer to");
    let name = name_spot.and_then(|spot| Some((spot.parsed("a name", PoolName::new)?, spot)));
    let settings_only = clustered && section.get("shards").is_none();
    let mut written = None;
    let kinds = [("cache", Some(Kind::Cache)), ("replicated", Some(Kind::Replicated))];
    section.set("kind", &mut written, |spot| spot.one_of(&kinds, &["register"]));
    // Of a pool that only the cluster knows, the file need not say it.
    let known = written.or((!settings_only).then_some(Kind::Cache));
    let kind = known.unwrap_or(Kind::Cache);
    let Placed { placement, hash_seed, vnodes } =
        placed(section, name.as_ref().map(|(name, _)| name), known);
    let Kept { spec: kept, settings: kept_settings, rule } = kept(section, known);
    let mut immutable = false;
    section.set("immutable", &mut immutable, Spot::boolean);
    let mut mode = Mode::default();
    let modes = [("any", Mode::Any), ("primary", Mode::Primary)];
    section.set("mode", &mut mode, |spot| spot.one_of(&modes, &[]));
    let mut host = HostRule::default();
    let rules = [("shard", HostRule::Shard), ("client", HostRule::Client)];
    section.set("host", &mut host, |spot| spot.one_of(&rules, &[]));
    let health = health(section);
    let timeouts = timeouts(section);
    let limits = limits(section);
    let retry = retry(section, timeouts.response_head, immutable, clustered);
    let mut hash_balance_factor = None;
    section.set("hash_balance_factor", &mut hash_balance_factor, |spot| {
        spot.or_word("none", |spot| spot.number(101..=10_000))
    });
    let warm_up = warm_up(section, immutable, clustered);
    let tls = tls(section);
    let (shards, urls) = match settings_only {
        true => (vec![], vec![]),
        false => {
            shards(section, (placement, vnodes), kept.as_ref().map_or(1, |kept| kept.replicas))
        }
    };
    let agreed = AGREED.into_iter().chain(kept::AGREED);
    for spot in agreed.filter(|_| settings_only).filter_map(|key| section.get(key)) {
        spot.warn(
            "has no effect: the cluster decides it",
            "remove it, or write the `shards` too, for a new cluster to begin with",
        );
    }
    judge_names(&urls, &tls);
    if let Some(spot) = section.get("tls")
        && tls != PoolTlsConfig::default()
        && !settings_only
        && !urls.is_empty()
        && !urls.iter().any(|(url, _)| url.is_tls())
    {
        let help = "write `https://` for a shard that is reached by TLS, or remove this";
        spot.warn("no shard of the pool is reached by TLS", help);
    }
    if let Some(spot) = section.get("mode")
        && mode == Mode::Primary
        && !clustered
        && health.active.is_none()
    {
        let message = "without probes nothing moves requests from a shard that is down";
        spot.warn(message, "switch `health.active` on, or write `mode: any`");
    }
    judge_primary(section, mode);
    let config = name.as_ref().map(|(name, _)| PoolConfig {
        name: name.clone(),
        spec: PoolSpec { kind, placement, hash_seed, vnodes, immutable, mode, kept },
        host,
        health,
        timeouts,
        limits,
        retry,
        hash_balance_factor,
        warm_up,
        kept: kept_settings,
        tls,
        shards,
    });
    WrittenPool { config, name, urls, rule }
}

/// Of keys that change, another copy may be an old one. In a cluster that is agreed, and the file
/// need not say it.
fn warm_up(pool: &Section<'_>, immutable: bool, clustered: bool) -> Option<Duration> {
    let mut warm_up = None;
    pool.set("warm_up", &mut warm_up, |spot| spot.or_word("off", Spot::duration));
    if let Some(spot) = pool.get("warm_up")
        && warm_up.is_some()
        && !may_be_immutable(pool, immutable, clustered)
    {
        let message = "another shard's copy of a key that may change could be an old one";
        spot.refuse::<()>(message, NEVER_CHANGES);
    }
    warm_up
}

const NEVER_CHANGES: &str =
    "write `immutable: true` if what stands under a key never changes, or remove this";

/// Whether the file says it, or need not since the cluster does.
fn may_be_immutable(pool: &Section<'_>, immutable: bool, clustered: bool) -> bool {
    let is_known = !clustered || pool.get("shards").is_some() || pool.get("immutable").is_some();
    immutable || !is_known
}

/// What moves requests by this node's own sight has no place where only agreed verdicts do.
fn judge_primary(pool: &Section<'_>, mode: Mode) {
    let Some(primary) = pool.get("mode").filter(|_| mode == Mode::Primary) else { return };
    let written = [
        pool.get("hash_balance_factor"),
        pool.get("health").and_then(|health| health.entry("slow_start")),
    ];
    for spot in written.into_iter().flatten() {
        if !spot.is_word("none") {
            let other = (primary.place(), "all nodes ask the same shard first");
            spot.warn_of("has no effect", other, "remove it, or write `mode: any`");
        }
    }
}

fn tls(pool: &Section<'_>) -> PoolTlsConfig {
    let mut tls = PoolTlsConfig::default();
    let Some(section) = pool.sub("tls", &schema::POOL_TLS) else { return tls };
    let file = |spot: &Spot<'_>| path(spot, "the path of a PEM file");
    section.set("ca", &mut tls.ca, |spot| spot.or_word("system", file));
    section.set("server_name", &mut tls.server_name, |spot| {
        let name = |text: &str| ServerName::try_from(text.to_owned());
        spot.or_word("none", |spot| spot.parsed_as("a host name or an IP address", name))
    });
    let (mut cert, mut key) = (None, None);
    for (name, into) in [("cert", &mut cert), ("key", &mut key)] {
        section.set(name, into, |spot| spot.or_word("none", file));
    }
    tls.identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => lone(&section, "cert", "key"),
        (None, Some(_)) => lone(&section, "key", "cert"),
    };
    tls
}

/// A certificate without its key, or the other way round.
fn lone<T>(section: &Section<'_>, there: &'static str, missing: &str) -> Option<T> {
    let help = format!("write `{missing}` too, or remove this");
    section.get(there)?.refuse(format!("`{missing}` is missing"), help)
}

/// Whether a certificate can be for each host that is reached by TLS.
fn judge_names(urls: &Urls<'_>, tls: &PoolTlsConfig) {
    if tls.server_name.is_some() {
        return;
    }
    for (url, spot) in urls.iter().filter(|(url, _)| url.is_tls()) {
        if ServerName::try_from(url.host()).is_err() {
            let message = format!("no certificate can be for the host `{}`", url.host());
            let help = "write a host name or an IP address, or `server_name` in the pool's `tls`";
            spot.refuse::<()>(message, help);
        }
    }
}

type Urls<'a> = Vec<(BaseUrl, Spot<'a>)>;

fn shards<'a>(
    section: &Section<'a>,
    (placement, vnodes): (Placement, u16),
    replicas: u8,
) -> (Vec<ShardConfig>, Urls<'a>) {
    let mut urls: Urls<'a> = Vec::new();
    let Some(spot) = section.need("shards", "a list with at least one shard") else {
        return (vec![], urls);
    };
    let Some(spots) = spot.items() else { return (vec![], urls) };
    if spots.is_empty() {
        spot.refuse::<()>("found an empty list", "write at least one shard");
    }
    if spots.len() > SHARDS_MAX {
        let help = format!("write at most {SHARDS_MAX}; several pools may share the work");
        spot.refuse::<()>(format!("found {} shards", spots.len()), help);
        return (vec![], urls);
    }
    let mut ids = Unique::new();
    let mut addresses = Unique::new();
    let mut names = Names::of(placement);
    let mut shards = Vec::new();
    for section in spots.iter().filter_map(|spot| spot.section(&schema::SHARD)) {
        let id = shard_id(&section, &mut ids);
        let url = shard_url(&section, &mut addresses);
        urls.extend(url.clone());
        let mut zone = Zone::default();
        section.set("zone", &mut zone, |spot| spot.parsed("a name", Zone::new));
        let mut weight = Weight::ONE;
        section.set("weight", &mut weight, |spot| {
            Weight::try_from(spot.number::<u64>(0..=u64::from(Weight::MAX))?).ok()
        });
        let mut state = AdminState::default();
        let states = [("ready", AdminState::Ready), ("maint", AdminState::Maint)];
        section.set("state", &mut state, |spot| spot.one_of(&states, &[]));
        let ketama_name = names.read(&section, url.as_ref());
        if let (Some(id), Some((url, _))) = (id, url) {
            let spec = ShardSpec { url, zone, weight, state, ketama_name };
            shards.push(ShardConfig { id, spec });
        }
    }
    names.judge_order(&spot, &shards);
    judge_shards(&spot, &shards, vnodes);
    // What could not be read is told of already, and may be a shard.
    if shards.len() == spots.len() {
        judge_copies(section, &spot, &shards, replicas);
    }
    (shards, urls)
}

fn shard_id<'a>(section: &Section<'a>, ids: &mut Unique<'a, ShardId>) -> Option<ShardId> {
    let what = "a name that stays with the shard's data, wherever it moves";
    let spot = section.need("id", what)?;
    let id = spot.parsed("a name", ShardId::new)?;
    let message = format!("the shard `{id}` is there twice");
    ids.note(id.clone(), &spot, &message, "give each shard of a pool its own id");
    Some(id)
}

/// What makes two URLs one server: the names of hosts have no case.
type Server = (String, u16, String);

fn shard_url<'a>(
    section: &Section<'a>,
    servers: &mut Unique<'a, Server>,
) -> Option<(BaseUrl, Spot<'a>)> {
    let spot = section.need("url", "where the shard is, such as `http://10.0.0.1:9000`")?;
    let url = spot.parsed("`http://HOST[:PORT][/BASE]`, or `https://`", BaseUrl::parse)?;
    let length = url.to_string().len();
    if length > URL_BYTES_MAX {
        let help = format!("write at most {URL_BYTES_MAX}");
        return spot.refuse(format!("a URL of {length} bytes"), help);
    }
    let server = (url.host().to_ascii_lowercase(), url.port(), url.base_path().to_owned());
    let message = format!("two shards have the URL `{url}`");
    let help = "remove one, and give the other more `weight` if that was meant";
    servers.note(server, &spot, &message, help);
    Some((url, spot))
}

/// Looks at what concerns all shards of a pool together.
fn judge_shards(spot: &Spot<'_>, shards: &[ShardConfig], vnodes: u16) {
    if shards.is_empty() {
        return;
    }
    let weights: u64 = shards.iter().map(|shard| u64::from(shard.spec.weight.get())).sum();
    let tokens = weights * u64::from(vnodes);
    if weights == 0 {
        let message = "every shard has weight 0, so that no key has an owner";
        spot.refuse::<()>(message, "give one a weight of 1 or more");
    } else if tokens > TOKENS_MAX {
        let message = format!(
            "weights of {weights} in all, times {vnodes} vnodes, are {tokens} points on the ring"
        );
        let help = format!("lower the weights or `vnodes`, to {TOKENS_MAX} points at most");
        spot.refuse::<()>(message, help);
    }
    if shards.iter().all(|shard| shard.spec.state == AdminState::Maint) {
        let message = "every shard is in maintenance: each request is answered 503";
        spot.warn(message, "write `state: ready` for one");
    }
}

/// Each replica of an object is on a shard of its own, in a zone of its own while zones last.
fn judge_copies(pool: &Section<'_>, spot: &Spot<'_>, shards: &[ShardConfig], replicas: u8) {
    let owning = || shards.iter().filter(|shard| shard.spec.weight.get() > 0);
    let (count, replicas) = (owning().count(), usize::from(replicas));
    if replicas > 1 && count > 0 && count < replicas {
        let spot = pool.get("replicas").unwrap_or_else(|| spot.clone());
        let message = format!(
            "{replicas} replicas need {replicas} shards with a weight above 0, and there are {count}"
        );
        spot.refuse::<()>(message, "add shards, or write fewer `replicas`");
        return;
    }
    let zones: BTreeSet<&Zone> = owning().map(|shard| &shard.spec.zone).collect();
    if zones.len() > 1 && zones.len() < replicas {
        let message = format!(
            "{replicas} replicas cannot be in {replicas} zones, since there are {}: they are spread evenly",
            zones.len()
        );
        spot.warn(message, "put shards into further zones, or write fewer `replicas`");
    }
}

fn health(pool: &Section<'_>) -> HealthSettings {
    let mut health = HealthSettings::default();
    let Some(section) = pool.sub("health", &schema::HEALTH) else { return health };
    section.set("active", &mut health.active, |spot| {
        spot.or_word("off", |spot| Some(active(&spot.section(&schema::ACTIVE)?)))
    });
    section.set("passive", &mut health.passive, |spot| {
        spot.or_word("off", |spot| Some(passive(&spot.section(&schema::PASSIVE)?)))
    });
    section.set("panic_percent", &mut health.panic_percent, |spot| spot.number(0..=100));
    section.set("slow_start", &mut health.slow_start, |spot| spot.or_word("none", Spot::duration));
    health
}

fn active(section: &Section<'_>) -> ActiveSettings {
    let mut active = ActiveSettings::default();
    let methods =
        [("GET", ProbeMethod::Get), ("HEAD", ProbeMethod::Head), ("OPTIONS", ProbeMethod::Options)];
    section.set("method", &mut active.method, |spot| spot.one_of(&methods, &[]));
    section.set("path", &mut active.path, |spot| spot.parsed("a path", ProbePath::new));
    section.set("expect", &mut active.expect, |spot| {
        let spots = spot.items_or_one()?;
        if !(1..=RANGES_MAX).contains(&spots.len()) {
            let help =
                format!("write from 1 to {RANGES_MAX} statuses or ranges, such as [200-399]");
            return spot.refuse(format!("found {} ranges", spots.len()), help);
        }
        let range = |spot: &Spot<'_>| spot.parsed("a range of statuses", str::parse::<StatusRange>);
        Some(spots.iter().filter_map(range).collect())
    });
    section.set("interval", &mut active.interval, Spot::duration);
    section.set("timeout", &mut active.timeout, Spot::duration);
    section.set("fall", &mut active.fall, |spot| spot.number(1..=100));
    section.set("rise", &mut active.rise, |spot| spot.number(1..=100));
    if let Some(spot) = section.get("timeout").or_else(|| section.get("interval"))
        && active.timeout > active.interval
    {
        let (timeout, interval) = (show_duration(active.timeout), show_duration(active.interval));
        let message = format!("a probe may take {timeout}, but the next is due after {interval}");
        spot.warn(message, "a slow shard is then probed less often than asked: raise `interval`");
    }
    active
}

fn passive(section: &Section<'_>) -> PassiveSettings {
    let mut passive = PassiveSettings::default();
    for (key, into) in [
        ("consecutive_5xx", &mut passive.consecutive_5xx),
        ("connect_errors", &mut passive.connect_errors),
    ] {
        section.set(key, into, |spot| or_off(spot, |spot| spot.number(1..=1_000_000)));
    }
    section.set("keys_min", &mut passive.keys_min, |spot| spot.number(1..=255));
    section.set("error_rate_percent", &mut passive.error_rate_percent, |spot| {
        or_off(spot, |spot| spot.number(1..=100))
    });
    section.set("error_rate_requests_min", &mut passive.error_rate_requests_min, |spot| {
        spot.number(1..=1_000_000_000)
    });
    for (key, into) in [
        ("window", &mut passive.window),
        ("base_ejection_time", &mut passive.base_ejection_time),
        ("max_ejection_time", &mut passive.max_ejection_time),
    ] {
        section.set(key, into, Spot::duration);
    }
    section.set("max_ejection_percent", &mut passive.max_ejection_percent, |spot| {
        spot.number(0..=100)
    });
    if passive.base_ejection_time > passive.max_ejection_time
        && let Some(spot) = section.get("base_ejection_time").or(section.get("max_ejection_time"))
    {
        let (base, max) =
            (show_duration(passive.base_ejection_time), show_duration(passive.max_ejection_time));
        let message =
            format!("the first ejection lasts {base}, but none may last longer than {max}");
        let help = "raise `max_ejection_time`, or lower `base_ejection_time`";
        spot.refuse::<()>(message, help);
    }
    passive
}

/// A rule that `off` switches off, which the settings spell 0.
fn or_off<'a>(spot: &Spot<'a>, read: impl FnOnce(&Spot<'a>) -> Option<u32>) -> Option<u32> {
    Some(spot.or_word("off", read)?.unwrap_or(0))
}

fn timeouts(pool: &Section<'_>) -> UpstreamTimeouts {
    let mut timeouts = UpstreamTimeouts::default();
    let Some(section) = pool.sub("timeouts", &schema::POOL_TIMEOUTS) else { return timeouts };
    for (key, into) in [
        ("connect", &mut timeouts.connect),
        ("response_head", &mut timeouts.response_head),
        ("idle", &mut timeouts.idle),
        ("pool_wait", &mut timeouts.pool_wait),
        ("expect_continue", &mut timeouts.expect_continue),
    ] {
        section.set(key, into, Spot::duration);
    }
    section.set("request", &mut timeouts.request, |spot| spot.or_word("none", Spot::duration));
    for (key, part) in [("connect", timeouts.connect), ("response_head", timeouts.response_head)] {
        if let (Some(whole), Some(spot), Some(request)) =
            (timeouts.request, section.get(key), section.get("request"))
            && part > whole
        {
            let message = format!(
                "is never reached, since the whole request may take only {}",
                show_duration(whole)
            );
            spot.warn_of(
                message,
                (request.place(), "the whole request"),
                "raise `request`, or lower this",
            );
        }
    }
    timeouts
}

fn limits(pool: &Section<'_>) -> PoolLimits {
    let mut limits = PoolLimits::default();
    let Some(section) = pool.sub("limits", &schema::POOL_LIMITS) else { return limits };
    section.set("in_flight_per_shard", &mut limits.in_flight_per_shard_max, |spot| {
        spot.number(1..=1_000_000)
    });
    section
        .set("idle_per_worker", &mut limits.idle_per_worker_max, |spot| spot.number(0..=100_000));
    section.set("idle", &mut limits.idle_max, |spot| {
        let idle = spot.duration()?;
        if idle >= KEEP_ALIVE_USUAL {
            let message = format!("many servers close a connection that was idle for {}", show_duration(KEEP_ALIVE_USUAL));
            spot.warn(message, "stay below the shards' keep-alive timeout, or requests meet connections that are being closed");
        }
        Some(idle)
    });
    section.set("age", &mut limits.age_max, Spot::duration);
    section.set("response_head", &mut limits.response_head_bytes_max, |spot| spot.size(KIB..=MIB));
    section
        .set("interim_responses", &mut limits.interim_responses_max, |spot| spot.number(0..=1000));
    limits
}

fn retry(
    pool: &Section<'_>,
    response_head: Duration,
    immutable: bool,
    clustered: bool,
) -> RetryPolicy {
    let mut retry = RetryPolicy::default();
    let Some(section) = pool.sub("retry", &schema::RETRY) else { return retry };
    section.set("attempts", &mut retry.attempts_max, |spot| spot.number(1..=10));
    section.set("budget_percent", &mut retry.budget_percent, |spot| spot.number(0..=100));
    section.set("budget_min", &mut retry.budget_min, |spot| spot.number(0..=10_000));
    section.set("on_gateway_error", &mut retry.on_gateway_error, Spot::boolean);
    if let (Some(spot), Some(attempts)) = (section.get("on_gateway_error"), section.get("attempts"))
        && retry.on_gateway_error
        && retry.attempts_max == 1
    {
        let other = (attempts.place(), "the first attempt is the only one");
        spot.warn_of("has no effect", other, "allow 2 attempts or more");
    }
    let hedge_after = &mut retry.hedge_after;
    section.set("hedge_after", hedge_after, |spot| spot.or_word("none", Spot::duration));
    if let (Some(spot), Some(after)) = (section.get("hedge_after"), retry.hedge_after) {
        if !may_be_immutable(pool, immutable, clustered) {
            // The next shard is who had the keys of one that joined, and may have them still.
            let message = "another shard's copy of a key that may change could be an old one";
            spot.refuse::<()>(message, NEVER_CHANGES);
        } else if let Some(attempts) = section.get("attempts").filter(|_| retry.attempts_max == 1) {
            let other = (attempts.place(), "the first attempt is the only one");
            spot.warn_of("has no effect", other, "allow 2 attempts or more");
        } else if after >= response_head {
            let head = show_duration(response_head);
            let message = format!("has no effect: a shard that is silent for {head} has failed");
            spot.warn(message, "write less than `timeouts.response_head`");
        }
    }
    retry
}
