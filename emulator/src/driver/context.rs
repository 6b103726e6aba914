//! Contexts: which one is current, the primary one, limits, and the error that a fault leaves.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::abi::{Handle, Host, In, Ordinal, Out, export};
use super::state::{Driver, VERSION, driver};
use super::status::{Result, Status};
use super::stream::Stream;
use super::table::lock;

/// A context.
pub struct Context {
    /// Its own.
    pub handle: Handle,
    /// Its number.
    pub serial: u64,
    /// Made by `cuDevicePrimaryCtxRetain`.
    pub primary: bool,
    /// The stream that waits for all others.
    pub legacy: Arc<Stream>,
    /// The default stream of each thread; here threads share it.
    pub per_thread: Arc<Stream>,
    flags: AtomicU32,
    cache: AtomicU32,
    limits: Mutex<[usize; LIMITS]>,
    /// Code of the fault that ended it; 0 while it lives.
    error: AtomicU32,
}

const LIMITS: usize = 7;
const DEFAULT_LIMITS: [usize; LIMITS] = [1024, 1 << 20, 8 << 20, 2, 2048, 64, 0];

/// The primary context of a device: counted.
#[derive(Default)]
pub struct Primary {
    count: u32,
    flags: u32,
    context: Option<Arc<Context>>,
}

thread_local! {
    /// Handles of the contexts of this thread; the last is current.
    static STACK: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

fn with_stack<R>(with: impl FnOnce(&mut Vec<Handle>) -> R) -> R {
    STACK.with_borrow_mut(with)
}

impl Context {
    fn add(driver: &Driver, primary: bool, flags: u32) -> Arc<Context> {
        let serial = driver.serial.fetch_add(1, Ordering::Relaxed);
        driver.contexts.add(|handle| Context {
            handle,
            serial,
            primary,
            legacy: Arc::new(Stream::legacy(handle)),
            per_thread: Arc::new(Stream::per_thread(handle)),
            flags: AtomicU32::new(flags),
            cache: AtomicU32::new(0),
            limits: Mutex::new(DEFAULT_LIMITS),
            error: AtomicU32::new(0),
        })
    }

    /// The current context of this thread.
    pub fn current() -> Result<Arc<Context>> {
        let driver = driver()?;
        let handle = with_stack(|stack| stack.last().copied()).ok_or(Status::INVALID_CONTEXT)?;
        driver.contexts.get(handle).map_err(|_| Status::CONTEXT_IS_DESTROYED)
    }

    /// The current context, unless a fault has ended it: then what the fault was.
    pub fn healthy() -> Result<Arc<Context>> {
        let context = Context::current()?;
        context.check()?;
        Ok(context)
    }

    /// What the fault was, if there was one.
    pub fn check(&self) -> Result {
        match self.error.load(Ordering::Acquire) {
            0 => Ok(()),
            code => Err(Status(code)),
        }
    }

    /// After a fault nothing works in this context any more.
    pub fn fail(&self, status: Status) {
        // The first fault stays.
        let _ = self.error.compare_exchange(0, status.0, Ordering::AcqRel, Ordering::Acquire);
    }

    fn set_flags(&self, flags: u32) {
        self.flags.store(flags, Ordering::Relaxed);
    }
}

/// Makes a context and makes it current.
fn create(context: Out<Handle>, flags: u32, device: Ordinal) -> Result {
    let driver = driver()?;
    driver.device(device)?;
    check_flags(flags)?;
    if !context.wanted() {
        return Err(Status::INVALID_VALUE);
    }
    let new = Context::add(driver, false, flags);
    with_stack(|stack| stack.push(new.handle));
    context.set(new.handle)
}

/// Known flags, and at most one way of waiting.
fn check_flags(flags: u32) -> Result {
    if flags & !0x1ff == 0 && matches!(flags & 7, 0 | 1 | 2 | 4) {
        Ok(())
    } else {
        Err(Status::INVALID_VALUE)
    }
}

fn destroy(driver: &Driver, context: Handle) {
    driver.contexts.retain(|one| one.handle != context);
    driver.forget_context(context);
}

fn known(context: Handle) -> Result<Arc<Context>> {
    driver()?.contexts.get(context).map_err(|_| Status::INVALID_CONTEXT)
}

export! {
    /// Makes a context and pushes it.
    fn cuCtxCreate_v2(context: Out<Handle>, flags: u32, device: Ordinal) {
        create(context, flags, device)
    }

    /// The same; execution affinity isn't supported.
    fn cuCtxCreate_v3(context: Out<Handle>, affinity: Host, count: i32, flags: u32, device: Ordinal) {
        if !affinity.is_null() || count != 0 {
            return Err(Status::UNSUPPORTED_EXEC_AFFINITY);
        }
        create(context, flags, device)
    }

    /// The same; execution affinity and sharing with graphics aren't supported.
    fn cuCtxCreate_v4(context: Out<Handle>, parameters: In<[usize; 3]>, flags: u32, device: Ordinal) {
        if parameters.given() {
            let [affinity, _, graphics] = parameters.at(0)?;
            if affinity != 0 || graphics != 0 {
                return Err(Status::NOT_SUPPORTED);
            }
        }
        create(context, flags, device)
    }

    /// Ends a context that was created.
    fn cuCtxDestroy_v2(context: Handle) {
        if known(context)?.primary {
            return Err(Status::INVALID_CONTEXT);
        }
        with_stack(|stack| {
            if stack.last() == Some(&context) {
                stack.pop();
            }
        });
        destroy(driver()?, context);
        Ok(())
    }

    /// The current one; 0 if there is none.
    fn cuCtxGetCurrent(context: Out<Handle>) {
        driver()?;
        context.set(with_stack(|stack| stack.last().copied()).unwrap_or(0))
    }

    /// Replaces the current one; 0 takes it away.
    fn cuCtxSetCurrent(context: Handle) {
        driver()?;
        if context != 0 {
            known(context)?;
        }
        with_stack(|stack| {
            stack.pop();
            if context != 0 {
                stack.push(context);
            }
        });
        Ok(())
    }

    /// Makes a context current over the one before.
    fn cuCtxPushCurrent_v2(context: Handle) {
        known(context)?;
        with_stack(|stack| stack.push(context));
        Ok(())
    }

    /// Takes the current one away.
    fn cuCtxPopCurrent_v2(context: Out<Handle>) {
        driver()?;
        let top = with_stack(|stack| stack.pop()).ok_or(Status::INVALID_CONTEXT)?;
        context.set_if_wanted(top);
        Ok(())
    }

    /// Everything has been done already; says what a fault was.
    fn cuCtxSynchronize() {
        let context = Context::healthy()?;
        driver()?.captures.forbid_in(context.handle)
    }

    /// The current context's device.
    fn cuCtxGetDevice(device: Out<Ordinal>) {
        Context::current()?;
        device.set(0)
    }

    /// The version that contexts are made for.
    fn cuCtxGetApiVersion(context: Handle, version: Out<u32>) {
        if context == 0 {
            Context::current()?;
        } else {
            known(context)?;
        }
        version.set(3020)
    }

    /// Its number.
    fn cuCtxGetId(context: Handle, serial: Out<u64>) {
        let context = if context == 0 { Context::current()? } else { known(context)? };
        serial.set(context.serial)
    }

    /// Its flags.
    fn cuCtxGetFlags(flags: Out<u32>) {
        flags.set(Context::current()?.flags.load(Ordering::Relaxed))
    }

    /// Sets its flags.
    fn cuCtxSetFlags(flags: u32) {
        check_flags(flags)?;
        Context::current()?.set_flags(flags);
        Ok(())
    }

    /// A limit.
    fn cuCtxGetLimit(value: Out<usize>, limit: u32) {
        let context = Context::current()?;
        let limits = *lock(&context.limits);
        value.set(*limits.get(limit as usize).ok_or(Status::UNSUPPORTED_LIMIT)?)
    }

    /// Sets a limit, which is only remembered.
    fn cuCtxSetLimit(limit: u32, value: usize) {
        let context = Context::healthy()?;
        *lock(&context.limits).get_mut(limit as usize).ok_or(Status::UNSUPPORTED_LIMIT)? = value;
        Ok(())
    }

    /// Preferred division of the cache.
    fn cuCtxGetCacheConfig(preference: Out<u32>) {
        preference.set(Context::current()?.cache.load(Ordering::Relaxed))
    }

    /// Sets the preference, which is only remembered.
    fn cuCtxSetCacheConfig(preference: u32) {
        if preference > 3 {
            return Err(Status::INVALID_VALUE);
        }
        Context::healthy()?.cache.store(preference, Ordering::Relaxed);
        Ok(())
    }

    /// Banks of 4 bytes.
    fn cuCtxGetSharedMemConfig(banks: Out<u32>) {
        Context::current()?;
        banks.set(1)
    }

    /// Has no effect on devices since 2014.
    fn cuCtxSetSharedMemConfig(banks: u32) {
        Context::current()?;
        if banks > 2 { Err(Status::INVALID_VALUE) } else { Ok(()) }
    }

    /// Nothing to reset.
    fn cuCtxResetPersistingL2Cache() {
        Context::healthy().map(|_| ())
    }

    /// From the least to the greatest priority.
    fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) {
        Context::current()?;
        least.set_if_wanted(super::stream::LEAST_PRIORITY);
        greatest.set_if_wanted(super::stream::GREATEST_PRIORITY);
        Ok(())
    }

    /// There are no peers.
    fn cuCtxEnablePeerAccess(peer: Handle, _flags: u32) {
        Context::current()?;
        known(peer)?;
        Err(Status::PEER_ACCESS_UNSUPPORTED)
    }

    /// There are no peers.
    fn cuCtxDisablePeerAccess(peer: Handle) {
        Context::current()?;
        known(peer)?;
        Err(Status::PEER_ACCESS_NOT_ENABLED)
    }

    /// The primary context; made by the first call.
    fn cuDevicePrimaryCtxRetain(context: Out<Handle>, device: Ordinal) {
        let driver = driver()?;
        if !context.wanted() {
            return Err(Status::INVALID_VALUE);
        }
        let mut primary = lock(&driver.device(device)?.primary);
        let flags = primary.flags;
        let own = primary.context.get_or_insert_with(|| Context::add(driver, true, flags)).handle;
        primary.count += 1;
        context.set(own)
    }

    /// The last release ends it.
    fn cuDevicePrimaryCtxRelease_v2(device: Ordinal) {
        let driver = driver()?;
        let mut primary = lock(&driver.device(device)?.primary);
        primary.count = primary.count.checked_sub(1).ok_or(Status::INVALID_CONTEXT)?;
        if primary.count == 0 && let Some(context) = primary.context.take() {
            destroy(driver, context.handle);
        }
        Ok(())
    }

    /// Ends it at once, a fault in it too.
    fn cuDevicePrimaryCtxReset_v2(device: Ordinal) {
        let driver = driver()?;
        let mut primary = lock(&driver.device(device)?.primary);
        primary.count = 0;
        if let Some(context) = primary.context.take() {
            destroy(driver, context.handle);
        }
        Ok(())
    }

    /// Its flags, and whether it exists.
    fn cuDevicePrimaryCtxGetState(device: Ordinal, flags: Out<u32>, active: Out<i32>) {
        let primary = lock(&driver()?.device(device)?.primary);
        let own = primary.context.as_ref().map(|context| context.flags.load(Ordering::Relaxed));
        flags.set(own.unwrap_or(primary.flags))?;
        active.set(i32::from(own.is_some()))
    }

    /// Sets its flags.
    fn cuDevicePrimaryCtxSetFlags_v2(device: Ordinal, flags: u32) {
        check_flags(flags)?;
        let mut primary = lock(&driver()?.device(device)?.primary);
        primary.flags = flags;
        if let Some(context) = &primary.context {
            context.set_flags(flags);
        }
        Ok(())
    }

    /// Nothing to record.
    fn cuProfilerStart() {
        Context::current().map(|_| ())
    }

    /// Nothing to record.
    fn cuProfilerStop() {
        Context::current().map(|_| ())
    }

    /// The driver's version; needs no `cuInit`.
    fn cuDriverGetVersion(version: Out<i32>) {
        version.set(VERSION)
    }
}
