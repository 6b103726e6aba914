//! What instructions compute, one value at a time: the meaning that the vectorised paths must equal.

pub mod arithmetic;
pub mod convert;
pub mod double;
pub mod format;
pub mod integer;
pub mod round;

/// The canonical NaN that every f32 operation gives.
pub const NAN32: u32 = 0x7fff_ffff;
