//! Who and what is asked for?

use super::*;

#[test]
fn hosts() {
    let with = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for host in [
        "",
        " ",
        "a b",
        "a, b",
        "a,b",
        "user@h",
        "user:pass@h",
        "h/",
        "h/x",
        "/h",
        "http://h",
        "h?x",
        "h#x",
        "h\\x",
        "h:",
        "h:x",
        "h:-1",
        "h:+80",
        "h:80:80",
        "h:80 ",
        ":80",
        ":",
        "h:80x",
        "h: 80",
        "h:65536",
        "h:99999",
        "h:000080",
        "[::1",
        "::1",
        "[::1]x",
        "[::1]:x",
        "[::g]",
        "[]",
        "[1.2.3.4]",
        "[::1%25eth0]",
        "[::1%eth0]",
        "[v1.a]",
        "[[::1]]",
        "h]",
        "[h]",
        "a\"b",
        "<h>",
        "h`",
        "{h}",
        "h|",
        "h^",
        "h%",
        "h%00",
        "h%2e",
        "a%2fb",
        "häh",
        "h\u{ff0e}",
    ] {
        let expected = match host {
            // White space around a value is not part of it, and an empty port is a port.
            "h:" => Ok("GET `/` of `h:`".to_owned()),
            "h:80 " => Ok("GET `/` of `h:80`".to_owned()),
            _ => Err(RequestError::HostSyntax.into()),
        };
        assert_eq!(facts(with(host).as_bytes()), expected, "{host:?}");
    }
    for host in [
        "h",
        "H",
        "h.example",
        "h.example.",
        "h:80",
        "h:0",
        "h:65535",
        "h:00080",
        "1.2.3.4",
        "1.2.3.4:80",
        "[::1]",
        "[::1]:80",
        "[2001:DB8::1]",
        "[::ffff:1.2.3.4]",
        "a_b",
        "a~b",
        "a!$&'()*+;=b",
        "-",
        "999.1.1.1",
        "xn--hxajbheg2az3al.example",
    ] {
        taken(with(host), &format!("GET `/` of `{host}`"));
    }
    taken("GET / HTTP/1.1\r\nhOST:\th\t\r\n\r\n", "GET `/` of `h`");
    for fields in [
        "",
        "A: b\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nA: b\r\nhost: a\r\n",
        "Host: a\r\nHost:\r\n",
        "X-Host: a\r\n",
        "Host_: a\r\n",
        ":authority\r\n",
    ] {
        let error: Refusal = match fields {
            ":authority\r\n" => FieldName.into(),
            _ => RequestError::HostCount.into(),
        };
        refused(format!("GET / HTTP/1.1\r\n{fields}\r\n"), error);
    }
    taken("GET / HTTP/1.0\r\n\r\n", "GET `/` of ``, old, last");
    taken("GET / HTTP/1.0\r\nHost: h\r\n\r\n", "GET `/` of `h`, old, last");
    refused("GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n", RequestError::HostCount);
    refused("GET / HTTP/1.0\r\nHost: a b\r\n\r\n", RequestError::HostSyntax);
}

#[test]
fn targets() {
    let with =
        |method: &str, target: &str| format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    for (method, target) in [
        ("GET", "*"),
        ("POST", "*"),
        ("options", "*"),
        ("OPTIONS", "**"),
        ("OPTIONS", "*/"),
        ("OPTIONS", "*?x"),
        ("GET", "a"),
        ("GET", "a/b"),
        ("GET", "h:80"),
        ("GET", "?x"),
        ("GET", "#x"),
        ("GET", "\\a"),
        ("GET", "http:/h/"),
        ("GET", "http:h"),
        ("GET", "http//h/"),
        ("GET", "ftp://h/"),
        ("GET", "file:///etc/passwd"),
        ("GET", "urn:x"),
        ("GET", "ws://h/"),
        ("GET", "://h/"),
        ("GET", "h"),
        ("CONNECT", "/"),
        ("CONNECT", "http://h/"),
        ("CONNECT", "u@h:80"),
        ("CONNECT", "h:x"),
        ("CONNECT", "h"),
        ("CONNECT", "h:"),
        ("CONNECT", "[::1]"),
        ("CONNECT", "*"),
        ("connect", "h:80"),
    ] {
        refused(with(method, target), RequestError::Target);
    }
    for target in [
        "http:///",
        "http://",
        "http:///a",
        "http://?x",
        "http://u@h/",
        "http://u:p@h/",
        "http://h:x/",
        "http://h:99999/",
        "http://h#x",
        "http://h\\x/",
        "http://[::1/",
        "http://a b",
        "http://h%00/",
    ] {
        let error: Refusal = match target {
            "http://a b" => FirstLine.into(),
            _ => RequestError::HostSyntax.into(),
        };
        refused(with("GET", target), error);
    }
    for (method, target, what) in [
        ("GET", "/", "`/`"),
        ("GET", "//", "`//`"),
        ("GET", "//evil/a", "`//evil/a`"),
        ("GET", "/a/../b", "`/a/../b`"),
        ("GET", "/a?", "`/a` ? ``"),
        ("GET", "/a?b", "`/a` ? `b`"),
        ("GET", "/a?b?c", "`/a` ? `b?c`"),
        ("GET", "/?a=http://x/", "`/` ? `a=http://x/`"),
        ("GET", "/http://x/", "`/http://x/`"),
        ("GET", "/%2e%2e/", "`/%2e%2e/`"),
        ("GET", "/é", "`/é`"),
        ("GET", "/\"<>\\^`{|}", "`/\"<>\\^`{|}`"),
        ("GET", "/*", "`/*`"),
        ("GET", "http://h", "``"),
        ("GET", "http://h?x", "`` ? `x`"),
        ("GET", "http://h/", "`/`"),
        ("GET", "HTTP://H/a", "`/a`"),
        ("GET", "hTTps://h/a?b", "`/a` ? `b`"),
        ("GET", "http://h//a", "`//a`"),
        ("GET", "http://h/?", "`/` ? ``"),
        ("OPTIONS", "*", "the server"),
        ("OPTIONS", "/", "`/`"),
        // RFC 9112, section 3.2.4: how a client asks a proxy about the server behind it.
        ("OPTIONS", "http://h", "the server"),
        ("OPTIONS", "http://h/", "`/`"),
        ("OPTIONS", "http://h?x", "`` ? `x`"),
        ("CONNECT", "h:80", "a tunnel"),
        ("CONNECT", "[::1]:80", "a tunnel"),
    ] {
        let host = if target.contains("//H") { "H" } else { "h" };
        taken(with(method, target), &format!("{method} {what} of `{host}`"));
    }
}

#[test]
fn an_absolute_target_and_host_agree() {
    let with = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    taken(with("http://a.example/x", "a.example"), "GET `/x` of `a.example`");
    taken(with("http://A.example/x", "a.EXAMPLE"), "GET `/x` of `A.example`");
    taken(with("http://a:81/x", "a:81"), "GET `/x` of `a:81`");
    taken(with("http://[::1]:81/", "[::1]:81"), "GET `/` of `[::1]:81`");
    for (target, host) in [
        ("http://a/", "b"),
        ("http://a/", "a:80"),
        ("http://a:80/", "a"),
        ("http://a:80/", "a:81"),
        ("http://a/", "a."),
        ("http://a:/", "a"),
        ("http://[::1]/", "[0:0:0:0:0:0:0:1]"),
    ] {
        refused(with(target, host), RequestError::HostDiffers);
    }
    refused("GET http://a/ HTTP/1.1\r\n\r\n", RequestError::HostCount);
    refused("GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n", RequestError::HostSyntax);
    refused("GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", RequestError::HostCount);
    taken("GET http://a/ HTTP/1.0\r\n\r\n", "GET `/` of `a`, old, last");
    refused("GET http://a/ HTTP/1.0\r\nHost: b\r\n\r\n", RequestError::HostDiffers);
}
