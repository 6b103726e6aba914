//! The data type of convolutions.

use std::fmt;
use std::str::FromStr;

use half::bf16;

use super::Program;

/// The format of a convolution's operands: its input after the prologue, its filter after the scale, its
/// output gradient. Sums and everything else are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    #[default]
    F32,
    /// Rounded to bf16, to nearest, for tensor cores.
    Bf16,
}

impl Precision {
    /// Values that take the place of one f32.
    pub fn per_word(self) -> usize {
        match self {
            Precision::F32 => 1,
            Precision::Bf16 => 2,
        }
    }

    /// A value as a device holds it that rounds to f32 first. f32 here is for the f64 reference: not rounded.
    pub fn round(self, value: f64) -> f64 {
        match self {
            Precision::F32 => value,
            Precision::Bf16 => bf16::from_f32(value as f32).to_f64(),
        }
    }
}

/// Which tensors of an op a device keeps in bf16 in the arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bf16Tensors {
    /// The op's result.
    pub output: bool,
    /// The tensor added to the result.
    pub residual: bool,
    /// The tensor added to a gradient before its mask.
    pub add: bool,
}

/// Says which tensors of each op of a program are kept in bf16.
pub type DtypeRule = fn(&Program) -> Vec<Bf16Tensors>;

/// The rule of a device that keeps everything in f32.
pub fn all_f32(program: &Program) -> Vec<Bf16Tensors> {
    vec![Bf16Tensors::default(); program.ops.len()]
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
            _ => Err("it is one of f32, bf16".into()),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_to_bf16_is_to_nearest_and_ties_go_to_even() {
        let round = |value: f64| Precision::Bf16.round(value);
        // Between 1 and 2 neighbours are 1/128 apart.
        for (value, rounded) in [
            (1.0, 1.0),
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 2.0 / 128.0),
            (1.0 + 1.01 / 256.0, 1.0 + 1.0 / 128.0),
            (-1.0 - 0.99 / 256.0, -1.0),
            (255.9, 256.0),
            (0.0, 0.0),
        ] {
            assert_eq!(round(value), rounded, "{value}");
        }
        assert_eq!(round(f64::from(f32::MAX)), f64::INFINITY);
        assert_eq!(round(f64::NEG_INFINITY), f64::NEG_INFINITY);
        assert!(round(f64::NAN).is_nan());
        assert_eq!(Precision::F32.round(0.1), 0.1);
    }

    #[test]
    fn words_are_read_and_written() {
        for precision in [Precision::F32, Precision::Bf16] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        assert_eq!("fp16".parse::<Precision>().unwrap_err(), "it is one of f32, bf16");
    }
}
