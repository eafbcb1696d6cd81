//! What is remembered of a request, to be counted, logged and told of when its answer has ended?

use super::access_log::{Record, Strength};
use super::exchange::Exchange;
use super::seam::Reply;
use crate::dispatch::outcome::Note;
use crate::dispatch::view::Pool;
use crate::route::RouteIx;

/// What is known of a request for its log line.
pub(super) struct Seen<'a> {
    pub(super) method: &'a [u8],
    pub(super) path: &'a [u8],
    pub(super) query: Option<&'a [u8]>,
    /// As the log has it; `-` if it was not understood.
    pub(super) protocol: &'static str,
    pub(super) route: Option<RouteIx>,
    pub(super) pool: Option<&'a Pool>,
    pub(super) flag: &'static str,
}

impl<'a> Seen<'a> {
    /// Of what could not be read as a request.
    pub(super) fn nothing() -> Self {
        Self {
            method: b"-",
            path: b"-",
            query: None,
            protocol: "-",
            route: None,
            pool: None,
            flag: NO_FLAG,
        }
    }

    /// The name of the shard asked last.
    pub(super) fn shard(&self, note: &Note) -> Option<&'a str> {
        Some(self.pool?.shards[note.shard?].id.as_str())
    }
}

/// What the log line says when all went well.
pub(super) const NO_FLAG: &str = "-";

impl Exchange<'_> {
    /// Counts and logs a request whose answer has ended, well or not.
    pub(super) fn finish<A: Reply>(&self, seen: &Seen<'_>, answer: &A, received: u64, note: &Note) {
        let (local, site) = (self.local, self.site);
        let micros = local.worker.timers.now_micros().saturating_sub(self.begun_micros);
        let status = answer.status();
        let metrics = match seen.route {
            Some(route) => &site.route_metrics[usize::from(route.0)],
            None => &local.metrics.unrouted,
        };
        metrics.ended(local.worker.stripe, status, micros, received, answer.sent());
        if let Some(part) = self.part.get() {
            self.finish_trace(part, seen, answer, note);
        }
        let Some(format) = site.log else { return };
        local.log(|unix_ms, out| {
            let target = match seen.query {
                Some(query) => [seen.path, b"?", query].concat(),
                None => seen.path.to_vec(),
            };
            let flags = match note.retries_exhausted && seen.flag != "URX" {
                true => format!("{},URX", seen.flag),
                false => seen.flag.to_owned(),
            };
            #[allow(clippy::cast_precision_loss, reason = "durations are far below 2^53 us")]
            let duration_ms = micros as f64 / 1000.0;
            let record = Record {
                unix_ms,
                client: self.caller.address,
                method: &String::from_utf8_lossy(seen.method),
                target: &String::from_utf8_lossy(&target),
                protocol: seen.protocol,
                status,
                bytes_in: received,
                bytes_out: answer.sent(),
                duration_ms,
                route: seen.route.map_or("", |route| site.route_name(route)),
                pool: seen.route.map_or("", |route| site.routes.route(route).pool.as_str()),
                shard: seen.shard(note).unwrap_or(""),
                upstream_status: note.upstream_status,
                attempts: note.attempts,
                spilled: note.spilled,
                flags: &flags,
                request_id: self.id(),
                strength: note.kept.as_ref().map(Strength::of),
            };
            record.write(format, out);
        });
    }
}
