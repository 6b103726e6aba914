//! Events. Their times are those of the machine that emulates: they grow, and say what it took here.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::abi::{Handle, Out, export};
use super::context::Context;
use super::state::driver;
use super::status::{Result, Status};
use super::stream::Stream;
use super::table::lock;
use super::work::{Empty, Work};

const DISABLE_TIMING: u32 = 2;
const INTERPROCESS: u32 = 4;
const EXTERNAL: u32 = 1;
/// Two events are never at the same time: milliseconds.
const RESOLUTION: f32 = 0.001;

/// An event.
pub struct Event {
    /// Its context.
    pub context: Handle,
    handle: Handle,
    timing: bool,
    state: Mutex<State>,
}

#[derive(Clone)]
enum State {
    Never,
    Recorded(Instant),
    /// In a capture: its number, and the nodes that came before.
    Captured(u64, Vec<usize>),
}

impl Event {
    /// Takes the time.
    pub fn record(&self) {
        *lock(&self.state) = State::Recorded(Instant::now());
    }

    fn state(&self) -> State {
        lock(&self.state).clone()
    }

    fn time(&self) -> Result<Instant> {
        match self.state() {
            State::Recorded(time) if self.timing => Ok(time),
            _ => Err(Status::INVALID_HANDLE),
        }
    }
}

fn known(event: Handle) -> Result<Arc<Event>> {
    Context::healthy()?;
    driver()?.events.get(event)
}

fn record(event: Handle, stream: Handle, flags: u32) -> Result {
    let (context, stream) = Stream::of(stream)?;
    let event = driver()?.events.get(event)?;
    if event.context != context.handle {
        return Err(Status::INVALID_HANDLE);
    }
    let captures = &driver()?.captures;
    if stream.is_legacy() {
        captures.forbid_implicit(context.handle)?;
    }
    match captures.frontier(&stream)? {
        None => event.record(),
        Some(_) if flags == EXTERNAL => {
            captures.record(&stream, &Work::Record(event))?;
        }
        Some((capture, nodes)) => *lock(&event.state) = State::Captured(capture, nodes),
    }
    Ok(())
}

/// An event that has not been recorded counts as done; one in a capture can't be asked.
fn ask(event: Handle) -> Result {
    match known(event)?.state() {
        State::Captured(..) => Err(Status::CAPTURED_EVENT),
        _ => Ok(()),
    }
}

fn elapsed(milliseconds: Out<f32>, start: Handle, end: Handle) -> Result {
    let (start, end) = (known(start)?, known(end)?);
    let (from, to) = (start.time()?, end.time()?);
    let forwards = to.saturating_duration_since(from).as_secs_f32() * 1e3;
    let backwards = from.saturating_duration_since(to).as_secs_f32() * 1e3;
    let same = start.handle == end.handle;
    milliseconds.set(match (same, backwards > 0.0) {
        (true, _) => 0.0,
        (_, true) => -backwards.max(RESOLUTION),
        _ => forwards.max(RESOLUTION),
    })
}

export! {
    /// An event.
    fn cuEventCreate(event: Out<Handle>, flags: u32) {
        let context = Context::healthy()?.handle;
        if flags > 7 || flags & INTERPROCESS != 0 && flags & DISABLE_TIMING == 0 || !event.wanted() {
            return Err(Status::INVALID_VALUE);
        }
        if flags & INTERPROCESS != 0 {
            return Err(Status::NOT_SUPPORTED);
        }
        let timing = flags & DISABLE_TIMING == 0;
        let state = Mutex::new(State::Never);
        event.set(driver()?.events.add(|handle| Event { context, handle, timing, state }).handle)
    }

    /// Ends an event.
    fn cuEventDestroy_v2(event: Handle) {
        Context::current()?;
        driver()?.events.remove(event).map(|_| ())
    }

    /// The time at which all that the stream was given is done: now.
    fn cuEventRecord(event: Handle, stream: Handle) {
        record(event, stream, 0)
    }

    /// The same; in a capture it may become a node of its own.
    fn cuEventRecordWithFlags(event: Handle, stream: Handle, flags: u32) {
        if flags > EXTERNAL {
            return Err(Status::INVALID_VALUE);
        }
        record(event, stream, flags)
    }

    /// Always done.
    fn cuEventQuery(event: Handle) {
        ask(event)
    }

    /// Always done.
    fn cuEventSynchronize(event: Handle) {
        ask(event)
    }

    /// Milliseconds from one to the other.
    fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(milliseconds, start, end)
    }

    /// The same.
    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(milliseconds, start, end)
    }

    /// Nothing to wait for; but an event of a capture draws the stream into it.
    fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: u32) {
        let (_, stream) = Stream::of(stream)?;
        let event = driver()?.events.get(event)?;
        if flags > EXTERNAL {
            return Err(Status::INVALID_VALUE);
        }
        let captures = &driver()?.captures;
        match event.state() {
            State::Captured(capture, nodes) => captures.join(&stream, capture, &nodes),
            State::Never => Ok(()),
            State::Recorded(_) => match captures.frontier(&stream)? {
                None => Ok(()),
                Some(_) if flags == EXTERNAL => {
                    captures.record(&stream, &Work::Empty(Empty::Wait)).map(|_| ())
                }
                Some(_) => {
                    captures.invalidate(&stream);
                    Err(Status::STREAM_CAPTURE_ISOLATION)
                }
            },
        }
    }
}
