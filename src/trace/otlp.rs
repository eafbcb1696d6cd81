//! How are spans told to a collector?
//!
//! The JSON form of OTLP's `ExportTraceServiceRequest` (opentelemetry-proto 1.x): names in
//! lowerCamelCase, ids in hexadecimal digits, enumerations as numbers, 64-bit numbers as texts.

use serde_json::{Value as Json, json};

use super::span::{Attribute, Kind, Span, Value};

/// `STATUS_CODE_ERROR`; the default says that nobody judged.
const STATUS_ERROR: u8 = 2;

/// Who tells.
#[derive(Debug, Clone)]
pub struct Resource {
    /// The node's name.
    pub node: String,
}

/// Writes a request of `spans`. `unix_micros` is the wall clock's time at the zero of the clock on
/// which they were measured.
///
/// # Panics
/// Never: texts and numbers can be written.
#[must_use]
pub fn encode(spans: &[Span], resource: &Resource, unix_micros: u64) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let about = [
        ("service.name", Value::from("ringway")),
        ("service.instance.id", Value::from(resource.node.as_str())),
        ("service.version", Value::from(version)),
    ];
    let spans: Vec<_> = spans.iter().map(|span| span_json(span, unix_micros)).collect();
    let whole = json!({
        "resourceSpans": [{
            "resource": { "attributes": attributes(&about) },
            "scopeSpans": [{ "scope": { "name": "ringway", "version": version }, "spans": spans }],
        }],
    });
    serde_json::to_vec(&whole).expect("texts and numbers are written")
}

fn span_json(span: &Span, unix_micros: u64) -> Json {
    let nanos = |micros: u64| (u128::from(unix_micros + micros) * 1000).to_string();
    let mut whole = json!({
        "traceId": span.trace.to_string(),
        "spanId": span.id.to_string(),
        // W3C's flags: sampled.
        "flags": 1,
        "name": span.name,
        "kind": match span.kind { Kind::Server => 2, Kind::Client => 3 },
        "startTimeUnixNano": nanos(span.begun_micros),
        "endTimeUnixNano": nanos(span.ended_micros.max(span.begun_micros)),
        "attributes": attributes(&span.attributes),
    });
    if let Some(parent) = span.parent {
        whole["parentSpanId"] = parent.to_string().into();
    }
    if span.failed {
        whole["status"] = json!({ "code": STATUS_ERROR });
    }
    whole
}

fn attributes(all: &[Attribute]) -> Vec<Json> {
    let value = |value: &Value| match value {
        Value::Text(text) => json!({ "stringValue": text }),
        Value::Whole(number) => json!({ "intValue": number.to_string() }),
        Value::Truth(value) => json!({ "boolValue": value }),
    };
    all.iter().map(|(key, one)| json!({ "key": key, "value": value(one) })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{SpanId, TraceId};

    #[test]
    fn a_span_has_the_form_of_the_protocol() {
        let span = Span {
            trace: TraceId::of_random(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            id: SpanId::of_random(1),
            parent: Some(SpanId::of_random(u64::MAX)),
            kind: Kind::Client,
            name: "GET".to_owned(),
            begun_micros: 1,
            ended_micros: 3,
            attributes: vec![("a", "b".into()), ("n", 7_u16.into()), ("t", true.into())],
            failed: true,
        };
        let resource = Resource { node: "n1".to_owned() };
        let root = Span { parent: None, kind: Kind::Server, failed: false, ..span.clone() };
        let bytes = encode(&[span, root], &resource, 1_700_000_000_000_000);
        let whole: Json = serde_json::from_slice(&bytes).expect("JSON");
        let spans = &whole["resourceSpans"][0]["scopeSpans"][0]["spans"];
        assert_eq!(
            spans[0],
            json!({
                "traceId": "0123456789abcdef0123456789abcdef",
                "spanId": "0000000000000001",
                "parentSpanId": "ffffffffffffffff",
                "flags": 1,
                "name": "GET",
                "kind": 3,
                "startTimeUnixNano": "1700000000000001000",
                "endTimeUnixNano": "1700000000000003000",
                "attributes": [
                    { "key": "a", "value": { "stringValue": "b" } },
                    { "key": "n", "value": { "intValue": "7" } },
                    { "key": "t", "value": { "boolValue": true } },
                ],
                "status": { "code": 2 },
            })
        );
        assert_eq!(spans[1]["kind"], 2);
        assert_eq!(spans[1].get("parentSpanId"), None, "a trace begins with it");
        assert_eq!(spans[1].get("status"), None);
        let about = &whole["resourceSpans"][0]["resource"]["attributes"];
        assert_eq!(
            about[0],
            json!({ "key": "service.name", "value": { "stringValue": "ringway" } })
        );
        assert_eq!(about[1]["value"]["stringValue"], "n1");
    }
}
