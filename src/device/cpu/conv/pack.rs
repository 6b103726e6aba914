//! Filters in the form their kernel multiplies by.
//!
//! Winograd: U = G g Gᵀ as 16 matrices (depth × columns); direct: one matrix. Matrices are stored in
//! the panels of [`super::gemm`]. Depth and columns are in and out channels of the side that the
//! filter is for; for dgrad of a direct convolution the columns are (r, s, c).

use super::super::simd::Level;
use super::gemm::{padded, panel_index, panel_width};
use super::memory::{Buffer, Shared};
use super::winograd::POSITIONS;
use super::{Algorithm, Threads, algorithm};
use crate::device::{Direction, FilterSpec};
use rayon::prelude::*;

/// A filter in the form its kernel wants; allocated once, loaded as often as the weights change.
pub struct PackedFilter {
    spec: FilterSpec,
    level: Level,
    buffer: Buffer,
}

impl PackedFilter {
    /// Allocates for the best instructions of this machine.
    pub fn new(spec: &FilterSpec) -> Self {
        Self::with_level(spec, Level::detect())
    }

    pub(super) fn with_level(spec: &FilterSpec, level: Level) -> Self {
        let s = &spec.shape;
        let window = s.kernel * s.kernel;
        let len = match (algorithm(s), spec.direction) {
            (Algorithm::Winograd, Direction::Fprop) => POSITIONS * s.in_channels * padded(s.out_channels),
            (Algorithm::Winograd, Direction::Dgrad) => POSITIONS * s.out_channels * padded(s.in_channels),
            (Algorithm::Direct, Direction::Fprop) => window * s.in_channels * padded(s.out_channels),
            (Algorithm::Direct, Direction::Dgrad) => s.out_channels * padded(window * s.in_channels),
        };
        Self { spec: *spec, level, buffer: Buffer::new(len) }
    }

    pub(super) fn level(&self) -> Level {
        self.level
    }

    pub(super) fn as_ptr(&self) -> *const f32 {
        self.buffer.as_ptr()
    }

    /// What it was made for.
    pub fn spec(&self) -> &FilterSpec {
        &self.spec
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.buffer.len() * size_of::<f32>()
    }

    /// Packs KCRS weights, each out channel k multiplied by `scale[k]`.
    pub fn load(&mut self, weights_kcrs: &[f32], scale: Option<&[f32]>, threads: Threads) {
        let s = self.spec.shape;
        assert_eq!(weights_kcrs.len(), s.filter_len());
        let window = s.kernel * s.kernel;
        let panel = panel_width(self.level);
        let target = Shared::new(self.buffer.as_mut_ptr());
        let direction = self.spec.direction;
        // One task for each out channel of the convolution; they write disjoint elements.
        let pack_channel = |k: usize| {
            let target = *target.get();
            let factor = scale.map_or(1.0, |s| s[k]);
            for c in 0..s.in_channels {
                let g = &weights_kcrs[(k * s.in_channels + c) * window..][..window];
                let (depth, columns, d, n) = match direction {
                    Direction::Fprop => (s.in_channels, s.out_channels, c, k),
                    Direction::Dgrad => (s.out_channels, s.in_channels, k, c),
                };
                match algorithm(&s) {
                    Algorithm::Winograd => {
                        let turned = direction == Direction::Dgrad;
                        let g = std::array::from_fn(|i| factor * g[if turned { 8 - i } else { i }]);
                        let at = panel_index(panel, depth, padded(columns), d, n);
                        let step = depth * padded(columns);
                        for (e, u) in transform(&g).into_iter().enumerate() {
                            // SAFETY: inside the buffer of 16 such matrices; no other task's place.
                            unsafe { *target.add(e * step + at) = u };
                        }
                    }
                    Algorithm::Direct => {
                        for (i, &w) in g.iter().enumerate() {
                            let tap = i * s.in_channels + c;
                            let at = match direction {
                                Direction::Fprop => {
                                    panel_index(panel, depth * window, padded(columns), tap, k)
                                }
                                Direction::Dgrad => {
                                    panel_index(panel, depth, padded(columns * window), k, tap)
                                }
                            };
                            // SAFETY: inside the buffer; no other task's place.
                            unsafe { *target.add(at) = factor * w };
                        }
                    }
                }
            }
        };
        match threads {
            Threads::One => (0..s.out_channels).for_each(pack_channel),
            Threads::All => (0..s.out_channels).into_par_iter().with_min_len(16).for_each(pack_channel),
        }
    }
}

/// G g Gᵀ of a row-major 3×3 filter, row-major 4×4.
fn transform(g: &[f32; 9]) -> [f32; POSITIONS] {
    let side = |a: f32, b: f32, c: f32| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
    let columns: [[f32; 4]; 3] = std::array::from_fn(|j| side(g[j], g[3 + j], g[6 + j]));
    let mut u = [0.0; POSITIONS];
    for i in 0..4 {
        u[4 * i..4 * i + 4].copy_from_slice(&side(columns[0][i], columns[1][i], columns[2][i]));
    }
    u
}
