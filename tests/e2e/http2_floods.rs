//! What becomes of a client of HTTP/2 that asks for more work than it does? It is told to calm
//! down and closed, while everybody else is served.

use std::thread;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, GOAWAY, HEADERS, PING,
    PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, request,
};
use crate::support::http::{Client, get};
use crate::support::ringway::{Serve, shards};
use crate::support::wait::{until, until_true};

fn over(backend: &Backend, client: &str) -> String {
    format!(
        "client: {{ {client} }}\npools:\n  - name: p\n    health: {{ active: off, passive: off }}\n\
         {}routes:\n  - {{ name: all, pool: p }}\n",
        shards(&[backend.address])
    )
}

/// Sends `piece` again and again until the server takes no more, or has been sent `most` of them;
/// then says why the server ended the connection.
fn flood(client: &mut Frames, most: usize, mut piece: impl FnMut(usize) -> Vec<u8>) -> Option<u32> {
    for number in 0..most {
        if !client.send(piece(number)) {
            break;
        }
    }
    client.until_closed()
}

#[test]
fn each_flood_ends_its_connection_and_no_other() {
    let backend = Backend::tireless("content");
    let serve = Serve::start(&over(&backend, ""));
    let mut bystander = Frames::connect(serve.data);
    bystander.ask(1, "/before");
    assert_eq!(bystander.answer(1), (Some(200), b"content".to_vec()));

    type Piece = fn(usize) -> Vec<u8>;
    let head = |stream| frame(HEADERS, END_HEADERS, stream, &request("PUT", "/put", &[]));
    let floods: [(&str, Piece); 7] = [
        ("PING", |_| frame(PING, 0, 0, &[7; 8])),
        ("SETTINGS", |_| frame(SETTINGS, 0, 0, b"")),
        ("PRIORITY", |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", |_| frame(200, 0, 0, b"whatever")),
        ("fields", |number| {
            // Each of a byte, out of the static table: so that 1 KiB makes 54 of them.
            let many = [&request("GET", "/", &[])[..], &[0x90; 900]].concat();
            let stream = u32::try_from(2 * number + 1).expect("a stream's number");
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &many)
        }),
        ("empty DATA", |_| frame(DATA, 0, 1, b"")),
    ];
    for (number, (name, piece)) in floods.into_iter().enumerate() {
        let mut client = Frames::connect(serve.data);
        if name.contains("DATA") {
            client.send(head(1));
        }
        let error = flood(&mut client, 200_000, piece);
        assert_eq!(error, Some(ENHANCE_YOUR_CALM), "{name}");
        let floods = serve.count("ringway_downstream_h2_flood_total");
        assert_eq!(floods, number + 1, "{name} is counted once");
        let stream = u32::try_from(2 * number + 3).expect("a small number");
        bystander.ask(stream, "/after");
        assert_eq!(bystander.answer(stream), (Some(200), b"content".to_vec()), "{name}");
    }
    assert_eq!(get(serve.data, "/also").status, 200);
}

/// A frame with a single byte costs far more to keep than it weighs in the window.
#[test]
fn tiny_frames_are_not_collected_without_end() {
    let backend = Backend::answering("content");
    // The shard is asked first and says nothing yet, so that what the client sends must wait.
    let rest = over(&backend, "limits: { replay_body: 0 }");
    let patient = "    timeouts: { expect_continue: 60s }\n    shards:";
    let serve = Serve::start(&rest.replace("    shards:", patient));
    let mut client = Frames::connect(serve.data);
    let expecting = request("PUT", "/put", &[("expect", "100-continue")]);
    client.send(frame(HEADERS, END_HEADERS, 1, &expecting));
    until("it is with the shard", || {
        (serve.count("ringway_downstream_h2_streams_total") == 1).then_some(())
    });
    let error = flood(&mut client, 60_000, |_| frame(DATA, 0, 1, b"x"));
    assert_eq!(error, Some(ENHANCE_YOUR_CALM));
}

/// CVE-2023-44487: streams that are opened and reset at once cost the client two small frames and
/// the server a request each, and never count as open.
#[test]
fn rapid_reset_is_bounded_and_reaches_no_shard_for_long() {
    let backend = Backend::tireless("content");
    let serve = Serve::start(&over(&backend, ""));
    let mut client = Frames::connect(serve.data);
    let fields = request("GET", "/reset", &[]);
    let error = flood(&mut client, 100_000, |number| {
        let stream = u32::try_from(2 * number + 1).expect("a stream's number");
        let mut both = frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields);
        both.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        both
    });
    assert_eq!(error, Some(ENHANCE_YOUR_CALM));
    // The library says so first, and then to us.
    until_true("it is counted", || serve.count("ringway_downstream_h2_flood_total") == 1);
    let streams = serve.count("ringway_downstream_h2_streams_total");
    assert!(streams <= 1500, "{streams} requests were taken up");
    until("every stream has ended and was counted once", || {
        let metrics = serve.metrics();
        let ended = metrics.sum("ringway_downstream_rq_total");
        (ended == streams as f64).then_some(())
    });
}

/// The same, slowly enough that each stream is taken up before it is reset.
#[test]
fn resets_of_streams_that_were_taken_up_are_bounded_too() {
    // A shard that never answers, so that there always is something to reset.
    let backend = Backend::start(|connection| {
        connection.head();
        connection.until_closed();
    });
    let serve = Serve::start(&over(&backend, ""));
    let mut client = Frames::connect(serve.data);
    let mut open = Vec::new();
    let mut resets = 0;
    for number in 0..100_000u32 {
        let stream = 2 * number + 1;
        open.push(stream);
        if !client.ask(stream, "/reset") {
            break;
        }
        if open.len() == 10 {
            // What the server has answered by now, it has seen.
            client.send(frame(PING, 0, 0, &u64::from(number).to_be_bytes()));
            if client.next_pong().is_none() {
                break;
            }
            for stream in open.drain(..) {
                client.send(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
                resets += 1;
            }
        }
    }
    assert_eq!(client.until_closed(), Some(ENHANCE_YOUR_CALM));
    assert!(resets < 100_000);
}

/// CVE-2025-8671: a client makes the server reset what it has just asked for, by a frame that is
/// wrong for its stream alone. No reset of its own is ever counted.
#[test]
fn resets_that_a_client_provokes_are_bounded_too() {
    let backend = Backend::tireless("content");
    let serve = Serve::start(&over(&backend, ""));
    let mut client = Frames::connect(serve.data);
    let fields = request("GET", "/reset", &[]);
    // Fewer than the windows that a client may open at once.
    let error = flood(&mut client, 800, |number| {
        let stream = u32::try_from(2 * number + 1).expect("a stream's number");
        let mut both = frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields);
        // More than a window can be.
        both.extend(frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffffu32.to_be_bytes()));
        both
    });
    assert_eq!(error, Some(ENHANCE_YOUR_CALM));
    // The library says so first, and then to us.
    until_true("it is counted", || serve.count("ringway_downstream_h2_flood_total") == 1);
    let streams = serve.count("ringway_downstream_h2_streams_total");
    assert!(streams <= 300, "{streams} requests were taken up");
}

/// CVE-2024-27316 and its kin: a field section that never ends.
#[test]
fn a_section_of_fields_without_end_is_not_collected() {
    let backend = Backend::tireless("content");
    let serve = Serve::start(&over(&backend, ""));
    let mut client = Frames::connect(serve.data);
    client.send(frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[])));
    let error = flood(&mut client, 100_000, |_| frame(CONTINUATION, 0, 1, b""));
    assert_eq!(error, Some(ENHANCE_YOUR_CALM));

    let mut client = Frames::connect(serve.data);
    let large = "x".repeat(15_000);
    let piece = crate::support::frames::fields(&[("x", &large)]);
    client.send(frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[])));
    let error = flood(&mut client, 1000, |_| frame(CONTINUATION, 0, 1, &piece));
    assert_eq!(error, Some(ENHANCE_YOUR_CALM));
}

#[test]
fn a_large_section_of_fields_is_431_and_the_connection_goes_on() {
    let backend = Backend::answering("content");
    let serve = Serve::start(&over(&backend, ""));
    let mut client = Frames::connect(serve.data);
    let large = "x".repeat(12_000);
    let half = crate::support::frames::fields(&[("x", &large)]);
    let begin = [request("GET", "/", &[]), half.clone()].concat();
    client.send(frame(HEADERS, END_STREAM, 1, &begin));
    client.send(frame(CONTINUATION, 0, 1, &half));
    client.send(frame(CONTINUATION, END_HEADERS, 1, &half));
    // 431 is not in the static table.
    assert_eq!(client.answer(1).0, None);
    client.ask(3, "/next");
    assert_eq!(client.answer(3), (Some(200), b"content".to_vec()));
    assert_eq!(backend.requests().len(), 1, "only the second came through");
}

#[test]
fn a_client_that_takes_nothing_is_not_waited_for() {
    let backend = Backend::start(|connection| {
        while connection.request().is_some() {
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n");
            connection.say(vec![b'x'; 10_000_000]);
        }
    });
    let client = "timeouts: { body_idle: 1s, rate_grace: 500ms }, limits: { least_rate: 100KiB }";
    let serve = Serve::start(&over(&backend, client));
    // SETTINGS_INITIAL_WINDOW_SIZE of 0: the stream may not send a byte.
    let mut closed = Frames::connect_with(serve.data, &[(4, 0)]);
    closed.ask(1, "/large");
    assert_eq!(closed.until_on(1, HEADERS).status(), Some(200));
    assert_eq!(closed.until_on(1, RST_STREAM).error(), ENHANCE_YOUR_CALM);
    assert_eq!(serve.count("ringway_downstream_rq_too_slow_total"), 1);
    // A window that opens byte by byte is no better.
    closed.ask(3, "/large");
    assert_eq!(closed.until_on(3, HEADERS).status(), Some(200));
    let reset = loop {
        closed.send(frame(WINDOW_UPDATE, 0, 3, &1u32.to_be_bytes()));
        let came = closed.until("data or a reset", |frame| frame.stream == 3);
        if came.kind == RST_STREAM {
            break came;
        }
        assert_eq!((came.kind, came.payload.len()), (DATA, 1));
        // Far below the rate at which this would be a flood, far above any silence.
        #[allow(clippy::disallowed_methods, reason = "a client that dawdles does so in time")]
        thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(reset.error(), ENHANCE_YOUR_CALM);

    // One whose windows are wide and that reads nothing, so that the socket is full.
    let mut full = Frames::connect_with(serve.data, &[(4, 0x7fff_ffff)]);
    full.send(frame(WINDOW_UPDATE, 0, 0, &0x7000_0000u32.to_be_bytes()));
    for stream in [1, 3, 5] {
        full.ask(stream, "/large");
    }
    until("who reads nothing is given up", || {
        (serve.count("ringway_downstream_rq_too_slow_total") >= 3).then_some(())
    });
}

#[test]
fn a_frame_or_a_section_that_does_not_end_is_waited_for_as_long_as_a_head() {
    let backend = Backend::answering("content");
    let serve = Serve::start(&over(&backend, "timeouts: { head: 2s, keep_alive: 60s }"));
    let section = frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[]));
    let begun = frame(PING, 0, 0, &[0; 8])[..12].to_vec();
    for beginning in [section, begun] {
        let mut client = Frames::connect(serve.data);
        client.send(beginning);
        assert_eq!(client.until_closed(), Some(ENHANCE_YOUR_CALM));
    }
    // And a preface that does not end.
    let mut client = Frames::silent(serve.data);
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM");
    assert_eq!(client.until_closed(), None);
    assert_eq!(serve.count("ringway_downstream_rq_head_timeout_total"), 3);
}

#[test]
fn a_connection_without_streams_is_closed_after_its_time() {
    let backend = Backend::answering("content");
    let serve = Serve::start(&over(&backend, "timeouts: { keep_alive: 2s }"));
    let mut client = Frames::connect(serve.data);
    client.ask(1, "/");
    assert_eq!(client.answer(1), (Some(200), b"content".to_vec()));
    assert_eq!(client.until_closed(), Some(0), "NO_ERROR");
    assert_eq!(serve.count("ringway_downstream_cx_idle_timeout_total"), 1);
}

/// Several floods at once, again and again, while others ask. How long those wait is measured
/// elsewhere; here each is answered, and in time.
#[test]
fn who_floods_again_and_again_keeps_nobody_from_being_served() {
    let backend = Backend::tireless("content");
    let serve = Serve::start(&over(&backend, ""));
    let address = serve.data;
    let abusers: Vec<_> = (0..2)
        .map(|_| {
            thread::spawn(move || {
                let fields = request("GET", "/reset", &[]);
                for _ in 0..10 {
                    let mut client = Frames::connect(address);
                    let error = flood(&mut client, 100_000, |number| {
                        let stream = u32::try_from(2 * number + 1).expect("a stream's number");
                        let mut both = frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields);
                        both.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
                        both
                    });
                    assert_eq!(error, Some(ENHANCE_YOUR_CALM));
                }
            })
        })
        .collect();
    let mut http1 = Client::connect(address);
    let mut http2 = Frames::connect(address);
    let mut stream = 1;
    while abusers.iter().any(|abuser| !abuser.is_finished()) {
        assert_eq!(http1.ask("GET", "/", "", b"").expect("an answer").status, 200);
        http2.ask(stream, "/");
        assert_eq!(http2.answer(stream).0, Some(200));
        stream += 2;
        // Before the connections are worn out, which a slow machine gives them the time for.
        if stream > 10_000 {
            (http1, http2, stream) = (Client::connect(address), Frames::connect(address), 1);
        }
    }
    for abuser in abusers {
        abuser.join().expect("each is told to calm down");
    }
    let goaway = http2.try_goaway();
    assert_eq!(goaway, None, "nobody else is told to go away: {GOAWAY}");
}

/// A window for each of a hundred streams is 6 MiB that one client may have held by never reading.
/// All answers of a connection together get one window more, and no stream is kept from its end.
#[test]
fn a_hundred_answers_that_nobody_takes_are_held_within_one_bound() {
    let backend = Backend::start(|connection| {
        while let Some(head) = connection.head() {
            if head.starts_with("GET /small") {
                connection.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                continue;
            }
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
            connection.say(vec![b'x'; 1_000_000]);
        }
    });
    let client = "timeouts: { body_idle: 2s, rate_grace: 2s }, http2: { stream_window: 1MiB, \
                  connection_window: 1MiB }";
    let serve = Serve::start_with_workers(1, &over(&backend, client));
    let settings = [(4, 0x7fff_ffff)];
    let ask = |streams: u32| {
        let mut client = Frames::connect_with(serve.data, &settings);
        client.send(frame(WINDOW_UPDATE, 0, 0, &0x7000_0000u32.to_be_bytes()));
        for number in 0..streams {
            assert!(client.ask(2 * number + 1, "/large"));
        }
        client
    };
    // What the worker has once it is warm: its buffers, and the connections to the shard.
    let mut warm = ask(100);
    for number in 0..100 {
        assert_eq!(warm.answer(2 * number + 1).1.len(), 1_000_000);
    }
    drop(warm);
    let before = serve.process.resident_bytes();
    let stalled = ask(100);
    let mut most = 0;
    until("who takes nothing is given up", || {
        most = most.max(serve.process.resident_bytes());
        (serve.count("ringway_downstream_rq_too_slow_total") > 0).then_some(())
    });
    drop(stalled);
    let grown = most.saturating_sub(before);
    // A mebibyte of answers, and what is on its way between the sockets; without the bound 31 MB.
    assert!(grown < 8 * 1024 * 1024, "{grown} bytes more");
    assert_eq!(get(serve.data, "/small").status, 200);
}
