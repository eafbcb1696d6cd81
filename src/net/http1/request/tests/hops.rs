//! What does `Connection` take away, and which names are too like ours?

use super::*;
use crate::net::http1::head::HeadError::{Lookalike, Nominated, OptionCount};

#[test]
fn connection_options() {
    for (value, said) in [
        ("close", ", last"),
        ("Close", ", last"),
        ("keep-alive", ""),
        ("keep-alive, close", ", last"),
        ("close, keep-alive", ", last"),
        (",, close ,", ", last"),
        ("", ""),
        (",", ""),
        ("\"close\"", ""),
        ("close;q=0", ""),
        ("closed", ""),
        ("x-a", ", without X-A"),
        ("X-A,close", ", last, without X-A"),
        ("x-b", ""),
        ("upgrade, http2-settings", ""),
        ("connection", ", without Connection"),
        ("accept", ", without Accept"),
        ("te", ""),
        ("x-a x-b", ""),
    ] {
        let fields = format!("X-A: b\r\nAccept: */*\r\nConnection: {value}\r\n");
        taken(get(&fields), &format!("GET `/` of `h`{said}"));
    }
    for option in [
        "host",
        "Host",
        "content-length",
        "Content-Length",
        "transfer-encoding",
        "close, transfer-encoding",
        "expect",
        "destination",
        "keep-alive, CONTENT-LENGTH, close",
    ] {
        refused(get(&format!("Connection: {option}\r\n")), Nominated);
        refused(get(&format!("Connection: close\r\nConnection: {option}\r\n")), Nominated);
    }
    let twice = "X-A: 1\r\nConnection: x-a\r\nx-a: 2\r\nConnection: close\r\n";
    taken(get(twice), "GET `/` of `h`, last, without X-A, without x-a");
    let old = |value: &str| format!("GET / HTTP/1.0\r\nConnection: {value}\r\n\r\n");
    taken(old("keep-alive"), "GET `/` of ``, old");
    taken(old("Keep-Alive"), "GET `/` of ``, old");
    taken(old("close"), "GET `/` of ``, old, last");
    taken(old("keep-alive, close"), "GET `/` of ``, old, last");
    taken(old("upgrade"), "GET `/` of ``, old, last");
    taken(get("Proxy-Connection: close\r\n"), "GET `/` of `h`");
}

/// Each option is compared with each field: without a bound, one head of 32 KiB would cost a
/// million comparisons.
#[test]
fn there_are_only_so_many_connection_options() {
    let options = |n: usize| vec!["a"; n].join(",");
    assert!(facts(&get(&format!("Connection: {}\r\n", options(32)))).is_ok());
    refused(get(&format!("Connection: {}\r\n", options(33))), OptionCount);
    let lines = format!("Connection: {}\r\n", options(17)).repeat(2);
    refused(get(&lines), OptionCount);
    // Empty members are not options, and cost nothing.
    taken(get(&format!("Connection: {}\r\n", ",".repeat(1000))), "GET `/` of `h`");
}

#[test]
fn names_that_another_server_may_take_for_ours() {
    for name in [
        "Content_Length",
        "content_length",
        "Transfer_Encoding",
        "TRANSFER_ENCODING",
        "Ringway_Consistency",
        "ringway_x",
        "X_Forwarded_For",
        "X-Forwarded_For",
        "x_forwarded-for",
        "X_Forwarded_Host",
        "X-Forwarded_Proto",
    ] {
        refused(get(&format!("{name}: 1\r\n")), Lookalike);
    }
    for name in ["Content.Length", "ContentLength", "Content-Length-", "X_Forwarded_Port", "A_B"] {
        taken(get(&format!("{name}: 1\r\n")), "GET `/` of `h`");
    }
}
