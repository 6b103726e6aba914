//! Memory set to a value.

use super::abi::{Address, Handle, export};
use super::status::{Result, Status};
use super::stream::Stream;
use super::work::{Fill, Work, submit};

/// A row of elements.
fn line(address: Address, value: u32, width: usize, count: usize, stream: Option<Handle>) -> Result {
    rows(address, count.saturating_mul(width), value, width, [count, 1], stream)
}

/// Rows of elements, `pitch` bytes apart.
fn rows(
    address: Address,
    pitch: usize,
    value: u32,
    width: usize,
    [count, rows]: [usize; 2],
    stream: Option<Handle>,
) -> Result {
    let (context, stream) = Stream::of(stream.unwrap_or(0))?;
    if count == 0 || rows == 0 {
        return Ok(());
    }
    let bytes = count.checked_mul(width).ok_or(Status::INVALID_VALUE)?;
    if !address.is_multiple_of(width as u64) || rows > 1 && (pitch < bytes || !pitch.is_multiple_of(width)) {
        return Err(Status::INVALID_VALUE);
    }
    let element = value.to_le_bytes();
    submit(&context, &stream, Work::Fill(Fill { address, element, width, count, rows, pitch }))
}

export! {
    /// Bytes.
    fn cuMemsetD8_v2(address: Address, value: u8, count: usize) {
        line(address, value.into(), 1, count, None)
    }

    /// Bytes.
    fn cuMemsetD8Async(address: Address, value: u8, count: usize, stream: Handle) {
        line(address, value.into(), 1, count, Some(stream))
    }

    /// Elements of 16 bits.
    fn cuMemsetD16_v2(address: Address, value: u16, count: usize) {
        line(address, value.into(), 2, count, None)
    }

    /// Elements of 16 bits.
    fn cuMemsetD16Async(address: Address, value: u16, count: usize, stream: Handle) {
        line(address, value.into(), 2, count, Some(stream))
    }

    /// Elements of 32 bits.
    fn cuMemsetD32_v2(address: Address, value: u32, count: usize) {
        line(address, value, 4, count, None)
    }

    /// Elements of 32 bits.
    fn cuMemsetD32Async(address: Address, value: u32, count: usize, stream: Handle) {
        line(address, value, 4, count, Some(stream))
    }

    /// Rows of bytes.
    fn cuMemsetD2D8_v2(address: Address, pitch: usize, value: u8, width: usize, height: usize) {
        rows(address, pitch, value.into(), 1, [width, height], None)
    }

    /// Rows of bytes.
    fn cuMemsetD2D8Async(
        address: Address,
        pitch: usize,
        value: u8,
        width: usize,
        height: usize,
        stream: Handle,
    ) {
        rows(address, pitch, value.into(), 1, [width, height], Some(stream))
    }

    /// Rows of elements of 16 bits.
    fn cuMemsetD2D16_v2(address: Address, pitch: usize, value: u16, width: usize, height: usize) {
        rows(address, pitch, value.into(), 2, [width, height], None)
    }

    /// Rows of elements of 16 bits.
    fn cuMemsetD2D16Async(
        address: Address,
        pitch: usize,
        value: u16,
        width: usize,
        height: usize,
        stream: Handle,
    ) {
        rows(address, pitch, value.into(), 2, [width, height], Some(stream))
    }

    /// Rows of elements of 32 bits.
    fn cuMemsetD2D32_v2(address: Address, pitch: usize, value: u32, width: usize, height: usize) {
        rows(address, pitch, value, 4, [width, height], None)
    }

    /// Rows of elements of 32 bits.
    fn cuMemsetD2D32Async(
        address: Address,
        pitch: usize,
        value: u32,
        width: usize,
        height: usize,
        stream: Handle,
    ) {
        rows(address, pitch, value, 4, [width, height], Some(stream))
    }
}
