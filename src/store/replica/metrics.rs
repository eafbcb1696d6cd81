//! What does a store count of the pools that keep data?

use http::{Method, StatusCode};
use prometheus::{IntCounter, IntGauge};

use crate::protocol::replica::{Op, Refusal, words};
use crate::store::http::Answer;
use crate::store::metrics::Maker;
use crate::store::replica::damage::FOUND;
use crate::store::replica::pool::PoolFacts;

const OPS: [&str; 16] = [
    "stage",
    "abort",
    "commit",
    "get",
    "head",
    "put",
    "delete",
    "keys",
    "list",
    "tombstones",
    "digests",
    "watermarks",
    "watermark",
    "state",
    "bind",
    "damaged",
];

const RESULTS: [&str; 5] = ["ok", "superseded", "absent", "refused", "failed"];

/// Counters and gauges of pools that keep data.
#[derive(Debug)]
pub struct ReplicaMetrics {
    /// By [`OPS`], then by [`RESULTS`].
    requests: Vec<[IntCounter; RESULTS.len()]>,
    /// Bodies that wait for their commit.
    pub(in crate::store) stages: IntGauge,
    /// Bytes of memory that they take.
    pub(in crate::store) stage_bytes: IntGauge,
    values: IntGauge,
    value_bytes: IntGauge,
    pub(in crate::store) tombstones: IntGauge,
    /// Values whose bytes are lost or spoilt.
    pub(in crate::store) damaged: IntGauge,
    /// How such were found, by [`FOUND`].
    pub(in crate::store) damage_found: [IntCounter; FOUND.len()],
    stale_epochs: IntCounter,
    dropped: IntCounter,
    raised: IntCounter,
}

impl ReplicaMetrics {
    pub(in crate::store) fn register(maker: &Maker<'_>) -> Result<Self, prometheus::Error> {
        let requests = maker.labelled(
            "replica_requests_total",
            "Requests of nodes answered, by operation and result.",
            &["op", "result"],
        )?;
        let found = maker.labelled(
            "replica_damage_found_total",
            "Values found with bytes lost or spoilt, by what came upon them.",
            &["by"],
        )?;
        Ok(Self {
            damaged: maker.gauge(
                "replica_damaged_values",
                "Values held of pools that keep data whose bytes are lost or spoilt.",
            )?,
            damage_found: FOUND.map(|by| found.with_label_values(&[by])),
            requests: OPS
                .iter()
                .map(|op| RESULTS.map(|result| requests.with_label_values(&[op, &result])))
                .collect(),
            stages: maker.gauge("replica_stages", "Bodies that wait for their commit.")?,
            stage_bytes: maker.gauge(
                "replica_stage_memory_bytes",
                "Bytes of memory that bodies take which wait for their commit.",
            )?,
            values: maker.gauge("replica_values", "Values held of pools that keep data.")?,
            value_bytes: maker.gauge(
                "replica_value_bytes",
                "Bytes of the values held of pools that keep data.",
            )?,
            tombstones: maker
                .gauge("replica_tombstones", "Tombstones held of pools that keep data.")?,
            stale_epochs: maker.counter(
                "replica_stale_epochs_total",
                "Requests of nodes refused because the store was told a later epoch.",
            )?,
            dropped: maker.counter("replica_tombstones_dropped_total", "Tombstones collected.")?,
            raised: maker
                .counter("replica_watermarks_raised_total", "Watermarks of slots raised.")?,
        })
    }

    /// Counts one answered request.
    pub(super) fn answered(&self, op: Op, method: &Method, answer: &Answer) {
        let op = match (op, method) {
            (Op::Stage, &Method::DELETE) => 1,
            (Op::Stage, _) => 0,
            (Op::Commit, _) => 2,
            (Op::Value, &Method::HEAD) => 4,
            (Op::Value, &Method::PUT) => 5,
            (Op::Value, &Method::DELETE) => 6,
            (Op::Value, _) => 3,
            (Op::Keys, _) => 7,
            (Op::List, _) => 8,
            (Op::Tombstones, _) => 9,
            (Op::Digests, _) => 10,
            (Op::Watermarks, _) => 11,
            (Op::Watermark, _) => 12,
            (Op::State, _) => 13,
            (Op::Bind, _) => 14,
            (Op::Damaged, _) => 15,
        };
        let result = match answer {
            Ok(response) => match response.headers().get(words::APPLIED) {
                Some(applied) if applied != words::YES => 1,
                _ if response.status() == StatusCode::NOT_FOUND => 2,
                _ if response.status().is_client_error() => 3,
                _ => 0,
            },
            Err(problem) => {
                if problem.kind() == Refusal::StaleEpoch.word() {
                    self.stale_epochs.inc();
                }
                if problem.status().is_server_error() { 4 } else { 3 }
            }
        };
        self.requests[op][result].inc();
    }

    /// Counts a collection of tombstones.
    pub(super) fn collected(&self, dropped: u64, raised: bool) {
        self.dropped.inc_by(dropped);
        self.raised.inc_by(u64::from(raised));
    }

    /// Says what is held of all pools.
    pub(in crate::store) fn held<'f>(&self, pools: impl Iterator<Item = &'f PoolFacts>) {
        let mut sums = [0_u64; 3];
        for facts in pools {
            for (sum, part) in sums.iter_mut().zip([facts.values, facts.bytes, facts.tombstones]) {
                *sum = sum.saturating_add(part);
            }
        }
        for (gauge, sum) in
            [&self.values, &self.value_bytes, &self.tombstones].into_iter().zip(sums)
        {
            gauge.set(i64::try_from(sum).unwrap_or(i64::MAX));
        }
    }
}
