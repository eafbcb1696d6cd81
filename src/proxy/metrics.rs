//! What is counted about clients, their connections and requests?

use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::proto::MetricFamily;

use super::site::Site;
use crate::metrics::{Counter, Group, Kind, Latency, Sample, StatusClasses, Stripe};
use crate::net::tls::ReasonCounts;

/// Counters of one route.
#[derive(Debug)]
pub struct RouteMetrics {
    classes: StatusClasses,
    rq_time: Latency,
    rx_bytes: Counter,
    tx_bytes: Counter,
    pub(super) rate_limited: Counter,
}

impl RouteMetrics {
    pub(super) fn new(workers: usize) -> Self {
        let counter = || Counter::new(workers);
        Self {
            classes: StatusClasses::new(workers),
            rq_time: Latency::new(workers),
            rx_bytes: counter(),
            tx_bytes: counter(),
            rate_limited: counter(),
        }
    }

    /// Counts a request that has ended. `status` 0: its client went away before an answer.
    pub(super) fn ended(&self, stripe: Stripe, status: u16, micros: u64, rx: u64, tx: u64) {
        self.classes.answered(stripe, status);
        self.rq_time.observe(stripe, micros);
        if rx > 0 {
            self.rx_bytes.add(stripe, rx);
        }
        self.tx_bytes.add(stripe, tx);
    }
}

/// Counters of all data listeners together.
#[derive(Debug)]
pub struct ClientMetrics {
    cx_active: AtomicUsize,
    /// Requests refused before their route was known.
    pub(super) unrouted: RouteMetrics,
    pub(super) cx_total: Counter,
    pub(super) cx_overflow: Counter,
    pub(super) idle_timeout: Counter,
    pub(super) head_timeout: Counter,
    pub(super) protocol_error: Counter,
    pub(super) no_route: Counter,
    pub(super) no_pool: Counter,
    pub(super) too_large: Counter,
    pub(super) too_slow: Counter,
    pub(super) client_gone: Counter,
    pub(super) answer_cut: Counter,
    pub(super) log_dropped: Counter,
    pub(super) proxy_protocol_fail: Counter,
    pub(super) tls_in_the_clear: Counter,
    pub(super) tls_fail: ReasonCounts,
    /// By version, 1.3 and 1.2, and by whether a session was resumed.
    pub(super) tls_handshakes: [[Counter; 2]; 2],
    pub(super) h2_cx_total: Counter,
    pub(super) h2_streams: Counter,
    pub(super) h2_resets: Counter,
    pub(super) h2_floods: Counter,
}

impl ClientMetrics {
    /// All at zero.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let counter = || Counter::new(workers);
        Self {
            cx_active: AtomicUsize::new(0),
            unrouted: RouteMetrics::new(workers),
            cx_total: counter(),
            cx_overflow: counter(),
            idle_timeout: counter(),
            head_timeout: counter(),
            protocol_error: counter(),
            no_route: counter(),
            no_pool: counter(),
            too_large: counter(),
            too_slow: counter(),
            client_gone: counter(),
            answer_cut: counter(),
            log_dropped: counter(),
            proxy_protocol_fail: counter(),
            tls_in_the_clear: counter(),
            tls_fail: ReasonCounts::default(),
            tls_handshakes: [[counter(), counter()], [counter(), counter()]],
            h2_cx_total: counter(),
            h2_streams: counter(),
            h2_resets: counter(),
            h2_floods: counter(),
        }
    }

    /// Connections open now, of all workers.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.cx_active.load(Ordering::Relaxed)
    }

    pub(super) fn connection_opened(&self) {
        self.cx_active.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn connection_closed(&self) {
        self.cx_active.fetch_sub(1, Ordering::Relaxed);
    }
}

const ROUTE: &[&str] = &["route"];
/// The label of requests without a route; no route can have this name.
const NO_ROUTE: &str = "-";

type Pick = fn(&ClientMetrics) -> &Counter;

const CLIENT_COUNTERS: [(&str, &str, Pick); 18] = [
    ("ringway_downstream_cx_total", "Client connections accepted.", |m| &m.cx_total),
    (
        "ringway_downstream_cx_overflow_total",
        "Client connections refused because there were too many.",
        |m| &m.cx_overflow,
    ),
    (
        "ringway_downstream_cx_idle_timeout_total",
        "Client connections closed because no request came.",
        |m| &m.idle_timeout,
    ),
    (
        "ringway_downstream_rq_head_timeout_total",
        "Requests whose head was not complete in time.",
        |m| &m.head_timeout,
    ),
    (
        "ringway_downstream_cx_protocol_error_total",
        "Requests refused as malformed or ambiguous.",
        |m| &m.protocol_error,
    ),
    ("ringway_downstream_rq_no_route_total", "Requests that no route takes.", |m| &m.no_route),
    (
        "ringway_downstream_rq_no_pool_total",
        "Requests whose route leads to a pool that is not agreed, or not yet.",
        |m| &m.no_pool,
    ),
    (
        "ringway_downstream_rq_too_large_total",
        "Requests refused because of a body larger than allowed.",
        |m| &m.too_large,
    ),
    (
        "ringway_downstream_rq_too_slow_total",
        "Requests whose client sent or took a body too slowly.",
        |m| &m.too_slow,
    ),
    (
        "ringway_downstream_rq_rx_reset_total",
        "Requests whose client went away before their end.",
        |m| &m.client_gone,
    ),
    (
        "ringway_downstream_rq_cut_total",
        "Answers cut off because the shard broke in their middle.",
        |m| &m.answer_cut,
    ),
    (
        "ringway_downstream_cx_proxy_protocol_error_total",
        "Connections closed because they did not begin with a PROXY header.",
        |m| &m.proxy_protocol_fail,
    ),
    (
        "ringway_downstream_cx_tls_in_the_clear_total",
        "Connections closed because the client spoke TLS to a listener without.",
        |m| &m.tls_in_the_clear,
    ),
    (
        "ringway_access_log_dropped_total",
        "Lines of the access log that were dropped because its writer could not keep up.",
        |m| &m.log_dropped,
    ),
    ("ringway_downstream_h2_cx_total", "Client connections that speak HTTP/2.", |m| &m.h2_cx_total),
    (
        "ringway_downstream_h2_streams_total",
        "Streams that clients opened, each with a request.",
        |m| &m.h2_streams,
    ),
    ("ringway_downstream_h2_rx_reset_total", "Streams that clients reset.", |m| &m.h2_resets),
    (
        "ringway_downstream_h2_flood_total",
        "Connections of HTTP/2 ended with ENHANCE_YOUR_CALM.",
        |m| &m.h2_floods,
    ),
];

/// Writes out everything counted about clients and routes.
#[must_use]
pub fn export(site: &Site, clients: &ClientMetrics) -> Vec<MetricFamily> {
    let mut requests = Group::new(
        "ringway_downstream_rq_total",
        "Requests answered, by class of status; those refused before their route was known as `-`.",
        Kind::Counter,
        &["route", "code_class"],
    );
    let mut times = Group::new(
        "ringway_downstream_rq_time_seconds",
        "From a request's head to the end of its answer.",
        Kind::Latency,
        ROUTE,
    );
    let mut received = Group::new(
        "ringway_downstream_rq_rx_bytes_total",
        "Bytes of request bodies received.",
        Kind::Counter,
        ROUTE,
    );
    let mut sent = Group::new(
        "ringway_downstream_rq_tx_bytes_total",
        "Bytes of answer bodies sent.",
        Kind::Counter,
        ROUTE,
    );
    let mut limited = Group::new(
        "ringway_downstream_rq_ratelimited_total",
        "Requests refused by their route's limit for one client.",
        Kind::Counter,
        ROUTE,
    );
    for (route, metrics) in site.routes.routes().iter().zip(site.route_metrics.iter()) {
        if route.rate_limit.is_some() {
            limited.push(&[route.name.as_str()], Sample::Counter(metrics.rate_limited.sum()));
        }
    }
    let names = site.routes.routes().iter().map(|route| route.name.as_str());
    let routed = names.zip(site.route_metrics.iter().map(|metrics| &**metrics));
    for (name, metrics) in routed.chain([(NO_ROUTE, &clients.unrouted)]) {
        for (class, sum) in metrics.classes.sums() {
            requests.push(&[name, class], Sample::Counter(sum));
        }
        times.push(&[name], Sample::Latency(&metrics.rq_time));
        received.push(&[name], Sample::Counter(metrics.rx_bytes.sum()));
        sent.push(&[name], Sample::Counter(metrics.tx_bytes.sum()));
    }
    let mut active = Group::new(
        "ringway_downstream_cx_active",
        "Client connections open now.",
        Kind::Gauge,
        &[],
    );
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    active.push(&[], Sample::Gauge(clients.connections() as f64));
    let totals = CLIENT_COUNTERS.iter().map(|&(name, help, pick)| {
        let mut group = Group::new(name, help, Kind::Counter, &[]);
        group.push(&[], Sample::Counter(pick(clients).sum()));
        group
    });
    let tls = [tls_handshakes(clients), tls_failures(clients)];
    [requests, times, received, sent, limited, active]
        .into_iter()
        .chain(tls)
        .chain(totals)
        .filter_map(Group::finish)
        .collect()
}

fn tls_handshakes(clients: &ClientMetrics) -> Group {
    let name = "ringway_downstream_tls_handshakes_total";
    let help = "TLS handshakes with clients, by version and whether a session was resumed.";
    let mut group = Group::new(name, help, Kind::Counter, &["version", "resumed"]);
    for (version, counters) in ["1.3", "1.2"].into_iter().zip(&clients.tls_handshakes) {
        for (resumed, counter) in ["false", "true"].into_iter().zip(counters) {
            group.push(&[version, resumed], Sample::Counter(counter.sum()));
        }
    }
    group
}

fn tls_failures(clients: &ClientMetrics) -> Group {
    let name = "ringway_downstream_tls_handshake_fail_total";
    let help = "TLS handshakes with clients that failed, by what was wrong.";
    let mut group = Group::new(name, help, Kind::Counter, &["reason"]);
    for (reason, count) in clients.tls_fail.met() {
        group.push(&[reason.label()], Sample::Counter(count));
    }
    group
}
