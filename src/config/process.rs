//! How is the process set up: its name, logs, and what its clients may do?

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use crate::ids::{BaseUrl, NodeName, Zone};
use crate::limits::{ClientLimits, ClientTimeouts, Http2Limits};

use super::checked::{
    AccessLogConfig, AccessLogFormat, AccessLogTarget, ClientConfig, ForwardedFields,
    ForwardedRule, LogConfig, LogFormat, LogLevel, NodeConfig, TracingConfig, Workers,
};
use super::schema;
use super::section::Section;
use super::spot::Spot;
use super::units::show_size;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// Fields of a head: what the codec's table can hold.
const FIELDS_MAX: u64 = 256;

/// Threads that serve requests; more than the cores of any machine that is known to us.
const WORKERS_MAX: u64 = 1024;

pub(super) fn node(file: &Section<'_>) -> NodeConfig {
    let mut node = NodeConfig::default();
    let Some(section) = file.sub("node", &schema::NODE) else { return node };
    section.set("name", &mut node.name, |spot| {
        spot.or_word("auto", |spot| spot.parsed("a name", NodeName::new))
    });
    section.set("data_dir", &mut node.data_dir, |spot| path(spot, "the path of a folder"));
    section.set("zone", &mut node.zone, |spot| {
        spot.or_word("none", |spot| spot.parsed("a name", Zone::new))
    });
    section.set("workers", &mut node.workers, |spot| {
        let number = spot.or_word("auto", |spot| spot.number::<u16>(1..=WORKERS_MAX))?;
        Some(number.and_then(NonZeroU16::new).map_or(Workers::Auto, Workers::Fixed))
    });
    node
}

pub(super) fn path(spot: &Spot<'_>, what: &str) -> Option<PathBuf> {
    match spot.text(what)? {
        "" => spot.refuse("found an empty path", format!("write {what}")),
        text if text.contains('\0') => spot.refuse("a path has no NUL", format!("write {what}")),
        text => Some(PathBuf::from(text)),
    }
}

pub(super) fn log(file: &Section<'_>) -> LogConfig {
    let mut log = LogConfig::default();
    let Some(section) = file.sub("log", &schema::LOG) else { return log };
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    section.set("level", &mut log.level, |spot| spot.one_of(&levels, &[]));
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    section.set("format", &mut log.format, |spot| spot.one_of(&formats, &[]));
    log
}

pub(super) fn access_log(file: &Section<'_>) -> Option<AccessLogConfig> {
    let section = file.sub("access_log", &schema::ACCESS_LOG)?;
    let mut format = None;
    let formats = [
        ("off", None),
        ("json", Some(AccessLogFormat::Json)),
        ("common", Some(AccessLogFormat::Common)),
    ];
    section.set("format", &mut format, |spot| spot.one_of(&formats, &[]));
    let mut target = AccessLogTarget::Stdout;
    section.set("path", &mut target, |spot| {
        let path = spot.or_word("-", |spot| path(spot, "the path of a file, or `\"-\"`"))?;
        Some(path.map_or(AccessLogTarget::Stdout, AccessLogTarget::File))
    });
    if let (None, Some(spot)) = (section.get("format"), section.get("path")) {
        spot.warn("no access log is written", "write `format: json` or `format: common` beside it");
    }
    format.map(|format| AccessLogConfig { format, target })
}

pub(super) fn tracing(file: &Section<'_>) -> Option<TracingConfig> {
    const WHERE: &str = "where a collector is, such as `http://127.0.0.1:4318/v1/traces`";
    let section = file.get("tracing")?.or_word("off", |spot| spot.section(&schema::TRACING))??;
    let otlp = section.need("otlp", WHERE).and_then(|spot| {
        const FORM: &str = "`http://HOST[:PORT][/PATH]`, without a query";
        let Ok(url) = BaseUrl::parse(spot.text(FORM)?) else {
            return spot.refuse_kind("the URL of a collector", format!("write {FORM}"));
        };
        if url.is_tls() {
            let help = "write `http://` and the address of a collector on this host or network";
            return spot.refuse("spans are not sent by TLS in this release", help);
        }
        Some(url)
    });
    let mut sample_percent = 1;
    section.set("sample_percent", &mut sample_percent, |spot| spot.number(0..=100));
    Some(TracingConfig { otlp: otlp?, sample_percent })
}

pub(super) fn client(file: &Section<'_>) -> ClientConfig {
    let mut client = ClientConfig::default();
    let Some(section) = file.sub("client", &schema::CLIENT) else { return client };
    let rules = [("replace", ForwardedRule::Replace), ("append", ForwardedRule::Append)];
    section.set("forwarded", &mut client.forwarded, |spot| spot.one_of(&rules, &[]));
    let fields = [
        ("x_forwarded", ForwardedFields::XForwarded),
        ("forwarded", ForwardedFields::Forwarded),
        ("both", ForwardedFields::Both),
    ];
    section.set("forwarded_fields", &mut client.forwarded_fields, |spot| spot.one_of(&fields, &[]));
    section.set("http2", &mut client.limits.http2, |spot| spot.or_word("off", read_http2));
    if let Some(limits) = section.sub("limits", &schema::CLIENT_LIMITS) {
        read_limits(&limits, &mut client.limits);
    }
    if let Some(timeouts) = section.sub("timeouts", &schema::CLIENT_TIMEOUTS) {
        read_timeouts(&timeouts, &mut client.timeouts);
    }
    client
}

fn read_http2(spot: &Spot<'_>) -> Option<Http2Limits> {
    let section = spot.section(&schema::CLIENT_HTTP2)?;
    let mut limits = Http2Limits::default();
    section.set("streams", &mut limits.streams_max, |spot| spot.number(1..=1000));
    section.set("stream_window", &mut limits.stream_window_bytes, |spot| {
        spot.size(64 * KIB..=16 * MIB)
    });
    section.set("connection_window", &mut limits.connection_window_bytes, |spot| {
        spot.size(64 * KIB..=GIB)
    });
    let (stream, connection) = (limits.stream_window_bytes, limits.connection_window_bytes);
    if stream > connection {
        let (stream, connection) = (show_size(stream.into()), show_size(connection.into()));
        let message =
            format!("one body may have {stream} under way, but all together {connection}");
        return section
            .spot()
            .refuse(message, "raise `connection_window`, or lower `stream_window`");
    }
    Some(limits)
}

fn read_limits(section: &Section<'_>, limits: &mut ClientLimits) {
    section.set("head", &mut limits.head_bytes_max, |spot| spot.size(KIB..=MIB));
    section.set("line", &mut limits.line_bytes_max, |spot| spot.size(256..=MIB));
    section.set("fields", &mut limits.fields_max, |spot| spot.number(1..=FIELDS_MAX));
    section.set("body", &mut limits.body_bytes_max, |spot| {
        spot.or_word("none", |spot| spot.size(0..=u64::MAX))
    });
    section
        .set("chunk_extensions", &mut limits.chunk_extension_bytes_max, |spot| spot.size(0..=MIB));
    section.set("trailers", &mut limits.trailer_bytes_max, |spot| spot.size(0..=MIB));
    section.set("requests_per_connection", &mut limits.requests_per_connection_max, |spot| {
        spot.number(1..=u64::from(u32::MAX))
    });
    section.set("connections", &mut limits.connections_max, |spot| spot.number(1..=1_000_000));
    section.set("replay_body", &mut limits.replay_body_bytes_max, |spot| spot.size(0..=16 * MIB));
    section.set("least_rate", &mut limits.rate_bytes_per_second_min, |spot| {
        Some(spot.or_word("none", |spot| spot.size(0..=GIB))?.unwrap_or(0))
    });
    if limits.line_bytes_max > limits.head_bytes_max {
        let show = |bytes: usize| show_size(u64::try_from(bytes).unwrap_or(u64::MAX));
        let (line, head) = (show(limits.line_bytes_max), show(limits.head_bytes_max));
        let message = format!("a line may have {line}, but the whole head only {head}");
        let help = "raise `head`, or lower `line`";
        match (section.get("line"), section.get("head")) {
            (Some(line), Some(head)) => line.clash(message, (head.place(), "the whole head"), help),
            (Some(one), None) | (None, Some(one)) => one.refuse(message, help).unwrap_or_default(),
            (None, None) => unreachable!("the defaults fit each other"),
        }
    }
}

fn read_timeouts(section: &Section<'_>, timeouts: &mut ClientTimeouts) {
    for (key, into) in [
        ("head", &mut timeouts.head),
        ("body_idle", &mut timeouts.body_idle),
        ("rate_grace", &mut timeouts.rate_grace),
        ("keep_alive", &mut timeouts.keep_alive),
        ("linger", &mut timeouts.linger),
    ] {
        section.set(key, into, Spot::duration);
    }
}

pub(super) fn drain(file: &Section<'_>) -> (Duration, Duration) {
    let mut drain_delay = Duration::from_secs(1);
    file.set("drain_delay", &mut drain_delay, |spot| spot.duration_from(Duration::ZERO));
    let mut drain_timeout = Duration::from_secs(30);
    file.set("drain_timeout", &mut drain_timeout, |spot| spot.duration_from(Duration::ZERO));
    (drain_delay, drain_timeout)
}
