//! One call: messages both ways, and its end.
use super::message::{framed, Inbox};
use super::Status;
use crate::sys::bell::Bell;
use bytes::{BufMut, Bytes};
use h2::client::{ResponseFuture, SendRequest};
use h2::SendStream;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use std::convert::Infallible;
use std::future::{pending, poll_fn, Future};
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Bytes of requests that wait while the server does not read.
const BACKLOG: usize = 64 << 20;

#[derive(Debug, PartialEq)]
pub enum Event {
    Message(Bytes),
    End(Result<(), Status>),
}

/// A call that runs. It is cancelled when it is dropped.
pub struct Call {
    requests: Option<UnboundedSender<Bytes>>,
    answers: Arc<Answers>,
    task: AbortHandle,
}

/// What a call has to say to another thread: one message at a time, so that a server is not read faster than it is listened to.
pub struct Answers {
    next: Mutex<Next>,
    bell: Bell,
    taken: Notify,
    /// Bytes of requests that are still to be sent.
    backlog: AtomicUsize,
}

#[derive(Default)]
struct Next {
    message: Option<Bytes>,
    end: Option<Result<(), Status>>,
}

impl Call {
    /// Has `work` done. With a `message` that is all that is sent.
    pub fn spawn<F: Future<Output = Result<(), Status>> + Send + 'static>(
        runtime: &Handle,
        message: Option<&[u8]>,
        work: impl FnOnce(UnboundedReceiver<Bytes>, Arc<Answers>) -> F,
    ) -> io::Result<Call> {
        let answers = Arc::new(Answers::new()?);
        let (requests, receiver) = unbounded_channel();
        let (work, ended) = (work(receiver, answers.clone()), Ended(answers.clone()));
        let task = runtime.spawn(async move { ended.0.end(work.await) });
        let mut call = Call { requests: Some(requests), answers, task: task.abort_handle() };
        if let Some(message) = message {
            call.send(message);
            call.requests = None;
        }
        Ok(call)
    }

    /// Sends a message. A call whose server does not read ends when too much waits.
    pub fn send(&self, message: &[u8]) {
        let Some(requests) = &self.requests else { return };
        let bytes = framed(message.len(), |buffer| buffer.put_slice(message));
        if self.answers.backlog.fetch_add(bytes.len(), Ordering::Relaxed) > BACKLOG {
            let text = format!("more than {BACKLOG} bytes of requests wait for a server that does not read them");
            self.answers.end(Err(Status::too_much(text)));
            return self.task.abort();
        }
        let _ = requests.send(bytes); // fails where the call has ended, which is told
    }

    /// What has come. None: nothing yet; then `descriptor` becomes readable.
    pub fn next(&self) -> Option<Event> {
        self.answers.take()
    }

    pub fn descriptor(&self) -> RawFd {
        self.answers.bell.descriptor()
    }

    pub fn cancel(&self) {
        self.answers.end(Err(Status::cancelled()));
        self.task.abort();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Answers {
    fn new() -> io::Result<Answers> {
        let (next, taken, backlog) = Default::default();
        Ok(Answers { next, bell: Bell::new()?, taken, backlog })
    }

    fn lock(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Event> {
        let mut next = self.lock();
        self.bell.clear();
        if let Some(message) = next.message.take() {
            self.taken.notify_one();
            return Some(Event::Message(message));
        }
        next.end.clone().map(Event::End)
    }

    /// Leaves a message, once the one before is taken.
    async fn put(&self, message: Bytes) {
        while self.lock().message.is_some() {
            self.taken.notified().await;
        }
        self.lock().message = Some(message);
        self.bell.ring();
    }

    /// The first end is the one.
    fn end(&self, end: Result<(), Status>) {
        self.lock().end.get_or_insert(end);
        self.bell.ring();
    }
}

/// Nobody waits for a call that ended in a way of its own.
struct Ended(Arc<Answers>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end(Err(Status::internal("the call has broken off")));
    }
}

/// Ends work that takes longer than its deadline.
pub async fn within(deadline: Option<Duration>, work: impl Future<Output = Result<(), Status>>) -> Result<(), Status> {
    match deadline {
        None => work.await,
        Some(deadline) => timeout(deadline, work).await.unwrap_or_else(|_| Err(Status::late(deadline))),
    }
}

/// Sends the head, then requests, and reads until the end.
pub async fn run(
    mut sender: SendRequest<Bytes>,
    head: Request<()>,
    requests: UnboundedReceiver<Bytes>,
    answers: &Answers,
) -> Result<(), Status> {
    let (response, stream) = sender.send_request(head, false)?;
    tokio::select! {
        ended = read(response, answers) => ended,
        never = write(stream, requests, &answers.backlog) => match never {},
    }
}

/// Has no end of its own: what is wrong with the stream, too, is told to whoever reads.
async fn write(
    mut stream: SendStream<Bytes>,
    mut requests: UnboundedReceiver<Bytes>,
    backlog: &AtomicUsize,
) -> Infallible {
    let sent = async {
        while let Some(mut request) = requests.recv().await {
            while !request.is_empty() {
                stream.reserve_capacity(request.len());
                let room = poll_fn(|cx| stream.poll_capacity(cx)).await.ok_or(h2::Reason::CANCEL)??;
                let part = request.split_to(room.min(request.len()));
                backlog.fetch_sub(part.len(), Ordering::Relaxed);
                stream.send_data(part, false)?;
            }
        }
        stream.send_data(Bytes::new(), true)
    };
    let _: Result<(), h2::Error> = sent.await;
    pending().await
}

async fn read(response: ResponseFuture, answers: &Answers) -> Result<(), Status> {
    let (head, mut body) = response.await?.into_parts();
    if let Some(told) = Status::told(&head.headers) {
        return told; // Trailers-Only
    }
    let content_type = head.headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes()).unwrap_or_default();
    if head.status != StatusCode::OK || !content_type.starts_with(b"application/grpc") {
        return Err(Status::of_http(head.status, &String::from_utf8_lossy(content_type)));
    }
    let mut inbox = Inbox::default();
    while let Some(bytes) = body.data().await {
        let bytes = bytes?;
        inbox.push(&bytes);
        body.flow_control().release_capacity(bytes.len())?;
        while let Some(message) = inbox.next()? {
            answers.put(message).await;
        }
    }
    let told = body.trailers().await?.and_then(|trailers| Status::told(&trailers));
    match told {
        Some(Ok(())) if !inbox.is_empty() => Err(Status::internal("the call ends within a message")),
        Some(told) => told,
        None => Err(Status::internal("the call ends without a status")),
    }
}
