//! Where does the body end, and what is wished for?

use super::*;
use crate::net::http1::framing::FramingError::{
    Encoding, EncodingInOldVersion, LengthAndEncoding, LengthSyntax, LengthTwice,
};

#[test]
fn lengths() {
    for value in [
        "+5",
        "-5",
        "-0",
        "+0",
        "5.0",
        "5e1",
        "0x5",
        "5h",
        "5 5",
        "5\t5",
        "",
        " ",
        "five",
        "٥",
        "\"5\"",
        "'5'",
        "5;",
        "5;a=b",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999",
        "_5",
        "5_000",
        "½",
    ] {
        refused(get(&format!("Content-Length: {value}\r\n")), LengthSyntax);
    }
    for fields in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 0\r\nContent-Length: 0\r\n",
        "Content-Length: 5\r\ncontent-length: 5\r\n",
        "Content-Length: 5\r\nA: b\r\nCONTENT-LENGTH: 0\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5,5\r\n",
        "Content-Length: 5,\r\n",
        "Content-Length: ,5\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: ,\r\n",
    ] {
        refused(get(fields), LengthTwice);
    }
    let lengths = [
        ("0", ""),
        ("00", ""),
        ("5", ", 5 bytes"),
        ("  5\t", ", 5 bytes"),
        ("0005", ", 5 bytes"),
        ("000000000000000000000000000000000005", ", 5 bytes"),
        ("9223372036854775807", ", 9223372036854775807 bytes"),
    ];
    for (value, body) in lengths {
        let head = get(&format!("Content-Length: {value}\r\n"));
        taken(head, &format!("GET `/` of `h`{body}"));
    }
    taken(get("content-LENGTH: 7\r\n"), "GET `/` of `h`, 7 bytes");
    let old = "POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n";
    taken(old, "POST `/` of ``, 5 bytes, old, last");
}

#[test]
fn transfer_codings() {
    for value in [
        "chunked, chunked",
        "chunked,chunked",
        "chunked,",
        ",chunked",
        "gzip, chunked",
        "gzip,chunked",
        "chunked, gzip",
        "identity",
        "identity, chunked",
        "chunked, identity",
        "gzip",
        "deflate",
        "xchunked",
        "chunkedx",
        "x chunked",
        "chunked x",
        "\"chunked\"",
        "'chunked'",
        "chunked;",
        "chunked;a=b",
        "chunked ; q=1",
        "",
        " ",
        ",",
        "chunke",
        "chunk",
        "trailers",
        "cow",
        "chunked\u{a0}",
        "\u{212a}",
    ] {
        refused(get(&format!("Transfer-Encoding: {value}\r\n")), Encoding);
    }
    for fields in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n",
    ] {
        refused(get(fields), Encoding);
    }
    for fields in [
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nA: b\r\ntransfer-encoding: CHUNKED\r\n",
    ] {
        refused(get(fields), LengthAndEncoding);
    }
    for version in ["chunked", "identity", "gzip", ""] {
        let head = format!("POST / HTTP/1.0\r\nTransfer-Encoding: {version}\r\n\r\n");
        refused(head, EncodingInOldVersion);
    }
    let old = "POST / HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    refused(old, EncodingInOldVersion);
    for value in ["chunked", "Chunked", "CHUNKED", "\tchunked\t", "  chunked"] {
        let head = get(&format!("Transfer-Encoding: {value}\r\n"));
        taken(head, "GET `/` of `h`, chunks");
    }
    taken(get("tRANSFER-eNCODING:chunked\r\n"), "GET `/` of `h`, chunks");
}

#[test]
fn expectations_and_trailers() {
    taken(get("Expect: 100-continue\r\n"), "GET `/` of `h`, waits");
    taken(get("Expect: 100-Continue\r\nContent-Length: 1\r\n"), "GET `/` of `h`, 1 bytes, waits");
    taken(get("Expect: 100-continue\r\nExpect: 100-continue\r\n"), "GET `/` of `h`, waits");
    for value in ["", "100", "100-continue, x", "100-continue;a", "x", "\"100-continue\"", "200-ok"]
    {
        refused(get(&format!("Expect: {value}\r\n")), RequestError::Expectation);
    }
    taken("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", "GET `/` of ``, old, last");
    for (value, said) in [
        ("trailers", ", trailers"),
        ("Trailers", ", trailers"),
        ("gzip, trailers", ", trailers"),
        ("trailers;q=0", ""),
        ("deflate;q=0.5", ""),
        ("", ""),
    ] {
        taken(get(&format!("TE: {value}\r\n")), &format!("GET `/` of `h`{said}"));
    }
}
