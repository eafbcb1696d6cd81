//! The grammar of a request's head, read line by line with no care for speed.

use std::collections::BTreeMap;

use crate::net::http1::framing::Framing;

/// What one head says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) method: Vec<u8>,
    pub(super) host: Vec<u8>,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
}

/// A field's name in lower case, to its values in order.
type Fields = BTreeMap<String, Vec<Vec<u8>>>;

/// Reads a head that ends in an empty line. `None`: it is refused.
pub(super) fn read(head: &[u8]) -> Option<Facts> {
    // Bytes as characters U+0000 to U+00FF, so that the functions of `str` can be used.
    let text: String = head.iter().map(|&byte| char::from(byte)).collect();
    let text = text.strip_suffix("\r\n\r\n")?;
    let mut lines = text.split("\r\n");
    let words: Vec<&str> = lines.next()?.split(' ').collect();
    let [method, target, version] = words[..] else { return None };
    let old = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ => return None,
    };
    if !is_token(method) || method.len() > 32 || !target.chars().all(|c| c > ' ' && c != '\x7f') {
        return None;
    }
    // A target is UTF-8.
    String::from_utf8(target.chars().map(|c| c as u8).collect()).ok()?;
    let mut fields = Fields::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let value = value.trim_matches([' ', '\t']);
        if !is_token(name) || value.chars().any(|c| (c < ' ' && c != '\t') || c == '\x7f') {
            return None;
        }
        let name = name.to_ascii_lowercase();
        fields.entry(name).or_default().push(value.chars().map(|c| c as u8).collect());
    }
    let keep_alive = hops(&fields, old)?;
    let framing = framing(&fields, old)?;
    let host = host(&fields, method, target, old)?;
    expectation(&fields)?;
    Some(Facts { method: method.as_bytes().to_vec(), host, framing, keep_alive })
}

fn is_token(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(fine)
}

fn values(fields: &Fields, name: &str) -> Vec<String> {
    let values = fields.get(name).into_iter().flatten();
    values.map(|value| value.iter().map(|&byte| char::from(byte)).collect()).collect()
}

fn hops(fields: &Fields, old: bool) -> Option<bool> {
    const OURS: [&str; 5] = [
        "content-length",
        "transfer-encoding",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    ];
    if fields.keys().any(|name| name.contains('_') && OURS.contains(&&*name.replace('_', "-"))) {
        return None;
    }
    let options = values(fields, "connection").join(",").to_ascii_lowercase();
    let options: Vec<&str> =
        options.split(',').map(|o| o.trim_matches([' ', '\t'])).filter(|o| !o.is_empty()).collect();
    let needed = ["host", "content-length", "transfer-encoding", "expect", "destination"];
    if options.len() > 32 || options.iter().any(|option| needed.contains(option)) {
        return None;
    }
    Some(!options.contains(&"close") && (!old || options.contains(&"keep-alive")))
}

fn framing(fields: &Fields, old: bool) -> Option<Framing> {
    let (lengths, codings) =
        (values(fields, "content-length"), values(fields, "transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Some(Framing::None),
        ([], [coding]) if !old && coding.eq_ignore_ascii_case("chunked") => Some(Framing::Chunked),
        ([length], []) if length.chars().all(|c| c.is_ascii_digit()) => match length.parse() {
            Ok(0) => Some(Framing::None),
            Ok(length) if length >> 63 == 0 => Some(Framing::Length(length)),
            _ => None,
        },
        _ => None,
    }
}

fn host(fields: &Fields, method: &str, target: &str, old: bool) -> Option<Vec<u8>> {
    let host = match &values(fields, "host")[..] {
        [host] => Some(host.clone()),
        [] if old => None,
        _ => return None,
    };
    if host.as_deref().is_some_and(|host| !is_host(host)) {
        return None;
    }
    let lower = target.to_ascii_lowercase();
    let authority = match lower.strip_prefix("http://").or(lower.strip_prefix("https://")) {
        _ if method == "CONNECT" => return is_connectable(target).then(|| bytes(host)),
        _ if target == "*" => return (method == "OPTIONS").then(|| bytes(host)),
        _ if target.starts_with('/') => return Some(bytes(host)),
        None => return None,
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let begin = target.len() - rest.len();
            target[begin..begin + end].to_owned()
        }
    };
    let agrees = host.is_none_or(|host| host.eq_ignore_ascii_case(&authority));
    (is_host(&authority) && agrees).then(|| bytes(Some(authority)))
}

fn is_connectable(target: &str) -> bool {
    is_host(target) && target.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

fn bytes(text: Option<String>) -> Vec<u8> {
    text.unwrap_or_default().into_bytes()
}

fn is_host(text: &str) -> bool {
    let is_address = |name: &str| {
        let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
    };
    let is_name = |name: &str| {
        let fine = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+;=".contains(c);
        !name.is_empty() && name.chars().all(fine)
    };
    let is_one = |name: &str| is_address(name) || is_name(name);
    let is_port = |port: &str| {
        port.is_empty()
            || (port.len() <= 5
                && port.chars().all(|c| c.is_ascii_digit())
                && port.parse::<u16>().is_ok())
    };
    is_one(text) || text.rsplit_once(':').is_some_and(|(name, port)| is_one(name) && is_port(port))
}

fn expectation(fields: &Fields) -> Option<()> {
    let fine = |value: &String| value.eq_ignore_ascii_case("100-continue");
    values(fields, "expect").iter().all(fine).then_some(())
}
