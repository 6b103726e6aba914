//! Copies.

use super::abi::{Address, Handle, Host, In, export, export_pairs};
use super::context::Context;
use super::state::driver;
use super::status::{Result, Status};
use super::stream::Stream;
use super::work::{Copy, Place, Work, submit};

fn device(address: Address) -> Result<Place> {
    Ok(Place::Device(address))
}

fn host(address: Host) -> Result<Place> {
    if address.is_null() { Err(Status::INVALID_VALUE) } else { Ok(Place::Host(address as usize)) }
}

/// An address of either kind: device memory has addresses that nothing else in the process has.
fn either(address: Address) -> Result<Place> {
    if driver()?.device.memory.contains(address, 1) {
        Ok(Place::Device(address))
    } else {
        host(address as Host)
    }
}

/// Copies in a stream; calls without one use the legacy stream, and can't be captured.
fn copy(to: Result<Place>, from: Result<Place>, bytes: usize, stream: Option<Handle>) -> Result {
    let (context, stream) = Stream::of(stream.unwrap_or(0))?;
    if bytes == 0 {
        return Ok(());
    }
    submit(&context, &stream, Work::Copy(Copy::plain(to?, from?, bytes)))
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Rectangle {
    from: Side,
    to: Side,
    width: usize,
    rows: usize,
}

/// Half of a `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Side {
    x: usize,
    y: usize,
    memory: u32,
    host: Host,
    device: Address,
    array: Handle,
    pitch: usize,
}

impl Side {
    fn place(&self) -> Result<Place> {
        let skipped = self.y.wrapping_mul(self.pitch).wrapping_add(self.x);
        match self.memory {
            1 => host(self.host.cast::<u8>().wrapping_add(skipped).cast()),
            2 => device(self.device.wrapping_add(skipped as u64)),
            3 => Err(Status::NOT_SUPPORTED),
            4 => either(self.device.wrapping_add(skipped as u64)),
            _ => Err(Status::INVALID_VALUE),
        }
    }

    fn pitch(&self, width: usize) -> usize {
        if self.pitch == 0 { width } else { self.pitch }
    }
}

fn rectangle(rectangle: In<Rectangle>, stream: Option<Handle>) -> Result {
    let (context, stream) = Stream::of(stream.unwrap_or(0))?;
    let Rectangle { from, to, width, rows } = rectangle.at(0)?;
    if width == 0 || rows == 0 {
        return Ok(());
    }
    let (to_pitch, from_pitch) = (to.pitch(width), from.pitch(width));
    if to_pitch < width || from_pitch < width {
        return Err(Status::INVALID_VALUE);
    }
    let copy = Copy { to: to.place()?, from: from.place()?, bytes: width, rows, to_pitch, from_pitch };
    submit(&context, &stream, Work::Copy(copy))
}

/// Contexts share the device's memory, so a copy between two of them is a copy.
fn peer(
    to: Address,
    to_context: Handle,
    from: Address,
    from_context: Handle,
    bytes: usize,
    stream: Option<Handle>,
) -> Result {
    Context::healthy()?;
    let contexts = &driver()?.contexts;
    for context in [to_context, from_context] {
        contexts.get(context).map_err(|_| Status::INVALID_CONTEXT)?.check()?;
    }
    copy(device(to), device(from), bytes, stream)
}

export_pairs! {
    /// Copies from anywhere to anywhere.
    fn cuMemcpy, cuMemcpyAsync(to: Address, from: Address, bytes: usize)
        |stream| copy(either(to), either(from), bytes, stream);

    /// Host to device.
    fn cuMemcpyHtoD_v2, cuMemcpyHtoDAsync_v2(to: Address, from: Host, bytes: usize)
        |stream| copy(device(to), host(from), bytes, stream);

    /// Device to host.
    fn cuMemcpyDtoH_v2, cuMemcpyDtoHAsync_v2(to: Host, from: Address, bytes: usize)
        |stream| copy(host(to), device(from), bytes, stream);

    /// Device to device.
    fn cuMemcpyDtoD_v2, cuMemcpyDtoDAsync_v2(to: Address, from: Address, bytes: usize)
        |stream| copy(device(to), device(from), bytes, stream);

    /// Context to context.
    fn cuMemcpyPeer, cuMemcpyPeerAsync(
        to: Address,
        to_context: Handle,
        from: Address,
        from_context: Handle,
        bytes: usize,
    )
        |stream| peer(to, to_context, from, from_context, bytes, stream);

    /// Rows.
    fn cuMemcpy2D_v2, cuMemcpy2DAsync_v2(what: In<Rectangle>)
        |stream| rectangle(what, stream);
}

export! {
    /// Rows.
    fn cuMemcpy2DUnaligned_v2(what: In<Rectangle>) {
        rectangle(what, None)
    }
}
