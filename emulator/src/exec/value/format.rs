//! The binary floating-point formats narrower than f64, and rounding an f64 into them.

use crate::ir::Round;

/// A format: widths of exponent and mantissa fields, one sign bit above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    exponent: u32,
    mantissa: u32,
    /// Zero bits below the mantissa (tf32 is kept in 32 bits).
    padding: u32,
    nan: u32,
}

/// IEEE half.
pub const F16: Format = Format { exponent: 5, mantissa: 10, padding: 0, nan: 0x7fff };
/// The upper half of an f32.
pub const BF16: Format = Format { exponent: 8, mantissa: 7, padding: 0, nan: 0x7fff };
/// An f32 with 10 bits of mantissa; the 13 low bits are 0.
pub const TF32: Format = Format { exponent: 8, mantissa: 10, padding: 13, nan: super::NAN32 };
/// IEEE single.
pub const F32: Format = Format { exponent: 8, mantissa: 23, padding: 0, nan: super::NAN32 };

impl Format {
    fn bias(self) -> i32 {
        (1 << (self.exponent - 1)) - 1
    }

    /// Bits of infinity.
    pub fn infinity(self) -> u32 {
        ((1 << self.exponent) - 1) << (self.mantissa + self.padding)
    }

    /// Sign bit.
    pub fn sign(self) -> u32 {
        1 << (self.exponent + self.mantissa + self.padding)
    }

    /// Bits of the canonical NaN.
    pub fn nan(self) -> u32 {
        self.nan
    }

    /// The value of some bits, exactly.
    pub fn decode(self, bits: u32) -> f64 {
        let low = self.mantissa + self.padding;
        let mantissa = u64::from(bits & ((1 << low) - 1));
        let exponent = (bits >> low) & ((1 << self.exponent) - 1);
        let negative = bits & self.sign() != 0;
        let size = if exponent == (1 << self.exponent) - 1 {
            if mantissa == 0 { f64::INFINITY } else { f64::NAN }
        } else if exponent == 0 {
            mantissa as f64 * power_of_two(1 - self.bias() - low as i32)
        } else {
            f64::from_bits(((exponent as i32 - self.bias() + 1023) as u64) << 52 | mantissa << (52 - low))
        };
        if negative { -size } else { size }
    }

    /// Rounds a value into the format, subnormals and overflow included; every NaN becomes the canonical
    /// one. For values that were themselves rounded, `value` must have been rounded to odd
    /// ([`super::round`]), then there is no double rounding.
    pub fn encode(self, value: f64, round: Round) -> u32 {
        if value.is_nan() {
            return self.nan;
        }
        let bits = value.to_bits();
        let negative = bits >> 63 == 1;
        let sign = if negative { self.sign() } else { 0 };
        if value == 0.0 {
            return sign;
        }
        if value.is_infinite() {
            return sign | self.infinity();
        }
        let (mantissa, exponent) = normalise(bits);
        let least = 1 - self.bias();
        let dropped = ((52 - self.mantissa as i32) + (least - exponent).max(0)).min(60) as u32;
        let (mut kept, rest) = (mantissa >> dropped, mantissa & ((1 << dropped) - 1));
        kept += u64::from(away(round, negative, kept & 1 == 1, rest, 1 << (dropped - 1)));
        // A carry out of the mantissa moves on into the exponent by itself.
        let biased = (exponent.max(least) + self.bias()) as u64;
        let result = ((biased - 1) << self.mantissa) + kept;
        let infinity = u64::from(self.infinity() >> self.padding);
        if result >= infinity {
            return sign | self.overflow(round, negative);
        }
        sign | (result as u32) << self.padding
    }

    fn overflow(self, round: Round, negative: bool) -> u32 {
        let largest = self.infinity() - (1 << self.padding);
        if overflows_to_infinity(round, negative) { self.infinity() } else { largest }
    }
}

/// 2 to a power in f64's normal range.
fn power_of_two(power: i32) -> f64 {
    f64::from_bits(((power + 1023) as u64) << 52)
}

/// Mantissa in [2^52, 2^53) and exponent of a finite f64 that isn't 0.
fn normalise(bits: u64) -> (u64, i32) {
    let fraction = bits & ((1 << 52) - 1);
    match (bits >> 52) as i32 & 0x7ff {
        0 => {
            let shift = fraction.leading_zeros() as i32 - 11;
            (fraction << shift, -1022 - shift)
        }
        exponent => (fraction | 1 << 52, exponent - 1023),
    }
}

/// Whether a size that is too large becomes infinity, or else the largest finite one.
pub fn overflows_to_infinity(round: Round, negative: bool) -> bool {
    match round {
        Round::Near | Round::NearAway => true,
        Round::Zero => false,
        Round::Down => negative,
        Round::Up => !negative,
    }
}

/// Whether the kept part grows by one unit.
pub fn away<T: Ord + Default>(round: Round, negative: bool, odd: bool, rest: T, half: T) -> bool {
    match round {
        Round::Near => rest > half || (rest == half && odd),
        Round::NearAway => rest >= half,
        Round::Zero => false,
        Round::Down => negative && rest != T::default(),
        Round::Up => !negative && rest != T::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_half_survives() {
        for bits in 0..=0xffffu32 {
            for format in [F16, BF16] {
                let value = format.decode(bits);
                let back = format.encode(value, Round::Near);
                if value.is_nan() {
                    assert_eq!(back, 0x7fff);
                } else {
                    assert_eq!(back, bits, "{format:?} {bits:#x}");
                    assert_eq!(format.encode(value, Round::Zero), bits);
                }
            }
        }
    }

    #[test]
    fn directed_rounding_of_halves() {
        // Between 1 and 1 + 2^-10, and beyond the largest half.
        let x = 1.0 + 2f64.powi(-12);
        assert_eq!(F16.encode(x, Round::Near), 0x3c00);
        assert_eq!(F16.encode(x, Round::Up), 0x3c01);
        assert_eq!(F16.encode(-x, Round::Down), 0xbc01);
        assert_eq!(F16.encode(-x, Round::Up), 0xbc00);
        assert_eq!(F16.encode(1.0 + 2f64.powi(-11), Round::Near), 0x3c00);
        assert_eq!(F16.encode(1.0 + 2f64.powi(-11), Round::NearAway), 0x3c01);
        assert_eq!(F16.encode(65520.0, Round::Near), 0x7c00);
        assert_eq!(F16.encode(65519.0, Round::Near), 0x7bff);
        assert_eq!(F16.encode(1e6, Round::Zero), 0x7bff);
        assert_eq!(F16.encode(-1e6, Round::Up), 0xfbff);
        assert_eq!(F16.encode(2f64.powi(-25), Round::Near), 0);
        assert_eq!(F16.encode(2f64.powi(-25) * 1.01, Round::Near), 1);
        assert_eq!(F16.encode(1e-300, Round::Up), 1);
        assert_eq!(TF32.encode(1.0 + 2f64.powi(-11), Round::NearAway), 0x3f80_2000);
    }

    proptest! {
        #[test]
        fn f32_as_the_processor_rounds(bits: u64, near in 0u32..0xff00_0000) {
            let near = f64::from(f32::from_bits(near)) * (1.0 + (bits as f64) * 2f64.powi(-64) * 1e-6);
            for value in [f64::from_bits(bits), near] {
                if !value.is_nan() {
                    prop_assert_eq!(F32.encode(value, Round::Near), (value as f32).to_bits());
                }
            }
        }

        #[test]
        fn f32_decodes(bits: u32) {
            let value = f32::from_bits(bits);
            prop_assert!(value.is_nan() || F32.decode(bits) == f64::from(value));
        }
    }
}
