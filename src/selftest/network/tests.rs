use super::run::NetworkTest;
use super::{ROWS, network_cases};
use crate::device::cpu::CpuDevice;
use crate::rng::{Purpose, Stream, below};
use crate::selftest::cases::Depth;

/// An H100's rounding was as much in logits as moving weights by up to four is.
const ULPS: u32 = 16;
/// Times that the weights of a network are moved.
const MOVES: u32 = 6;

/// Moves every weight by up to [`ULPS`] of its last bits.
fn moved(values: &[f32], seed: u32) -> Vec<f32> {
    let stream = Stream::new(seed.into(), Purpose::Synthetic, 0);
    let moved = |(at, &value): (usize, &f32)| {
        let by = below(stream.words(at as u64)[0], 2 * ULPS + 1);
        if value == 0.0 { value } else { f32::from_bits(value.to_bits() + by - ULPS) }
    };
    values.iter().enumerate().map(moved).collect()
}

/// A network next to a kink (a ReLU's input at zero, two values of a pooling window alike) tells nothing of a device:
/// on an H100 a ReLU's input of -6e-8 was 3% of the loss ten steps later.
#[test]
fn networks_are_not_next_to_a_kink() {
    let cpu = CpuDevice::new(None).unwrap();
    for case in network_cases(Depth::Full) {
        let network = NetworkTest::new(&case).unwrap();
        let expected = network.run(&cpu, None).unwrap();
        for seed in 0..MOVES {
            let mut other = NetworkTest::new(&case).unwrap();
            other.weights = moved(&network.weights, seed);
            let trained = moved(&expected.weights, MOVES + seed);
            let found = other.run(&cpu, Some(&trained)).unwrap();
            for (name, error) in found.errors(&expected, case.norm) {
                let allowed = ROWS.iter().find(|row| row.0 == name).unwrap().1;
                assert!(error <= allowed / 3.0, "{}, {name}: {error:.1e}, move {seed}", case.label());
            }
        }
    }
}
