//! How does a command ask a running node?
//!
//! One small HTTP client for all of them. It finds the node's admin address and token in the
//! node's folder, says who asks, and turns a problem (RFC 9457) into the sentence that the
//! command ends with.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;

use super::error::AppError;
use super::operators::admin_address;
use crate::admin::token::Token;

/// The largest answer that is read: a backup of the agreed state is the longest.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// From the question to the last byte of its answer. A change waits for the group's agreement,
/// and the node itself gives that up earlier.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A running node, as its operator reaches it.
pub struct Client {
    address: SocketAddr,
    data_dir: PathBuf,
}

impl Client {
    /// The node at `admin`; if that is not said, the one whose folder is `data_dir`.
    ///
    /// # Errors
    /// When no node has run with that folder.
    pub fn of(admin: Option<SocketAddr>, data_dir: &Path) -> Result<Self, AppError> {
        let address = admin.map_or_else(|| admin_address(data_dir), Ok)?;
        Ok(Self { address, data_dir: data_dir.to_owned() })
    }

    /// Asks something that needs no token.
    ///
    /// # Errors
    /// When the node cannot be reached, or answers with a problem.
    pub fn get(&self, path: &str) -> Result<Value, AppError> {
        self.json(&self.ask("GET", path, Bytes::new(), false)?)
    }

    /// Asks for something that is no JSON and needs the token.
    ///
    /// # Errors
    /// As [`get`](Self::get), and when there is no token in the node's folder.
    pub fn download(&self, path: &str) -> Result<Bytes, AppError> {
        self.ask("GET", path, Bytes::new(), true)
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// As [`download`](Self::download).
    pub fn act(&self, method: &str, path: &str) -> Result<Value, AppError> {
        self.json(&self.ask(method, path, Bytes::new(), true)?)
    }

    /// Asks for a change that a document describes.
    ///
    /// # Errors
    /// As [`download`](Self::download).
    pub fn change(
        &self,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Value, AppError> {
        let body = serde_json::to_vec(body).expect("documents of ours are JSON");
        self.json(&self.ask(method, path, body.into(), true)?)
    }

    /// Understands an answer.
    ///
    /// # Errors
    /// When it is not what this release answers.
    pub fn read<T: DeserializeOwned>(&self, answer: Value) -> Result<T, AppError> {
        serde_json::from_value(answer).map_err(|error| {
            let address = self.address;
            AppError::Refused(format!("the node at {address} speaks another release: {error}"))
        })
    }

    fn json(&self, body: &[u8]) -> Result<Value, AppError> {
        serde_json::from_slice(body).map_err(|error| {
            AppError::Refused(format!("{} does not answer JSON: {error}", self.address))
        })
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
        with_token: bool,
    ) -> Result<Bytes, AppError> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("Host", self.address.to_string());
        if with_token {
            let folder = self.data_dir.display();
            let token = Token::read(&self.data_dir).map_err(AppError::system(format!(
                "{folder}: no token is found there: name the node's folder with --data-dir"
            )))?;
            request = request.header("Authorization", format!("Bearer {}", token.as_str()));
        }
        if let Some(name) = user() {
            request = request.header("Ringway-Actor", name);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| AppError::Refused(format!("{path} cannot be asked for: {error}")))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(AppError::system("cannot start a runtime"))?;
        let answered = async { tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(request)).await };
        let (status, answer) = runtime.block_on(answered).map_err(|_| {
            AppError::Refused(format!(
                "the node at {} did not answer in {} s: what was asked may have been done; look \
                 with `ringway status`",
                self.address,
                ANSWER_TIMEOUT.as_secs()
            ))
        })??;
        match status.is_success() {
            true => Ok(answer),
            false => Err(AppError::Refused(sentence(status, &answer))),
        }
    }

    async fn exchange(
        &self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<(http::StatusCode, Bytes), AppError> {
        let address = self.address;
        let unreachable = |error: &dyn std::fmt::Display| {
            AppError::Refused(format!("no node answers at {address}: {error}: is it running?"))
        };
        let stream = TcpStream::connect(address).await.map_err(|error| unreachable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(&error))?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| AppError::Refused(format!("{address}: {error}")))?;
        connection.abort();
        Ok((status, body.to_bytes()))
    }
}

/// What a problem says; if it is none of ours, its status and beginning.
fn sentence(status: http::StatusCode, body: &[u8]) -> String {
    /// Enough of a foreign answer to see whose it is.
    const SHOWN_CHARS_MAX: usize = 200;
    let detail = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|problem| Some(problem["detail"].as_str()?.to_owned()));
    detail.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body);
        let shown: String = text.trim().chars().take(SHOWN_CHARS_MAX).collect();
        format!("the answer is {status}, and no problem of Ringway's: {shown}")
    })
}

/// Who typed the command, for the history. A name that is said, not proven: whoever has the token
/// may say another.
#[must_use]
pub fn user() -> Option<String> {
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok()?;
    let plain: String = name.chars().filter(char::is_ascii_graphic).collect();
    (!plain.is_empty()).then_some(plain)
}

/// Writes `text` as the value of a query parameter.
#[must_use]
pub fn query_value(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    let mut value = String::with_capacity(text.len());
    for byte in text.as_bytes() {
        match plain(byte) {
            true => value.push(char::from(*byte)),
            false => value.push_str(&format!("%{byte:02X}")),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_in_its_own_words() {
        let problem = br#"{"type":"urn:ringway:problem:refused","detail":"pool `p` is unknown"}"#;
        let conflict = http::StatusCode::CONFLICT;
        assert_eq!(sentence(conflict, problem), "pool `p` is unknown");
        let foreign = sentence(http::StatusCode::BAD_GATEWAY, b"<html>nginx</html>");
        assert_eq!(
            foreign,
            "the answer is 502 Bad Gateway, and no problem of Ringway's: <html>nginx</html>"
        );
    }

    #[test]
    fn query_values_are_escaped() {
        assert_eq!(query_value("/a b?c=d&e%2F"), "/a%20b%3Fc%3Dd%26e%252F");
        assert_eq!(query_value("é"), "%C3%A9");
    }
}
