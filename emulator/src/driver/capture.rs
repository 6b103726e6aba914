//! Streams that record instead of doing.
//!
//! A capture is one list of nodes in the order of the calls, each with the nodes it comes after. Calls come
//! in an order that respects all waits, so the list can be replayed from front to back. Every stream
//! that takes part has a frontier: the nodes that whatever it is given next comes after.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};
use std::thread::{ThreadId, current};

use super::abi::Handle;
use super::graph::{Node, Recorded};
use super::state::driver;
use super::status::{Result, Status};
use super::stream::Stream;
use super::table::lock;
use super::work::Work;

pub use super::graph::{Graph, GraphExec};

/// How much of other calls a capture forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Unsafe calls of all threads.
    Global,
    /// Unsafe calls of the thread that began it.
    ThreadLocal,
    /// None.
    Relaxed,
}

impl Mode {
    /// From the driver's number.
    pub fn of(number: u32) -> Result<Mode> {
        match number {
            0 => Ok(Mode::Global),
            1 => Ok(Mode::ThreadLocal),
            2 => Ok(Mode::Relaxed),
            _ => Err(Status::INVALID_VALUE),
        }
    }
}

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Global) };
}

/// Sets how strict captures are with this thread; gives what it was.
pub fn exchange_mode(mode: Mode) -> Mode {
    MODE.replace(mode)
}

struct Capture {
    origin: Handle,
    context: Handle,
    mode: Mode,
    thread: ThreadId,
    nodes: Vec<Node>,
    memory: Vec<u64>,
    blocking: bool,
    invalid: bool,
}

struct Member {
    capture: u64,
    frontier: Vec<usize>,
}

#[derive(Default)]
struct Inner {
    last: u64,
    running: BTreeMap<u64, Capture>,
    members: HashMap<Handle, Member>,
}

/// The captures that have not ended.
#[derive(Default)]
pub struct Captures(Mutex<Inner>);

impl Captures {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }

    /// Begins to capture a stream.
    pub fn begin(&self, stream: &Stream, mode: Mode) -> Result {
        if stream.is_legacy() {
            return Err(Status::STREAM_CAPTURE_UNSUPPORTED);
        }
        let mut inner = self.inner();
        if inner.members.contains_key(&stream.handle) {
            return Err(Status::ILLEGAL_STATE);
        }
        inner.last += 1;
        let capture = inner.last;
        inner.running.insert(
            capture,
            Capture {
                origin: stream.handle,
                context: stream.context,
                mode,
                thread: current().id(),
                nodes: Vec::new(),
                memory: Vec::new(),
                blocking: stream.is_blocking(),
                invalid: false,
            },
        );
        inner.members.insert(stream.handle, Member { capture, frontier: Vec::new() });
        Ok(())
    }

    /// Ends the capture that began in this stream.
    pub fn end(&self, stream: &Stream) -> Result<Recorded> {
        let mut inner = self.inner();
        let member = inner.members.get(&stream.handle).ok_or(Status::ILLEGAL_STATE)?;
        let (id, frontier) = (member.capture, member.frontier.clone());
        let capture = inner.running.get(&id).ok_or(Status::ILLEGAL_STATE)?;
        if capture.origin != stream.handle {
            return Err(Status::STREAM_CAPTURE_UNMATCHED);
        }
        if capture.mode != Mode::Relaxed && capture.thread != current().id() {
            return Err(Status::STREAM_CAPTURE_WRONG_THREAD);
        }
        inner.members.retain(|_, member| member.capture != id);
        let capture = inner.running.remove(&id).ok_or(Status::ILLEGAL_STATE)?;
        drop(inner);
        let unjoined = !all_before(&capture.nodes, &frontier);
        let recorded = Recorded::new(capture.context, capture.nodes, capture.memory);
        match (capture.invalid, unjoined) {
            (true, _) => Err(Status::STREAM_CAPTURE_INVALIDATED),
            (_, true) => Err(Status::STREAM_CAPTURE_UNJOINED),
            _ => Ok(recorded),
        }
    }

    /// Number of the capture that a stream takes part in, and whether it is still good.
    pub fn status(&self, stream: &Stream) -> Option<(u64, bool)> {
        let inner = self.inner();
        let id = inner.members.get(&stream.handle)?.capture;
        Some((id, inner.running.get(&id).is_some_and(|capture| !capture.invalid)))
    }

    /// Records work; false if the stream isn't captured.
    pub fn record(&self, stream: &Stream, work: &Work) -> Result<bool> {
        let mut inner = self.inner();
        let Inner { running, members, .. } = &mut *inner;
        let Some(member) = members.get_mut(&stream.handle) else { return Ok(false) };
        let capture = running.get_mut(&member.capture).ok_or(Status::ILLEGAL_STATE)?;
        if capture.invalid {
            return Err(Status::STREAM_CAPTURE_INVALIDATED);
        }
        let after = std::mem::replace(&mut member.frontier, vec![capture.nodes.len()]);
        capture.nodes.push(Node { work: work.clone(), after });
        Ok(true)
    }

    /// Hands memory to the graph that the stream records.
    pub fn keep_memory(&self, stream: &Stream, address: u64) {
        let mut inner = self.inner();
        let Inner { running, members, .. } = &mut *inner;
        if let Some(member) = members.get(&stream.handle)
            && let Some(capture) = running.get_mut(&member.capture)
        {
            capture.memory.push(address);
        }
    }

    /// The capture of a stream and what comes before its next node; none if it isn't captured.
    pub fn frontier(&self, stream: &Stream) -> Result<Option<(u64, Vec<usize>)>> {
        let inner = self.inner();
        let Some(member) = inner.members.get(&stream.handle) else { return Ok(None) };
        match inner.running.get(&member.capture) {
            Some(capture) if !capture.invalid => Ok(Some((member.capture, member.frontier.clone()))),
            _ => Err(Status::STREAM_CAPTURE_INVALIDATED),
        }
    }

    /// Draws a stream into a capture, after these nodes.
    pub fn join(&self, stream: &Stream, id: u64, nodes: &[usize]) -> Result {
        let mut inner = self.inner();
        let Inner { running, members, .. } = &mut *inner;
        let capture = running.get_mut(&id).ok_or(Status::CAPTURED_EVENT)?;
        if capture.invalid {
            return Err(Status::STREAM_CAPTURE_INVALIDATED);
        }
        if stream.is_legacy() {
            capture.invalid = true;
            return Err(Status::STREAM_CAPTURE_IMPLICIT);
        }
        let member = members.entry(stream.handle).or_insert(Member { capture: id, frontier: Vec::new() });
        if member.capture != id {
            capture.invalid = true;
            let other = member.capture;
            if let Some(other) = running.get_mut(&other) {
                other.invalid = true;
            }
            return Err(Status::STREAM_CAPTURE_MERGE);
        }
        capture.blocking |= stream.is_blocking();
        member.frontier.extend(nodes);
        member.frontier.sort_unstable();
        member.frontier.dedup();
        Ok(())
    }

    /// Spoils the capture that the stream takes part in.
    pub fn invalidate(&self, stream: &Stream) {
        let mut inner = self.inner();
        let Inner { running, members, .. } = &mut *inner;
        let id = members.get(&stream.handle).map(|member| member.capture);
        if let Some(capture) = id.and_then(|id| running.get_mut(&id)) {
            capture.invalid = true;
        }
    }

    fn spoil(&self, forbids: impl Fn(&Capture) -> bool, status: Status) -> Result {
        let mut result = Ok(());
        for capture in self.inner().running.values_mut().filter(|capture| forbids(capture)) {
            capture.invalid = true;
            result = Err(status);
        }
        result
    }

    /// A call that must not wait for this stream while it is captured.
    pub fn forbid_on(&self, stream: &Stream) -> Result {
        if self.status(stream).is_none() {
            return Ok(());
        }
        self.invalidate(stream);
        Err(Status::STREAM_CAPTURE_UNSUPPORTED)
    }

    /// A call that waits for everything in a context.
    pub fn forbid_in(&self, context: Handle) -> Result {
        self.spoil(|capture| capture.context == context, Status::STREAM_CAPTURE_UNSUPPORTED)
    }

    /// A call on the legacy stream, which would wait for the captured ones.
    pub fn forbid_implicit(&self, context: Handle) -> Result {
        let forbids = |capture: &Capture| capture.context == context && capture.blocking;
        self.spoil(forbids, Status::STREAM_CAPTURE_IMPLICIT)
    }

    /// A call that may disturb a capture, such as an allocation.
    pub fn forbid_unsafe(&self) -> Result {
        let (own, thread) = (MODE.get(), current().id());
        let forbids = |capture: &Capture| match (own, capture.mode) {
            (Mode::Relaxed, _) | (_, Mode::Relaxed) => false,
            (Mode::Global, Mode::Global) => true,
            _ => capture.thread == thread,
        };
        self.spoil(forbids, Status::STREAM_CAPTURE_UNSUPPORTED)
    }

    /// A stream that has ended: its capture can't.
    pub fn abandon(&self, stream: &Stream) {
        let mut inner = self.inner();
        let Some(member) = inner.members.remove(&stream.handle) else { return };
        let origin = inner.running.get(&member.capture).is_some_and(|one| one.origin == stream.handle);
        let gone = if origin { inner.running.remove(&member.capture) } else { None };
        if origin {
            inner.members.retain(|_, other| other.capture != member.capture);
        }
        drop(inner);
        if let Some(capture) = gone {
            drop(Recorded::new(capture.context, capture.nodes, capture.memory));
        }
    }

    /// Ends all captures of a context; its memory goes with it.
    pub fn forget_context(&self, context: Handle) {
        let mut inner = self.inner();
        let Inner { running, members, .. } = &mut *inner;
        running.retain(|_, capture| capture.context != context);
        members.retain(|_, member| running.contains_key(&member.capture));
    }
}

/// Do these nodes come after all others, or are the others?
fn all_before(nodes: &[Node], last: &[usize]) -> bool {
    let mut seen = vec![false; nodes.len()];
    let mut open = last.to_vec();
    while let Some(index) = open.pop() {
        if !std::mem::replace(&mut seen[index], true) {
            open.extend(&nodes[index].after);
        }
    }
    seen.into_iter().all(|seen| seen)
}

/// Frees memory that belonged to a graph; the context may have freed it already.
pub fn free_memory(memory: &[u64]) {
    if let Ok(driver) = driver() {
        for &address in memory {
            let _ = driver.device.free(address, |one| one.purpose == super::device::Purpose::Graph);
        }
    }
}
