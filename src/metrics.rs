//! How does a request count what happened without slowing another?
//!
//! The request path runs on one thread per core. A counter that two threads write costs each of
//! them a cache miss per increment, several times the price of everything else that is counted. So
//! what the request path touches is *striped*: one cache line per worker, written by that worker,
//! summed when somebody scrapes. What changes rarely uses the `prometheus` types directly.
//!
//! Handles are resolved when a shard or a route comes into being, never per request; a shard that
//! leaves takes its series with it, since a [`Group`] exports what its owner lists at scrape time.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::proto;

/// Which stripe a thread writes: its worker's number. Threads that are no workers use
/// [`Stripe::SHARED`].
///
/// Invariant: no two threads have the number of one worker. A worker then needs no locked
/// instruction to count, which is most of what counting costs: some twenty cycles each, and a
/// request is counted a dozen times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stripe(usize);

impl Stripe {
    /// The stripe of threads that serve no requests. Any number of them may write it at once.
    pub const SHARED: Stripe = Stripe(usize::MAX);

    /// The stripe of worker number `worker`, counted from 0; that of a worker beyond those that a
    /// counter was made for is the shared one.
    #[must_use]
    pub const fn of_worker(worker: usize) -> Self {
        Self(worker)
    }

    /// The worker's number; `None` for [`Stripe::SHARED`].
    #[must_use]
    pub fn worker(self) -> Option<usize> {
        (self != Self::SHARED).then_some(self.0)
    }
}

/// A value on a cache line (two, for the adjacent-line prefetcher) of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// Adds to a number that this thread alone writes.
fn add_own(number: &AtomicU64, n: u64) {
    number.store(number.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// A number that only grows.
#[derive(Debug)]
pub struct Counter {
    stripes: Box<[Padded<AtomicU64>]>,
    shared: AtomicU64,
}

impl Counter {
    /// A counter at zero with a stripe for each of `workers`.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let stripes = (0..workers.max(1)).map(|_| Padded::default()).collect();
        Self { stripes, shared: AtomicU64::new(0) }
    }

    /// Adds one.
    pub fn inc(&self, stripe: Stripe) {
        self.add(stripe, 1);
    }

    /// Adds `n`.
    pub fn add(&self, stripe: Stripe, n: u64) {
        match self.stripes.get(stripe.0) {
            Some(own) => add_own(&own.0, n),
            None => drop(self.shared.fetch_add(n, Ordering::Relaxed)),
        }
    }

    /// The sum over all stripes; each stripe is read once, not all at one instant.
    #[must_use]
    pub fn sum(&self) -> u64 {
        let stripes = self.stripes.iter().map(|stripe| &stripe.0);
        stripes.chain([&self.shared]).map(|number| number.load(Ordering::Relaxed)).sum()
    }
}

/// Final answers by class of status, as the label `code_class` has them.
#[derive(Debug)]
pub struct StatusClasses([Counter; 4]);

impl StatusClasses {
    /// All classes at zero, with a stripe for each of `workers`.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self(std::array::from_fn(|_| Counter::new(workers)))
    }

    /// Counts a final answer. A status outside 200..=599 is none and is not counted.
    pub fn answered(&self, stripe: Stripe, status: u16) {
        let class = usize::from(status / 100).checked_sub(2);
        if let Some(counter) = class.and_then(|class| self.0.get(class)) {
            counter.inc(stripe);
        }
    }

    /// Each class and its count, in the order of the classes.
    pub fn sums(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ["2xx", "3xx", "4xx", "5xx"].into_iter().zip(self.0.iter().map(Counter::sum))
    }
}

/// The upper bounds of the latency buckets, in seconds. Twelve, from a memory hit on loopback to
/// the longest default timeout: a histogram stands per route and per shard, never per pair.
pub const LATENCY_BOUNDS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

const BUCKETS: usize = LATENCY_BOUNDS.len() + 1;

/// The same bounds in microseconds, in which durations are counted.
const BOUNDS_MICROS: [u64; LATENCY_BOUNDS.len()] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000,
    30_000_000,
];

#[derive(Debug, Default)]
struct Cells {
    buckets: [AtomicU64; BUCKETS],
    sum_micros: AtomicU64,
}

/// How long something took, counted in the buckets of [`LATENCY_BOUNDS`].
#[derive(Debug)]
pub struct Latency {
    stripes: Box<[Padded<Cells>]>,
    shared: Cells,
}

impl Latency {
    /// An empty histogram with a stripe for each of `workers`.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let stripes = (0..workers.max(1)).map(|_| Padded::default()).collect();
        Self { stripes, shared: Cells::default() }
    }

    /// Counts one duration, given in microseconds.
    pub fn observe(&self, stripe: Stripe, micros: u64) {
        let bucket = BOUNDS_MICROS.partition_point(|&bound| bound < micros);
        if let Some(Padded(own)) = self.stripes.get(stripe.0) {
            add_own(&own.buckets[bucket], 1);
            add_own(&own.sum_micros, micros);
        } else {
            self.shared.buckets[bucket].fetch_add(1, Ordering::Relaxed);
            self.shared.sum_micros.fetch_add(micros, Ordering::Relaxed);
        }
    }

    fn to_proto(&self) -> proto::Histogram {
        let mut counts = [0u64; BUCKETS];
        let mut sum_micros = 0u64;
        for cells in self.stripes.iter().map(|own| &own.0).chain([&self.shared]) {
            for (total, cell) in counts.iter_mut().zip(&cells.buckets) {
                *total += cell.load(Ordering::Relaxed);
            }
            sum_micros += cells.sum_micros.load(Ordering::Relaxed);
        }
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(LATENCY_BOUNDS.len());
        for (count, bound) in counts.iter().zip(LATENCY_BOUNDS) {
            cumulative += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_cumulative_count(cumulative);
            bucket.set_upper_bound(bound);
            buckets.push(bucket);
        }
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(counts.iter().sum());
        #[allow(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
        histogram.set_sample_sum(sum_micros as f64 / 1e6);
        histogram
    }
}

/// One series: its labels' values and its present value.
#[derive(Debug, Clone, Copy)]
pub enum Sample<'a> {
    /// Of a counter family.
    Counter(u64),
    /// Of a counter family that counts seconds.
    Seconds(f64),
    /// Of a gauge family.
    Gauge(f64),
    /// Of a histogram family.
    Latency(&'a Latency),
}

/// What kind of family is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; the name ends in `_total`.
    Counter,
    /// Goes both ways.
    Gauge,
    /// Durations in seconds.
    Latency,
}

/// A family being written out: its name, help, label names and series.
#[derive(Debug)]
pub struct Group {
    labels: &'static [&'static str],
    family: proto::MetricFamily,
    metrics: Vec<proto::Metric>,
}

impl Group {
    /// An empty family. `labels` are the names whose values each series gives in that order.
    #[must_use]
    pub fn new(name: &str, help: &str, kind: Kind, labels: &'static [&'static str]) -> Self {
        let mut family = proto::MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(match kind {
            Kind::Counter => proto::MetricType::COUNTER,
            Kind::Gauge => proto::MetricType::GAUGE,
            Kind::Latency => proto::MetricType::HISTOGRAM,
        });
        Self { labels, family, metrics: Vec::new() }
    }

    /// Adds the series with these label values.
    pub fn push(&mut self, values: &[&str], sample: Sample<'_>) {
        debug_assert_eq!(values.len(), self.labels.len(), "one value for each label");
        let pairs = self.labels.iter().zip(values).map(|(name, value)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut metric = proto::Metric::from_label(pairs.collect());
        match sample {
            #[allow(clippy::cast_precision_loss, reason = "the exposition format has doubles only")]
            Sample::Counter(value) => {
                let mut counter = proto::Counter::default();
                counter.set_value(value as f64);
                metric.set_counter(counter);
            }
            Sample::Seconds(value) => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Sample::Gauge(value) => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            Sample::Latency(latency) => metric.set_histogram(latency.to_proto()),
        }
        self.metrics.push(metric);
    }

    /// The family in the form that the registry gathers; `None` when it has no series, which the
    /// exposition format does not allow.
    #[must_use]
    pub fn finish(mut self) -> Option<proto::MetricFamily> {
        if self.metrics.is_empty() {
            return None;
        }
        self.family.set_metric(self.metrics);
        Some(self.family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Encoder;

    #[test]
    fn stripes_add_up_and_any_stripe_is_safe() {
        let counter = Counter::new(2);
        counter.inc(Stripe::of_worker(0));
        counter.add(Stripe::of_worker(1), 5);
        counter.inc(Stripe::of_worker(7));
        counter.inc(Stripe::SHARED);
        assert_eq!(counter.sum(), 8);
    }

    /// Each worker beside threads that are none: nothing is lost, though workers do not lock.
    #[test]
    fn threads_count_at_once() {
        const TIMES: u64 = 20_000;
        let (counter, latency) = (Counter::new(2), Latency::new(2));
        let stripes = [Stripe::of_worker(0), Stripe::of_worker(1), Stripe::SHARED, Stripe::SHARED];
        std::thread::scope(|scope| {
            for stripe in stripes {
                let (counter, latency) = (&counter, &latency);
                scope.spawn(move || {
                    for _ in 0..TIMES {
                        counter.inc(stripe);
                        latency.observe(stripe, 1);
                    }
                });
            }
        });
        assert_eq!(counter.sum(), 4 * TIMES);
        assert_eq!(latency.to_proto().get_sample_count(), 4 * TIMES);
    }

    #[test]
    fn what_is_no_final_answer_is_of_no_class() {
        let classes = StatusClasses::new(1);
        for status in [0, 100, 200, 299, 304, 404, 500, 599, 600] {
            classes.answered(Stripe::SHARED, status);
        }
        let sums: Vec<_> = classes.sums().collect();
        assert_eq!(sums, [("2xx", 2), ("3xx", 1), ("4xx", 1), ("5xx", 2)]);
    }

    #[test]
    fn bounds_agree_in_both_units() {
        for (seconds, micros) in LATENCY_BOUNDS.iter().zip(BOUNDS_MICROS) {
            #[allow(clippy::cast_precision_loss, reason = "microseconds of a minute at most")]
            let from_micros = micros as f64 / 1e6;
            assert!((seconds - from_micros).abs() < 1e-12, "{seconds} s is not {micros} us");
        }
    }

    #[test]
    fn a_latency_family_is_written_cumulatively() {
        let latency = Latency::new(2);
        latency.observe(Stripe::of_worker(0), 500);
        latency.observe(Stripe::of_worker(1), 501);
        latency.observe(Stripe::of_worker(1), 40_000_000);
        let mut group =
            Group::new("ringway_test_seconds", "A test.", Kind::Latency, &["pool", "shard"]);
        group.push(&["p", "s"], Sample::Latency(&latency));
        let family = group.finish().expect("one series");
        let mut text = Vec::new();
        prometheus::TextEncoder::new().encode(&[family], &mut text).expect("a vector takes all");
        let text = String::from_utf8(text).expect("text");
        for line in [
            "ringway_test_seconds_bucket{pool=\"p\",shard=\"s\",le=\"0.0005\"} 1",
            "ringway_test_seconds_bucket{pool=\"p\",shard=\"s\",le=\"0.001\"} 2",
            "ringway_test_seconds_bucket{pool=\"p\",shard=\"s\",le=\"30\"} 2",
            "ringway_test_seconds_bucket{pool=\"p\",shard=\"s\",le=\"+Inf\"} 3",
            "ringway_test_seconds_sum{pool=\"p\",shard=\"s\"} 40.001001",
            "ringway_test_seconds_count{pool=\"p\",shard=\"s\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(Group::new("a", "b", Kind::Gauge, &[]).finish().is_none());
    }
}
