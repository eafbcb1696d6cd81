//! What does the file mean, in words for its author?

use std::fmt::{Display, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::cluster::{AdminState, KeptSpec, Mode, Placement, Role};
use crate::limits::{ClientTimeouts, RateLimit, UpstreamTimeouts};
use crate::route::RouteSpec;

use super::checked::{
    AccessLogFormat, AccessLogTarget, ClientCertificates, ClusterConfig, Config, DataListener,
    HostRule, PoolConfig, PoolTlsConfig, Workers,
};
use super::units::{show_duration, show_size};

impl Config {
    /// Describes the whole in a few lines, for `ringway check`: listeners, pools with the shares
    /// of their shards, timeouts that differ from the default, routes.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut out = String::new();
        self.describe_process(&mut out);
        self.pools.iter().for_each(|pool| describe_pool(pool, &mut out));
        line(&mut out, "routes, of which the first match wins:");
        for (number, route) in self.routes.iter().enumerate() {
            describe_route(number + 1, route, &mut out);
        }
        out
    }

    fn describe_process(&self, out: &mut String) {
        let name = self
            .node
            .name
            .as_ref()
            .map_or("named as its host".to_owned(), |name| format!("`{name}`"));
        let workers = match self.node.workers {
            Workers::Auto => "one worker per core".to_owned(),
            Workers::Fixed(count) => format!("workers: {count}"),
        };
        line(out, format!("node {name}, {workers}, data in {}", self.node.data_dir.display()));
        let data: Vec<_> = self.listen.data.iter().map(listener_words).collect();
        line(out, format!("  clients        {}", data.join(", ")));
        let others = [("telemetry", self.listen.telemetry), ("admin", self.listen.admin)];
        for (what, address) in others {
            let address = address.map_or("off".to_owned(), |address| address.to_string());
            line(out, format!("  {what:<14} {address}"));
        }
        let access_log = self.access_log.as_ref().map_or("off".to_owned(), |log| {
            let format = match log.format {
                AccessLogFormat::Json => "json",
                AccessLogFormat::Common => "common",
            };
            match &log.target {
                AccessLogTarget::Stdout => format!("{format}, to standard output"),
                AccessLogTarget::File(path) => format!("{format}, to {}", path.display()),
            }
        });
        line(out, format!("  access log     {access_log}"));
        if let Some(tracing) = &self.tracing {
            let (percent, otlp) = (tracing.sample_percent, &tracing.otlp);
            line(out, format!("  traces         {percent} % of the requests, to {otlp}"));
        }
        if self.client.limits.http2.is_none() {
            line(out, "  HTTP/2         off");
        }
        let client = &self.client.timeouts;
        let usual = ClientTimeouts::default();
        let timeouts = [
            ("head", client.head, usual.head),
            ("body_idle", client.body_idle, usual.body_idle),
            ("rate_grace", client.rate_grace, usual.rate_grace),
            ("keep_alive", client.keep_alive, usual.keep_alive),
            ("linger", client.linger, usual.linger),
        ];
        describe_timeouts(timeouts.map(|(key, own, usual)| (key, Some(own), Some(usual))), out);
        if let (Some(cluster), Some(peer)) = (&self.cluster, self.listen.peer) {
            describe_cluster(cluster, peer, out);
        }
    }
}

fn describe_cluster(cluster: &ClusterConfig, peer: SocketAddr, out: &mut String) {
    let role = match cluster.role {
        Role::Voter => "a voter",
        Role::Observer => "an observer",
    };
    let trust = match cluster.tls {
        Some(_) => "with mutual TLS",
        None => "without TLS, on this host alone",
    };
    line(out, format!("in a cluster as {role}, {trust}"));
    let known = cluster.advertise.as_ref().map_or_else(
        || "its own address, once the system has chosen the port".to_owned(),
        ToString::to_string,
    );
    line(out, format!("  peers          {peer}, known to others as {known}"));
    let join: Vec<_> = cluster.join.iter().map(ToString::to_string).collect();
    line(
        out,
        match join.is_empty() {
            true => {
                "  join           nobody: it founds a cluster, by `ringway cluster init`".to_owned()
            }
            false => format!("  join           {}, or founds a cluster", join.join(", ")),
        },
    );
    let usual = ClusterConfig::default();
    let times = [
        ("lease", cluster.lease, usual.lease),
        ("heartbeat", cluster.heartbeat, usual.heartbeat),
        ("election from", cluster.election.min, usual.election.min),
        ("election to", cluster.election.max, usual.election.max),
    ];
    describe_timeouts(times.map(|(key, own, usual)| (key, Some(own), Some(usual))), out);
    line(
        out,
        "  the cluster decides about pools and shards; those of the file are what a new one begins with",
    );
}

fn line(out: &mut String, text: impl Display) {
    writeln!(out, "{text}").expect("a string can be written to");
}

/// Names the timeouts that are not as usual; nothing if all are.
fn describe_timeouts<const N: usize>(
    timeouts: [(&str, Option<Duration>, Option<Duration>); N],
    out: &mut String,
) {
    let show = |duration: Option<Duration>| duration.map_or("none".to_owned(), show_duration);
    let unusual: Vec<_> = timeouts
        .into_iter()
        .filter(|(_, own, usual)| own != usual)
        .map(|(key, own, usual)| format!("{key} {} (default {})", show(own), show(usual)))
        .collect();
    if !unusual.is_empty() {
        line(out, format!("  timeouts       {}", unusual.join(", ")));
    }
}

fn describe_pool(pool: &PoolConfig, out: &mut String) {
    let shards = match pool.shards.len() {
        0 => return describe_settings(pool, out),
        1 => "1 shard".to_owned(),
        many => format!("{many} shards"),
    };
    if let Some(kept) = &pool.spec.kept {
        line(out, format!("pool `{}`, replicated over {shards}", pool.name));
        return describe_kept(pool, kept, out);
    }
    line(out, format!("pool `{}`, a cache of {shards}", pool.name));
    if pool.spec.placement == Placement::Ketama {
        line(out, "  its keys are placed as by nginx's `hash … consistent`");
    }
    let writes = match pool.spec.immutable {
        true => {
            "its objects never change: while a shard is down, reads, writes and deletes go to the next on the ring"
        }
        false => {
            "while a shard is down, reads go to the next on the ring, and writes and deletes are answered 503"
        }
    };
    line(out, format!("  {writes}"));
    if pool.spec.mode == Mode::Primary {
        line(out, "  a shard is down when that is agreed, not when this node alone finds it so");
    }
    describe_own(pool, out);
    describe_shards(pool, out);
}

/// A pool that keeps data.
fn describe_kept(pool: &PoolConfig, kept: &KeptSpec, out: &mut String) {
    let KeptSpec { replicas, consistency, tombstone_min_age_ms, key } = kept;
    let on = match replicas {
        1 => "one of them".to_owned(),
        many => format!("{many} of them"),
    };
    line(
        out,
        format!("  each object is on {on}; requests that say nothing ask for `{consistency}`"),
    );
    line(out, format!("  the key of all routes into it: {key}"));
    let age = show_duration(Duration::from_millis(*tombstone_min_age_ms));
    line(out, format!("  what was deleted is remembered for {age} at least"));
    let rate = show_size(pool.kept.repair_bytes_per_second_max);
    let when = pool
        .kept
        .repair_interval
        .map_or("when asked".to_owned(), |interval| format!("every {}", show_duration(interval)));
    line(out, format!("  replicas are compared {when}, with {rate} a second at most"));
    line(out, format!("  hints for shards that are away: {} at most", pool.kept.hints_max));
    if pool.spec.mode == Mode::Primary {
        line(out, "  a shard is down when that is agreed, not when this node alone finds it so");
    }
    describe_own(pool, out);
    describe_shards(pool, out);
}

fn describe_settings(pool: &PoolConfig, out: &mut String) {
    line(out, format!("settings for the pool `{}`, whose shards the cluster knows", pool.name));
    describe_own(pool, out);
}

/// What is this node's own about a pool.
fn describe_own(pool: &PoolConfig, out: &mut String) {
    if pool.host == HostRule::Client {
        line(out, "  the client's Host field is kept");
    }
    describe_tls(pool, out);
    if let Some(after) = pool.retry.hedge_after {
        let after = show_duration(after);
        line(
            out,
            format!(
                "  a read whose answer has not begun after {after} is sent to the next shard too"
            ),
        );
    }
    if let Some(window) = pool.warm_up {
        let window = show_duration(window);
        line(
            out,
            format!(
                "  what a shard does not find is read from the key's former one, for {window} \
                 after a change"
            ),
        );
    }
    if let Some(percent) = pool.hash_balance_factor {
        line(out, format!("  no shard bears more than {percent} % of its fair share in flight"));
    }
    if let Some(window) = pool.health.slow_start {
        let window = show_duration(window);
        line(out, format!("  a shard that is back gets its keys again bit by bit, over {window}"));
    }
    if pool.health.active.is_none() {
        line(out, "  no probes are sent: only failed requests show that a shard is down");
    }
    let (own, usual) = (&pool.timeouts, UpstreamTimeouts::default());
    let timeouts = [
        ("connect", Some(own.connect), Some(usual.connect)),
        ("response_head", Some(own.response_head), Some(usual.response_head)),
        ("idle", Some(own.idle), Some(usual.idle)),
        ("request", own.request, usual.request),
        ("pool_wait", Some(own.pool_wait), Some(usual.pool_wait)),
        ("expect_continue", Some(own.expect_continue), Some(usual.expect_continue)),
    ];
    describe_timeouts(timeouts, out);
}

/// An address with what is unusual about it.
fn listener_words(listener: &DataListener) -> String {
    let tls = listener.tls.as_ref().map(|tls| {
        let many = match tls.certificates.len() {
            1 => "1 certificate".to_owned(),
            many => format!("{many} certificates"),
        };
        let clients = match tls.client_certificates {
            ClientCertificates::Off => "",
            ClientCertificates::Optional => ", clients may show theirs",
            ClientCertificates::Required => ", clients must show theirs",
        };
        format!("TLS with {many}{clients}")
    });
    let proxy = listener.proxy_protocol.then(|| "behind the PROXY protocol".to_owned());
    let more: Vec<_> = tls.into_iter().chain(proxy).collect();
    match more.is_empty() {
        true => listener.address.to_string(),
        false => format!("{} ({})", listener.address, more.join("; ")),
    }
}

/// How shards that are reached by `https` are known, if there are any or more than the usual is
/// said.
fn describe_tls(pool: &PoolConfig, out: &mut String) {
    let tls = &pool.tls;
    if *tls == PoolTlsConfig::default() && !pool.shards.iter().any(|shard| shard.spec.url.is_tls())
    {
        return;
    }
    let ca = tls.ca.as_ref().map_or("the system's authorities".to_owned(), |path| {
        format!("the authorities in {}", path.display())
    });
    let name = tls
        .server_name
        .as_ref()
        .map_or(String::new(), |name| format!(", for the name `{}`", name.to_str()));
    let own = tls.identity.as_ref().map_or(String::new(), |(certificate, _)| {
        format!("; this node shows {}", certificate.display())
    });
    line(out, format!("  shards with https are known by certificates of {ca}{name}{own}"));
}

fn describe_shards(pool: &PoolConfig, out: &mut String) {
    let total: u64 = pool.shards.iter().map(|shard| u64::from(shard.spec.weight.get())).sum();
    let rows: Vec<[String; 4]> = pool
        .shards
        .iter()
        .map(|shard| {
            let permille = u64::from(shard.spec.weight.get()) * 1000;
            // Rounded to the nearest; a pool has a weight above zero.
            let permille = (permille + total / 2).checked_div(total).unwrap_or(0);
            let share = format!("{}.{} %", permille / 10, permille % 10);
            let state = match shard.spec.state {
                AdminState::Ready => "",
                AdminState::Maint => ", in maintenance",
            };
            [
                shard.id.to_string(),
                share,
                shard.spec.url.to_string(),
                format!("zone {}{state}", shard.spec.zone),
            ]
        })
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (ids, shares, urls) = (width(0), width(1), width(2));
    for [id, share, url, rest] in &rows {
        line(out, format!("  {id:<ids$}  {share:>shares$}  {url:<urls$}  {rest}"));
    }
}

fn describe_route(number: usize, route: &RouteSpec, out: &mut String) {
    line(
        out,
        format!("  {number}. `{}`: requests {} go to `{}`", route.name, route.matcher, route.pool),
    );
    let tag = route.hash_tag.map_or(String::new(), |tag| {
        let (open, close) = tag.delimiters();
        format!(", of which only what stands between `{open}` and `{close}` is hashed")
    });
    line(out, format!("     their key is {}{tag}", route.key));
    if !route.allowed_methods.is_any() {
        line(out, format!("     methods other than {} are answered 405", route.allowed_methods));
    }
    if let Some(RateLimit { requests_per_second, burst }) = route.rate_limit {
        line(
            out,
            format!(
                "     a client may ask {requests_per_second} a second, {burst} at once; then 429"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    /// What is not as usual is said; each example shows what is said otherwise.
    #[test]
    fn what_spares_shards_is_told() {
        let text = "pools:\n  - name: p\n    hash_balance_factor: 125\n    immutable: true\n    warm_up: 1h\n    health: { slow_start: 90s }\n    retry: { hedge_after: 50ms }\n    \
                    shards: [{ id: s1, url: \"http://10.0.0.1\" }]\nroutes:\n  - { name: all, pool: p }\n";
        let told = parse(text, "p").expect("no errors").config.describe();
        for line in [
            "  a read whose answer has not begun after 50ms is sent to the next shard too\n",
            "  what a shard does not find is read from the key's former one, for 1h after a change\n",
            "  no shard bears more than 125 % of its fair share in flight\n",
            "  a shard that is back gets its keys again bit by bit, over 90s\n",
        ] {
            assert!(told.contains(line), "{told}");
        }
    }
}
