//! How is something done that only the leader may do?
//!
//! Whoever leads is asked, and asked again until the time is up: right after an election a leader
//! refuses for up to some hundred milliseconds, and an answer may be lost. The leader asks itself
//! in the same way, so that there is one path. Pauses grow and are drawn at random, and end at
//! once when another leader is known.
//!
//! What is asked must bear being asked twice; what came of the first question is not known when
//! its answer was lost.

use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::leadership::Leadership;
use super::part::Group;
use super::seam::Unanswered;
use super::wire::{self, Answer, Leader};
use crate::ids::NodeId;
use crate::net::peer::PeerAnswer;

/// How long a command, or a question to the leader, is tried for.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How long one leader gets for one answer. One that stands still must leave time for the next.
pub(super) const ATTEMPT: Duration = Duration::from_secs(3);

/// The first pause, which doubles up to the last one.
const PAUSE_MS: (u64, u64) = (10, 320);

/// Why the leader's answer is missing.
#[derive(Debug, Clone)]
pub(super) struct NotDone {
    /// What was seen last.
    pub why: String,
    /// Whether some attempt may have been carried out.
    pub maybe: bool,
    /// Who leads, as far as is known.
    pub leader: Option<NodeId>,
}

impl Group {
    /// Asks the leader until it has done what is asked. Also tells whether an earlier attempt, of
    /// which no answer came, may have been carried out.
    pub(super) async fn ask_leader<T: DeserializeOwned>(
        &self,
        path: &'static str,
        body: Bytes,
        deadline: Instant,
    ) -> Result<(T, bool), NotDone> {
        let shared = self.shared();
        let mut leadership = shared.leadership.subscribe();
        let mut failure = NotDone { why: String::new(), maybe: false, leader: None };
        let mut pause_ms = PAUSE_MS.0;
        // Where somebody else says that the leader is. Believed once between two pauses: around an
        // election two nodes may name each other.
        let mut hint: Option<Leader> = None;
        let mut hinted_already = false;
        loop {
            let known = *leadership.borrow_and_update();
            failure.leader = match known {
                Leadership::Leader { .. } => self.member().map(|member| member.node),
                Leadership::Follower { leader } => Some(leader),
                Leadership::None => None,
            };
            let hinted = hint.take();
            let asked = hinted.as_ref().map(|leader| leader.node).or(known.other());
            // A leader that stands still answers nobody: another one is asked as soon as it leads.
            let answer = tokio::select! {
                biased;
                answer = self.ask_once(hinted, known, path, body.clone(), deadline) => answer,
                () = another(&mut leadership, known, asked) => Err(Unanswered {
                    why: "the leader changed while it was asked".to_owned(),
                    unsent: false,
                }),
            };
            match answer {
                Err(Unanswered { why, unsent }) => {
                    failure.maybe |= !unsent;
                    failure.why = why;
                }
                Ok(answer) => match read(&answer) {
                    Ok(Answer::Done(done)) => return Ok((done, failure.maybe)),
                    Ok(Answer::NotLeader(leader)) => {
                        failure.why = "the leader is changing".to_owned();
                        let me = self.member().map(|member| member.node);
                        let news = leader.filter(|leader| {
                            Some(leader.node) != me && known.other() != Some(leader.node)
                        });
                        if news.is_some() && !hinted_already {
                            hint = news;
                            hinted_already = true;
                            continue;
                        }
                    }
                    Ok(Answer::Unavailable(why)) => failure.why = why,
                    Ok(Answer::Unknown(why)) => {
                        failure.maybe = true;
                        failure.why = why;
                    }
                    Err(Unread { why, maybe }) => {
                        failure.maybe |= maybe;
                        failure.why = why;
                    }
                },
            }
            hinted_already = false;
            if *shared.removed.borrow() {
                failure.why = "this node was removed from the cluster".to_owned();
                return Err(failure);
            }
            let drawn = pause_ms / 2 + shared.draw_below(pause_ms);
            pause_ms = (pause_ms * 2).min(PAUSE_MS.1);
            let until = Instant::now() + Duration::from_millis(drawn);
            if until >= deadline {
                return Err(failure);
            }
            // Another leader, or the pause is over: either way it is time for the next attempt.
            drop(timeout_at(until, leadership.changed()).await);
        }
    }

    async fn ask_once(
        &self,
        hint: Option<Leader>,
        known: Leadership,
        path: &'static str,
        body: Bytes,
        deadline: Instant,
    ) -> Result<PeerAnswer, Unanswered> {
        let leader = match (hint, known) {
            (Some(leader), _) => leader,
            (None, Leadership::Leader { .. }) => return Ok(self.lead(path, body).await),
            (None, Leadership::Follower { leader: node }) => {
                let address = self.address_of(node);
                let address = address
                    .ok_or_else(|| nobody(&format!("no address of leader {node} is known")))?;
                Leader { node, address }
            }
            (None, Leadership::None) => return Err(nobody("no leader is known")),
        };
        self.ask(&leader, path, body, deadline).await
    }

    async fn ask(
        &self,
        leader: &Leader,
        path: &'static str,
        body: Bytes,
        deadline: Instant,
    ) -> Result<PeerAnswer, Unanswered> {
        let within = ATTEMPT.min(deadline.saturating_duration_since(Instant::now()));
        let peers = &self.shared().options.peers;
        let answer = peers.call(&leader.address, path, body, within).await?;
        if answer.is_problem(410, wire::REMOVED_PROBLEM) {
            self.doubt_membership();
        }
        Ok(answer)
    }
}

/// Waits until a leader is known that is neither the one that was nor the one that is asked.
async fn another(
    leadership: &mut watch::Receiver<Leadership>,
    known: Leadership,
    asked: Option<NodeId>,
) {
    let is_another = |now: &Leadership| {
        *now != Leadership::None && *now != known && (now.other().is_none() || now.other() != asked)
    };
    if leadership.wait_for(is_another).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn nobody(why: &str) -> Unanswered {
    Unanswered { why: why.to_owned(), unsent: true }
}

/// An answer that says nothing of what came of the question.
#[derive(Debug)]
pub(super) struct Unread {
    /// What was answered.
    pub why: String,
    /// Whether what was asked may have been done all the same.
    pub maybe: bool,
}

/// Only a node that looked at the request and refused it has certainly done nothing. An answer that
/// cannot be read may be a later release's way to say that it was done; any other status may come
/// from something that broke after it was done.
pub(super) fn read<T: DeserializeOwned>(answer: &PeerAnswer) -> Result<Answer<T>, Unread> {
    if answer.status == 200 {
        return serde_json::from_slice(&answer.body)
            .map_err(|error| Unread { why: format!("the leader's answer: {error}"), maybe: true });
    }
    let refuses = matches!(answer.status, 400 | 404 | 405 | 410 | 413 | 421);
    let said = answer.refusal();
    Err(Unread {
        why: said.unwrap_or_else(|| format!("the leader answered {}", answer.status)),
        maybe: !refuses,
    })
}
