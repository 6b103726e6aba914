//! Filters in the form their kernel multiplies by.
//!
//! Winograd: U = G g Gᵀ as 16 matrices (depth × columns); direct: one matrix. Matrices are stored in
//! the panels of [`super::gemm`]. Depth and columns are in and out channels of the side that the
//! filter is for; for dgrad of a direct convolution the columns are (r, s, c).

use super::super::simd::{Level, Simd, SimdKernel, launch};
use super::bf16::TiledFilter;
use super::gemm::{padded, panel_index, panel_width};
use super::memory::{AlignedBuffer, SyncPointers, for_tasks, room};
use super::winograd::POSITIONS;
use super::{Algorithm, Arithmetic, Threads, algorithm};
use crate::device::{Direction, FilterSpec};

/// A filter in the form its kernel wants; allocated once, loaded as often as the weights change.
pub struct PackedFilter {
    spec: FilterSpec,
    form: Form,
}

/// What the arithmetic multiplies by.
pub(super) enum Form {
    F32(Level, AlignedBuffer),
    Bf16(TiledFilter),
}

impl PackedFilter {
    /// Allocates.
    pub fn new(spec: &FilterSpec, arithmetic: Arithmetic) -> Self {
        let form = match arithmetic {
            Arithmetic::F32(level) => Form::F32(level, AlignedBuffer::new(Self::elements(spec))),
            Arithmetic::Bf16(unit) => Form::Bf16(TiledFilter::new(spec, unit)),
        };
        Self { spec: *spec, form }
    }

    /// Bytes that [`PackedFilter::new`] would hold.
    pub fn bytes_for(spec: &FilterSpec, arithmetic: Arithmetic) -> usize {
        let elements = match arithmetic {
            Arithmetic::F32(_) => Self::elements(spec),
            Arithmetic::Bf16(_) => TiledFilter::elements(spec),
        };
        room(&[elements]) * size_of::<f32>()
    }

    fn elements(spec: &FilterSpec) -> usize {
        let s = &spec.shape;
        let window = s.kernel * s.kernel;
        match (algorithm(s), spec.direction) {
            (Algorithm::Winograd, Direction::Fprop) => POSITIONS * s.in_channels * padded(s.out_channels),
            (Algorithm::Winograd, Direction::Dgrad) => POSITIONS * s.out_channels * padded(s.in_channels),
            (Algorithm::Direct, Direction::Fprop) => window * s.in_channels * padded(s.out_channels),
            (Algorithm::Direct, Direction::Dgrad) => s.out_channels * padded(window * s.in_channels),
        }
    }

    pub(super) fn form(&self) -> &Form {
        &self.form
    }

    /// What it was made for.
    pub fn spec(&self) -> &FilterSpec {
        &self.spec
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match &self.form {
            Form::F32(_, buffer) => buffer.len() * size_of::<f32>(),
            Form::Bf16(tiles) => tiles.bytes(),
        }
    }

    /// Packs KCRS weights, each out channel k multiplied by `scale[k]`.
    pub fn load(&mut self, weights_kcrs: &[f32], scale: Option<&[f32]>, threads: Threads) {
        assert_eq!(weights_kcrs.len(), self.spec.shape.filter_len());
        match &mut self.form {
            Form::F32(level, buffer) => {
                load_f32(&self.spec, *level, buffer.as_mut_ptr(), weights_kcrs, scale, threads);
            }
            Form::Bf16(tiles) => tiles.load(&self.spec, weights_kcrs, scale, threads),
        }
    }
}

/// The packing for products in f32.
fn load_f32(
    spec: &FilterSpec,
    level: Level,
    target: *mut f32,
    weights_kcrs: &[f32],
    scale: Option<&[f32]>,
    threads: Threads,
) {
    let s = spec.shape;
    let window = s.kernel * s.kernel;
    let (k_step, c_step) = (s.in_channels * window, window);
    let fprop = spec.direction == Direction::Fprop;
    let winograd = algorithm(&s) == Algorithm::Winograd;
    let scale = scale.map_or(std::ptr::null(), <[f32]>::as_ptr);
    let (depth, columns) =
        if fprop { (s.in_channels, s.out_channels) } else { (s.out_channels, s.in_channels) };
    let (d_step, n_step) = if fprop { (c_step, k_step) } else { (k_step, c_step) };
    let panel = panel_width(level);
    let shared = SyncPointers::new((weights_kcrs.as_ptr(), scale, target));
    // A task packs 16 columns, or for a direct dgrad one row; they write disjoint elements.
    let pack = |task: usize| {
        let &(weights, scale, target) = shared.get();
        // SAFETY: the filter's length was checked; the buffer was made for this shape.
        unsafe {
            if winograd || fprop {
                let n = 16 * task;
                let weights = weights.add(n * n_step);
                let pack = PackColumns {
                    winograd,
                    turned: !fprop,
                    weights,
                    window,
                    depth,
                    columns: 16.min(columns - n),
                    d_step,
                    n_step,
                    depth_scale: if fprop { std::ptr::null() } else { scale },
                    column_scale: if fprop && !scale.is_null() { scale.add(n) } else { std::ptr::null() },
                    target,
                    panel,
                    n,
                    row_columns: padded(columns),
                };
                launch(level, pack);
            } else {
                let factor = if scale.is_null() { 1.0 } else { *scale.add(task) };
                let all = padded(columns * window);
                let weights = weights.add(task * k_step);
                for first in (0..columns * window).step_by(panel) {
                    let row = target.add(panel_index(panel, depth, all, task, first));
                    let (mut tap, mut c) = (first / columns, first % columns);
                    for i in 0..panel.min(columns * window - first) {
                        *row.add(i) = factor * *weights.add(c * c_step + tap);
                        c += 1;
                        if c == columns {
                            (tap, c) = (tap + 1, 0);
                        }
                    }
                }
            }
        }
    };
    let tasks = if winograd || fprop { columns.div_ceil(16) } else { depth };
    for_tasks(threads, tasks, pack);
}

/// Packs up to 16 columns, all of the depth. Null scales = 1.
struct PackColumns {
    winograd: bool,
    /// Rotate the window by half a turn.
    turned: bool,
    /// Of the first column.
    weights: *const f32,
    window: usize,
    depth: usize,
    columns: usize,
    d_step: usize,
    n_step: usize,
    depth_scale: *const f32,
    column_scale: *const f32,
    target: *mut f32,
    panel: usize,
    n: usize,
    row_columns: usize,
}

impl SimdKernel for PackColumns {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let position = self.depth * self.row_columns;
        // SAFETY: windows of the columns inside the weights, rows of 16 floats inside the target.
        unsafe {
            let mut factors = [1.0; 16];
            if !self.column_scale.is_null() {
                for (i, factor) in factors.iter_mut().enumerate().take(self.columns) {
                    *factor = *self.column_scale.add(i);
                }
            }
            for d in 0..self.depth {
                let weights = self.weights.add(d * self.d_step);
                let scale = if self.depth_scale.is_null() { 1.0 } else { *self.depth_scale.add(d) };
                if self.winograd {
                    let mut g = [[0.0; 16]; 9];
                    for column in 0..self.columns {
                        let w = weights.add(column * self.n_step);
                        for (i, g) in g.iter_mut().enumerate() {
                            g[column] = *w.add(if self.turned { 8 - i } else { i });
                        }
                    }
                    for lane in (0..16).step_by(S::LANES) {
                        let factor = S::mul(S::splat(scale), S::load(factors.as_ptr().add(lane)));
                        let mut v = [S::splat(0.0); 9];
                        for (v, g) in v.iter_mut().zip(&g) {
                            *v = S::mul(factor, S::load(g.as_ptr().add(lane)));
                        }
                        let at = panel_index(self.panel, self.depth, self.row_columns, d, self.n + lane);
                        for (e, u) in transform::<S>(&v).into_iter().enumerate() {
                            S::store(self.target.add(e * position + at), u);
                        }
                    }
                } else {
                    for tap in 0..self.window {
                        let mut w = [0.0; 16];
                        for (column, w) in w.iter_mut().enumerate().take(self.columns) {
                            *w = *weights.add(column * self.n_step + tap);
                        }
                        let (row, depth) = (tap * self.depth + d, self.depth * self.window);
                        for lane in (0..16).step_by(S::LANES) {
                            let factor = S::mul(S::splat(scale), S::load(factors.as_ptr().add(lane)));
                            let at = panel_index(self.panel, depth, self.row_columns, row, self.n + lane);
                            S::store(self.target.add(at), S::mul(factor, S::load(w.as_ptr().add(lane))));
                        }
                    }
                }
            }
        }
    }
}

/// G g.
#[inline(always)]
unsafe fn g<S: Simd>(g: [S::V; 3]) -> [S::V; 4] {
    // SAFETY: below `launch`.
    unsafe {
        let (half, ends) = (S::splat(0.5), S::add(g[0], g[2]));
        [g[0], S::mul(half, S::add(ends, g[1])), S::mul(half, S::sub(ends, g[1])), g[2]]
    }
}

/// G g Gᵀ of a row-major 3×3 filter, row-major 4×4.
#[inline(always)]
unsafe fn transform<S: Simd>(w: &[S::V; 9]) -> [S::V; POSITIONS] {
    // SAFETY: below `launch`.
    unsafe {
        let mut columns = [[S::splat(0.0); 4]; 3];
        for (j, column) in columns.iter_mut().enumerate() {
            *column = g::<S>([w[j], w[3 + j], w[6 + j]]);
        }
        let mut u = [S::splat(0.0); POSITIONS];
        for (i, u) in u.chunks_exact_mut(4).enumerate() {
            u.copy_from_slice(&g::<S>([columns[0][i], columns[1][i], columns[2][i]]));
        }
        u
    }
}
