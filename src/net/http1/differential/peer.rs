//! hyper as another reader of the same bytes: its server of requests, its client of answers.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Request, Response, body::Incoming};

use super::Message;

/// A peer that has said everything already, and takes everything that it is told.
struct Script<'a> {
    rest: &'a [u8],
    piece: usize,
    /// A shard says nothing before it is asked.
    may_speak: bool,
}

impl Read for Script<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.may_speak {
            return Poll::Pending;
        }
        let length = self.rest.len().min(self.piece).min(buffer.remaining());
        let (piece, rest) = self.rest.split_at(length);
        buffer.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

impl Write for Script<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.may_speak = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Every request that hyper reads to its end, the stream arriving in pieces of this size.
pub(crate) fn read(stream: &[u8], piece: usize) -> Vec<Message> {
    let messages = Rc::new(RefCell::new(Vec::new()));
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let messages = Rc::clone(&messages);
        async move {
            let method = request.method().as_str().as_bytes().to_vec();
            let target = target_of(&request);
            if let Ok(body) = request.into_body().collect().await {
                let body = body.to_bytes().to_vec();
                messages.borrow_mut().push(Message { method, target, body });
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    {
        let mut server = hyper::server::conn::http1::Builder::new();
        let script = Script { rest: stream, piece, may_speak: true };
        let mut connection = pin!(server.half_close(true).serve_connection(script, service));
        let mut cx = Context::from_waker(Waker::noop());
        let turns = 10 * stream.len() + 100;
        let ended = (0..turns).any(|_| connection.as_mut().poll(&mut cx).is_ready());
        assert!(ended, "a script always comes to an end");
    }
    messages.take()
}

/// The answer that hyper's client reads to its end: status and content.
pub(crate) fn answer(stream: &[u8], piece: usize, head_asked: bool) -> Option<(u16, Vec<u8>)> {
    let script = Script { rest: stream, piece, may_speak: false };
    let mut asked = pin!(async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(script).await.ok()?;
        let method = if head_asked { "HEAD" } else { "GET" };
        let request = Request::builder().method(method).uri("/").header("host", "h");
        let request = request.body(Empty::new()).expect("a request");
        let heard = async move {
            let answer = sender.send_request(request).await.ok()?;
            let status = answer.status().as_u16();
            Some((status, answer.into_body().collect().await.ok()?.to_bytes().to_vec()))
        };
        let (mut heard, mut connection) = (pin!(heard), pin!(connection));
        poll_fn(|cx| {
            let _: Poll<hyper::Result<()>> = connection.as_mut().poll(cx);
            heard.as_mut().poll(cx)
        })
        .await
    });
    let mut cx = Context::from_waker(Waker::noop());
    let turns = 10 * stream.len() + 100;
    (0..turns).find_map(|_| match asked.as_mut().poll(&mut cx) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    })?
}

fn target_of(request: &Request<Incoming>) -> Vec<u8> {
    let uri = request.uri();
    let text = uri.path_and_query().map_or("/", |target| target.as_str());
    match text {
        "" => b"/".to_vec(),
        text if text.starts_with('?') => [b"/", text.as_bytes()].concat(),
        text => text.as_bytes().to_vec(),
    }
}
