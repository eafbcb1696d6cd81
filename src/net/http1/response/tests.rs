//! Which answers are refused, and where do the others end?

use super::*;
use crate::net::http1::framing::FramingError::{
    Encoding, EncodingInOldVersion, LengthAndEncoding, LengthSyntax, LengthTwice, Misplaced,
};
use crate::net::http1::head::HeadError::{
    FieldName, FieldValue, FirstLine, LineEnd, Lookalike, Nominated, Version,
};

fn read(bytes: &[u8], head_asked: bool) -> Result<ResponseHead, ResponseError> {
    let mut head = ResponseHead::default();
    head.parse(bytes, head_asked)?;
    Ok(head)
}

/// The answer to GET with this status and these field lines: how it ends, and whether the
/// connection goes on.
fn answer(status: u16, fields: &str) -> Result<(Framing, Persistence), ResponseError> {
    let head = format!("HTTP/1.1 {status} Reason\r\n{fields}\r\n");
    read(head.as_bytes(), false).map(|head| (head.framing(), head.persistence()))
}

use Persistence::{Close, KeepAlive};

#[test]
fn status_lines() {
    for (line, error) in [
        ("HTTP/1.1 99 x", FirstLine),
        ("HTTP/1.1 20 x", FirstLine),
        ("HTTP/1.1 2000 x", FirstLine),
        ("HTTP/1.1 2x0 x", FirstLine),
        ("HTTP/1.1 +20 x", FirstLine),
        ("HTTP/1.1 -20 x", FirstLine),
        ("HTTP/1.1  200 x", FirstLine),
        ("HTTP/1.1\t200 x", Version),
        ("HTTP/1.1200 x", Version),
        ("HTTP/1.1 200x", FirstLine),
        ("HTTP/1.1 200\tx", FirstLine),
        ("HTTP/1.1", Version),
        ("HTTP/1.1 ", FirstLine),
        ("HTTP/0.9 200 x", Version),
        ("HTTP/1.2 200 x", Version),
        ("HTTP/2.0 200 x", Version),
        ("HTTP/2 200", Version),
        ("http/1.1 200 x", Version),
        ("ICY 200 OK", Version),
        (" HTTP/1.1 200 x", Version),
        ("<html>", Version),
        ("SSH-2.0-OpenSSH", Version),
        ("HTTP/1.1 200 a\0b", FirstLine),
        ("HTTP/1.1 200 a\x1bb", FirstLine),
        ("HTTP/1.1 200 a\x7fb", FirstLine),
        ("HTTP/1.1 200 a\rSet-Cookie: b", FirstLine),
        ("HTTP/1.1 200 a\r", FirstLine),
    ] {
        let head = format!("{line}\r\n\r\n");
        assert_eq!(read(head.as_bytes(), false).err(), Some(error.into()), "{line:?}");
    }
    for status in ["000", "001", "099", "600", "999", "101"] {
        let head = format!("HTTP/1.1 {status} x\r\n\r\n");
        let error = ResponseError::Status(status.parse().expect("a number"));
        assert_eq!(read(head.as_bytes(), false).err(), Some(error), "{status}");
    }
    for (line, status, reason) in [
        ("HTTP/1.1 200 OK", 200, "OK"),
        ("HTTP/1.1 200 ", 200, ""),
        ("HTTP/1.1 200", 200, ""),
        ("HTTP/1.0 404 Not Found", 404, "Not Found"),
        ("HTTP/1.1 299 \t~ !", 299, "\t~ !"),
        ("HTTP/1.1 599 x", 599, "x"),
        // A reason that is not ASCII says nothing that is worth passing on.
        ("HTTP/1.1 200 Schön", 200, ""),
    ] {
        let head = format!("{line}\r\n\r\n");
        let read = read(head.as_bytes(), false).expect(line);
        assert_eq!((read.status(), read.reason(head.as_bytes())), (status, reason.as_bytes()));
    }
}

/// What stands before the status line belongs to an answer that was not read to its end.
#[test]
fn an_answer_begins_with_its_first_line() {
    for head in ["\r\nHTTP/1.1 200 OK\r\n\r\n", "\nHTTP/1.1 200 OK\r\n\r\n", "\r\n\r\n"] {
        assert_eq!(read(head.as_bytes(), false).err(), Some(FirstLine.into()), "{head:?}");
    }
}

#[test]
fn fields() {
    for (fields, error) in [
        (" A: b\r\n", FieldName),
        ("A : b\r\n", FieldName),
        ("A: b\r\n c\r\n", FieldName),
        (": b\r\n", FieldName),
        ("A\r\n", FieldName),
        ("A: b\0\r\n", FieldValue),
        ("A: b\rC: d\r\n", FieldValue),
        ("A: b\x0b\r\n", FieldValue),
        ("\rA: b\r\n", LineEnd),
        ("Content_Length: 1\r\n", Lookalike),
        ("Connection: content-length\r\nContent-Length: 1\r\n", Nominated),
        ("Connection: transfer-encoding\r\n", Nominated),
    ] {
        assert_eq!(answer(200, fields), Err(error.into()), "{fields:?}");
    }
}

#[test]
fn bodies_end_where_the_head_says() {
    for (fields, framing, persistence) in [
        ("", Framing::UntilClose, Close),
        ("Connection: keep-alive\r\n", Framing::UntilClose, Close),
        ("Content-Length: 0\r\n", Framing::None, KeepAlive),
        ("Content-Length: 5\r\n", Framing::Length(5), KeepAlive),
        ("Content-Length: 5\r\nConnection: close\r\n", Framing::Length(5), Close),
        ("Transfer-Encoding: chunked\r\n", Framing::Chunked, KeepAlive),
        ("transfer-encoding: CHUNKED\r\nConnection: close\r\n", Framing::Chunked, Close),
    ] {
        for status in [200, 201, 206, 205, 301, 404, 407, 500, 599] {
            assert_eq!(answer(status, fields), Ok((framing, persistence)), "{status} {fields:?}");
        }
    }
    for (fields, error) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", LengthAndEncoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", LengthAndEncoding),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", LengthTwice),
        ("Content-Length: 5, 5\r\n", LengthTwice),
        ("Content-Length: -1\r\n", LengthSyntax),
        ("Content-Length: 18446744073709551616\r\n", LengthSyntax),
        ("Content-Length:\r\n", LengthSyntax),
        ("Transfer-Encoding: gzip, chunked\r\n", Encoding),
        ("Transfer-Encoding: identity\r\n", Encoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Encoding),
        ("Transfer-Encoding: chunked, chunked\r\n", Encoding),
        ("Transfer-Encoding:\r\n", Encoding),
    ] {
        for status in [100, 103, 200, 204, 304, 500] {
            assert_eq!(answer(status, fields), Err(error.into()), "{status} {fields:?}");
        }
    }
}

#[test]
fn some_answers_have_no_body_whatever_they_say() {
    for fields in ["", "Content-Length: 0\r\n", "Connection: keep-alive\r\n"] {
        for status in [100, 102, 103, 199, 204, 304] {
            assert_eq!(answer(status, fields), Ok((Framing::None, KeepAlive)), "{status} {fields}");
        }
    }
    // 304 has the length of what it did not send.
    assert_eq!(answer(304, "Content-Length: 5\r\n"), Ok((Framing::None, KeepAlive)));
    assert_eq!(answer(304, "Transfer-Encoding: chunked\r\n"), Ok((Framing::None, KeepAlive)));
    for fields in ["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let read = read(head.as_bytes(), true).expect("an answer to HEAD");
        assert_eq!((read.framing(), read.persistence()), (Framing::None, KeepAlive), "{fields}");
    }
}

/// A shard that announces content where none may be will perhaps send it too, and the next answer
/// would begin with it.
#[test]
fn a_body_is_announced_where_none_may_be() {
    for fields in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        assert_eq!(answer(204, fields), Ok((Framing::None, Close)), "{fields}");
        for status in [100, 103] {
            assert_eq!(answer(status, fields), Err(Misplaced.into()), "{status} {fields}");
        }
    }
}

#[test]
fn old_servers() {
    let old = |fields: &str| {
        let head = format!("HTTP/1.0 200 OK\r\n{fields}\r\n");
        read(head.as_bytes(), false).map(|head| (head.framing(), head.persistence()))
    };
    assert_eq!(old(""), Ok((Framing::UntilClose, Close)));
    assert_eq!(old("Content-Length: 5\r\n"), Ok((Framing::Length(5), Close)));
    let kept = "Content-Length: 5\r\nConnection: keep-alive\r\n";
    assert_eq!(old(kept), Ok((Framing::Length(5), KeepAlive)));
    assert_eq!(old("Connection: keep-alive\r\n"), Ok((Framing::UntilClose, Close)));
    assert_eq!(old("Transfer-Encoding: chunked\r\n"), Err(EncodingInOldVersion.into()));
}

#[test]
fn interim_answers_are_known_as_such() {
    for (status, interim) in [(100, true), (103, true), (199, true), (200, false), (599, false)] {
        let head = format!("HTTP/1.1 {status} x\r\n\r\n");
        assert_eq!(read(head.as_bytes(), false).expect("good").is_interim(), interim, "{status}");
    }
}

#[test]
fn every_byte_in_a_reason_and_a_value() {
    for byte in 0..=255u8 {
        let fine = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        for before in
            [&b"HTTP/1.1 200 a"[..], b"HTTP/1.1 200 OK\r\nA: bbbbbbbbbbbbbbbbbbbbbbbbbbbb"]
        {
            let head = [before, &[byte], b"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n\r\n"].concat();
            assert_eq!(read(&head, false).is_ok(), fine, "{byte:#x}");
        }
    }
}
