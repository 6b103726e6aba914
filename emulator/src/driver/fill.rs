//! Memory set to a value.

use super::abi::{Address, Handle, export_pairs};
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

export_pairs! {
    /// Bytes.
    fn cuMemsetD8_v2, cuMemsetD8Async(address: Address, value: u8, count: usize)
        |stream| line(address, value.into(), 1, count, stream);

    /// Elements of 16 bits.
    fn cuMemsetD16_v2, cuMemsetD16Async(address: Address, value: u16, count: usize)
        |stream| line(address, value.into(), 2, count, stream);

    /// Elements of 32 bits.
    fn cuMemsetD32_v2, cuMemsetD32Async(address: Address, value: u32, count: usize)
        |stream| line(address, value, 4, count, stream);

    /// Rows of bytes.
    fn cuMemsetD2D8_v2, cuMemsetD2D8Async(
        address: Address, pitch: usize, value: u8, width: usize, height: usize
    )
        |stream| rows(address, pitch, value.into(), 1, [width, height], stream);

    /// Rows of elements of 16 bits.
    fn cuMemsetD2D16_v2, cuMemsetD2D16Async(
        address: Address, pitch: usize, value: u16, width: usize, height: usize
    )
        |stream| rows(address, pitch, value.into(), 2, [width, height], stream);

    /// Rows of elements of 32 bits.
    fn cuMemsetD2D32_v2, cuMemsetD2D32Async(
        address: Address, pitch: usize, value: u32, width: usize, height: usize
    )
        |stream| rows(address, pitch, value, 4, [width, height], stream);
}
