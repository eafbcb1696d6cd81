//! hyper's server as another reader of the same bytes.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Request, Response, body::Incoming};

use super::Message;

/// A client that has sent everything already, and takes every answer. Nothing ever waits.
struct Script<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl Read for Script<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.rest.len().min(self.piece).min(buffer.remaining());
        let (piece, rest) = self.rest.split_at(length);
        buffer.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

impl Write for Script<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
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
        let script = Script { rest: stream, piece };
        let mut connection = pin!(server.half_close(true).serve_connection(script, service));
        let mut cx = Context::from_waker(Waker::noop());
        let turns = 10 * stream.len() + 100;
        let ended = (0..turns).any(|_| connection.as_mut().poll(&mut cx).is_ready());
        assert!(ended, "a script always comes to an end");
    }
    messages.take()
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
