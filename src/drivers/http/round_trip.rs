//! Does a shard read what the client meant?
//!
//! Every request that is understood in a random stream is written as `proxy` and `dispatch` write
//! it, body included, all onto one connection. Read again, by ourselves and by hyper's server, it
//! must be the same requests, as many and no more: a byte too many or too few would make the next
//! request of another client.

use proptest::prelude::{ProptestConfig, any};
use proptest::{prop_assert_eq, proptest};

use super::{Address, HostRule, Outbound, write_head};
use crate::ids::BaseUrl;
use crate::key::{canonical_path, check_query};
use crate::net::http1::chunked::{CHUNK_HEAD_BYTES, chunk_head};
use crate::net::http1::differential::{Message, each, peer, stream};
use crate::net::http1::framing::Framing;
use crate::net::http1::head::{FieldKind, write_field};
use crate::net::http1::request::{RequestHead, Target};

/// The fields that go on untouched. What is appended to or written anew is left out: it is text
/// of our own.
fn end_to_end(head: &RequestHead, whole: &[u8]) -> Vec<u8> {
    let mut fields = Vec::new();
    let kept = |kind| matches!(kind, FieldKind::EndToEnd | FieldKind::Date);
    for field in head.fields().iter().filter(|field| !field.nominated && kept(field.kind)) {
        write_field(&mut fields, field.name.of_bytes(whole), field.value.of_bytes(whole));
    }
    fields
}

/// Writes a request as it is forwarded; `None` if its target has no canonical form.
fn forward(
    out: &mut Vec<u8>,
    head: &RequestHead,
    whole: &[u8],
    body: &[u8],
    piece: usize,
    host: HostRule,
) -> Option<Message> {
    let (path, query) = match head.target() {
        Target::Path { path, query } => (path, query.map(|query| query.of_bytes(whole))),
        Target::Asterisk | Target::Authority => return None,
    };
    let path = match path.of_bytes(whole) {
        b"" => b"/",
        path => path,
    };
    let path = canonical_path(path).ok()?;
    query.map_or(Ok(()), check_query).ok()?;
    let outbound = Outbound {
        method: head.method(whole),
        path: &path,
        query,
        client_host: head.host(whole),
        fields: &end_to_end(head, whole),
        destination: None,
        condition: None,
        framing: head.framing(),
        expect_continue: head.expects_continue() && head.framing() != Framing::None,
        wants_trailers: head.wants_trailers(),
        traceparent: None,
    };
    let address = Address::of(&BaseUrl::parse("http://shard:81/base").expect("a good URL"));
    write_head(out, &outbound, &address, host);
    if head.framing() == Framing::Chunked {
        for bytes in body.chunks(piece) {
            out.extend_from_slice(chunk_head(&mut [0; CHUNK_HEAD_BYTES], bytes.len()));
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\nA: b\r\n\r\n");
    } else {
        out.extend_from_slice(body);
    }
    let query = query.map(|query| [b"?", query].concat()).unwrap_or_default();
    let target = [b"/base", &path[..], &query].concat();
    Some(Message { method: head.method(whole).to_vec(), target, body: body.to_vec() })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn what_is_forwarded_is_read_as_it_was_meant(
        stream in stream::requests(), piece in 1usize..30, keep_host in any::<bool>(),
    ) {
        let host = if keep_host { HostRule::Client } else { HostRule::Shard };
        let (mut out, mut meant, mut fields) = (Vec::new(), Vec::new(), Vec::new());
        each(&stream, |head, whole, body| {
            if let Some(message) = forward(&mut out, head, whole, &body, piece, host) {
                meant.push(message);
                fields.push((head.framing(), head.wants_trailers(), end_to_end(head, whole)));
            }
        });
        let mut read = Vec::new();
        each(&out, |head, whole, body| {
            let Target::Path { path, query } = head.target() else { return };
            let query = query.map(|query| [b"?", query.of_bytes(whole)].concat());
            let target = [path.of_bytes(whole), &query.unwrap_or_default()].concat();
            read.push(Message { method: head.method(whole).to_vec(), target, body });
            let (framing, trailers, kept) = fields.remove(0);
            assert_eq!((head.framing(), head.wants_trailers()), (framing, trailers));
            assert_eq!(end_to_end(head, whole), kept, "the same fields, in order and spelling");
        });
        prop_assert_eq!(&read, &meant, "{:?}", String::from_utf8_lossy(&out));
        let theirs = peer::read(&out, piece);
        prop_assert_eq!(&theirs, &meant, "{:?}", String::from_utf8_lossy(&out));
    }
}
