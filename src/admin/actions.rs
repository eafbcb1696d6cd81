//! What must the process itself do, when an operator asks?
//!
//! What has to do with the file, the sockets or the stores of the process is done by whoever runs
//! it, one after the other; here is the way there and back.

use tokio::sync::{mpsc, oneshot};

use super::cluster::Done;
use super::http::{Problem, Response, json};

/// Something that the process itself has to do; the answer is a sentence for the operator.
#[derive(Debug)]
pub enum Action {
    /// Read the file again.
    Reload,
    /// End an embedded store of `ringway dev`.
    StopShard(String),
    /// Begin it again.
    StartShard(String),
}

/// An action on its way to whoever carries it out.
pub type ActionRequest = (Action, oneshot::Sender<Result<String, String>>);

/// Has it done, and answers with the sentence.
pub(super) async fn act(
    actions: &mpsc::Sender<ActionRequest>,
    action: Action,
) -> Result<Response, Problem> {
    let ending = || Problem::new(503, "ending", "the process is ending");
    let (answer, answered) = oneshot::channel();
    actions.send((action, answer)).await.map_err(|_| ending())?;
    match answered.await {
        Ok(Ok(done)) => Ok(json(200, &Done { done })),
        Ok(Err(refused)) => Err(Problem::new(409, "refused", refused)),
        Err(_) => Err(ending()),
    }
}
