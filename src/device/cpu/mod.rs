//! The CPU device.

#![allow(unsafe_code)]

pub mod conv;
pub mod simd;
