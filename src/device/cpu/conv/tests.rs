//! Every function against a naive f64 reference, with every arithmetic of the machine.

use super::*;
use crate::device::{Precision, mask_words};
use crate::rng::{Purpose, Stream};
use proptest::prelude::*;

fn random(seed: u64, len: usize) -> Vec<f32> {
    let stream = Stream::new(seed, Purpose::Synthetic, 0);
    (0..len).map(|i| 2.0 * stream.uniform(i as u64, 0) - 1.0).collect()
}

fn shape(
    [height, width, in_channels, out_channels]: [usize; 4],
    [kernel, stride, pad]: [usize; 3],
) -> ConvShape {
    ConvShape { height, width, in_channels, out_channels, kernel, stride, pad }
}

/// Calls `visit(input element, output element, KCRS weight element)` for every product.
fn products(s: &ConvShape, count: usize, mut visit: impl FnMut(usize, usize, usize)) {
    let (oh, ow) = (s.out_height(), s.out_width());
    for n in 0..count {
        for (oy, ox) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
            for (r, t) in (0..s.kernel).flat_map(|r| (0..s.kernel).map(move |t| (r, t))) {
                let (y, x) = (oy * s.stride + r, ox * s.stride + t);
                if y < s.pad || x < s.pad || y >= s.height + s.pad || x >= s.width + s.pad {
                    continue;
                }
                let input = ((n * s.height + y - s.pad) * s.width + x - s.pad) * s.in_channels;
                let output = ((n * oh + oy) * ow + ox) * s.out_channels;
                for k in 0..s.out_channels {
                    for c in 0..s.in_channels {
                        let weight = ((k * s.in_channels + c) * s.kernel + r) * s.kernel + t;
                        visit(input + c, output + k, weight);
                    }
                }
            }
        }
    }
}

fn assert_close(what: &str, s: &ConvShape, arithmetic: Arithmetic, actual: &[f32], expected: &[f64]) {
    let size = expected.iter().fold(1e-3_f64, |m, x| m.max(x.abs()));
    for (i, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        let error = (f64::from(a) - e).abs();
        assert!(error <= 5e-6 * size, "{what} {s:?} {arithmetic:?}: element {i} is {a}, should be {e}");
    }
}

/// What this machine can multiply with.
fn arithmetics() -> impl Iterator<Item = Arithmetic> {
    let f32 = Level::all().into_iter().map(Arithmetic::F32);
    f32.chain(MatrixUnit::all().iter().copied().map(Arithmetic::Bf16))
}

/// An operand as the arithmetic multiplies it.
fn rounded(arithmetic: Arithmetic, value: f32) -> f64 {
    match arithmetic {
        Arithmetic::F32(_) => f64::from(value),
        Arithmetic::Bf16(_) => Precision::Bf16.round(f64::from(value)),
    }
}

/// Which optional arguments a case uses, one bit each.
#[derive(Clone, Copy, Debug)]
struct Options(u32);

impl Options {
    fn has(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }
}

struct TestConv {
    s: ConvShape,
    count: usize,
    input: Vec<f32>,
    weights: Vec<f32>,
    factor: Option<Vec<f32>>,
    affine: Option<(Vec<f32>, Vec<f32>)>,
    relu: bool,
    gradient: Vec<f32>,
    options: Options,
}

impl TestConv {
    fn new(s: ConvShape, count: usize, options: Options) -> Self {
        TestConv {
            s,
            count,
            input: random(1, count * s.input_len()),
            weights: random(2, s.filter_len()),
            factor: options.has(0).then(|| random(3, s.out_channels)),
            affine: options.has(1).then(|| (random(4, s.in_channels), random(5, s.in_channels))),
            relu: options.has(2),
            gradient: random(6, count * s.output_len()),
            options,
        }
    }

    /// The filter as it is multiplied by.
    fn weight(&self, arithmetic: Arithmetic, weight: usize) -> f64 {
        let k = weight / (self.s.filter_len() / self.s.out_channels);
        let factor = self.factor.as_ref().map_or(1.0, |f| f[k]);
        match arithmetic {
            Arithmetic::F32(_) => f64::from(self.weights[weight]) * f64::from(factor),
            Arithmetic::Bf16(_) => rounded(arithmetic, self.weights[weight] * factor),
        }
    }

    fn prologue<'a>(&'a self, mask: Option<&'a mut [u32]>) -> PrologueArgs<'a> {
        PrologueArgs { affine: self.affine.as_ref().map(|(a, b)| (&a[..], &b[..])), relu: self.relu, mask }
    }

    /// Input after the affine map, before the ReLU.
    fn mapped(&self) -> Vec<f32> {
        let c = self.s.in_channels;
        let map =
            |(i, &x): (usize, &f32)| self.affine.as_ref().map_or(x, |(a, b)| x.mul_add(a[i % c], b[i % c]));
        self.input.iter().enumerate().map(map).collect()
    }

    fn activated(&self, arithmetic: Arithmetic) -> Vec<f64> {
        let relu = |x: f32| if self.relu { x.max(0.0) } else { x };
        self.mapped().into_iter().map(|x| rounded(arithmetic, relu(x))).collect()
    }

    fn filter(&self, direction: Direction, arithmetic: Arithmetic, threads: Threads) -> PackedFilter {
        let mut filter = PackedFilter::new(&FilterSpec { shape: self.s, direction }, arithmetic);
        filter.load(&self.weights, self.factor.as_deref(), threads);
        filter
    }

    fn workspace(&self, arithmetic: Arithmetic, threads: usize) -> ConvWorkspace {
        let mut size = ConvWorkspaceSize::new(arithmetic);
        size.add(&self.s, self.count);
        ConvWorkspace::new(&size, threads)
    }

    /// Output in place of the residual where there is one, and the mask.
    fn fprop(&self, arithmetic: Arithmetic, threads: Threads, slots: usize) -> (Vec<f32>, Vec<u32>) {
        let s = &self.s;
        let mut output = random(7, self.count * s.output_len());
        let mut mask = vec![!0; self.count * mask_words(s.height * s.width, s.in_channels)];
        let bias = random(8, s.out_channels);
        let pointer = output.as_mut_ptr();
        let residual = self.options.has(4).then_some(pointer.cast_const());
        // SAFETY: the output has the room, and the residual is the output itself.
        unsafe {
            fprop(
                s,
                &self.filter(Direction::Fprop, arithmetic, threads),
                self.count,
                &self.input,
                self.prologue(self.options.has(3).then_some(&mut mask)),
                self.options.has(5).then_some(&bias),
                residual,
                pointer,
                &mut self.workspace(arithmetic, slots),
                threads,
            );
        }
        (output, mask)
    }

    fn check_fprop(&self, arithmetic: Arithmetic) {
        let s = &self.s;
        let x = self.activated(arithmetic);
        let (residual, bias) = (random(7, self.count * s.output_len()), random(8, s.out_channels));
        let mut expected: Vec<f64> = (0..residual.len())
            .map(|i| {
                let residual = if self.options.has(4) { f64::from(residual[i]) } else { 0.0 };
                let bias = if self.options.has(5) { f64::from(bias[i % s.out_channels]) } else { 0.0 };
                residual + bias
            })
            .collect();
        products(s, self.count, |i, o, w| expected[o] += x[i] * self.weight(arithmetic, w));
        let (output, mask) = self.fprop(arithmetic, Threads::One, 1);
        assert_close("fprop", s, arithmetic, &output, &expected);
        if self.options.has(3) {
            self.check_mask(&mask);
        }
    }

    fn check_mask(&self, mask: &[u32]) {
        let c = self.s.in_channels;
        let words = c.div_ceil(32);
        for (pixel, x) in self.mapped().chunks(c).enumerate() {
            let row = &mask[pixel * words..][..words];
            for (i, &x) in x.iter().enumerate() {
                let bit = row[i / 32] >> (i % 32) & 1;
                assert!(x.abs() < 1e-6 || bit == u32::from(x > 0.0), "mask {:?}: pixel {pixel}", self.s);
            }
            assert!(c.is_multiple_of(32) || row[words - 1] >> (c % 32) == 0);
        }
    }

    fn dgrad(&self, arithmetic: Arithmetic, threads: Threads, slots: usize) -> Vec<f32> {
        let s = &self.s;
        let mut output = random(7, self.count * s.input_len());
        let pointer = output.as_mut_ptr();
        // SAFETY: `add` and `residual` are the output itself.
        unsafe {
            dgrad(
                s,
                &self.filter(Direction::Dgrad, arithmetic, threads),
                self.count,
                &self.gradient,
                self.options.has(3).then_some(pointer),
                self.options.has(4).then_some(&self.mask()),
                self.options.has(5).then_some(&random(8, s.in_channels)),
                self.options.has(6).then_some(pointer),
                pointer,
                &mut self.workspace(arithmetic, slots),
                threads,
            );
        }
        output
    }

    fn mask(&self) -> Vec<u32> {
        let words = self.count * mask_words(self.s.height * self.s.width, self.s.in_channels);
        random(9, words).iter().map(|x| x.to_bits().wrapping_mul(0x9E37_79B9)).collect()
    }

    fn check_dgrad(&self, arithmetic: Arithmetic) {
        let s = &self.s;
        let c = s.in_channels;
        let before = random(7, self.count * s.input_len());
        let mut expected = vec![0.0; before.len()];
        products(s, self.count, |i, o, w| {
            expected[i] += rounded(arithmetic, self.gradient[o]) * self.weight(arithmetic, w);
        });
        let (mask, scale) = (self.mask(), random(8, c));
        for (i, e) in expected.iter_mut().enumerate() {
            let (pixel, channel) = (i / c, i % c);
            if self.options.has(3) {
                *e += f64::from(before[i]);
            }
            if self.options.has(4) && mask[pixel * c.div_ceil(32) + channel / 32] >> (channel % 32) & 1 == 0 {
                *e = 0.0;
            }
            if self.options.has(5) {
                *e *= f64::from(scale[channel]);
            }
            if self.options.has(6) {
                *e += f64::from(before[i]);
            }
        }
        assert_close("dgrad", s, arithmetic, &self.dgrad(arithmetic, Threads::One, 1), &expected);
    }

    fn wgrad(&self, arithmetic: Arithmetic, threads: Threads, slots: usize) -> Vec<f32> {
        let mut result = vec![f32::NAN; self.s.filter_len()];
        let mut workspace = self.workspace(arithmetic, slots);
        let prologue = self.prologue(None);
        wgrad(
            &self.s,
            self.count,
            &self.input,
            prologue,
            &self.gradient,
            &mut result,
            &mut workspace,
            threads,
        );
        result
    }

    fn check_wgrad(&self, arithmetic: Arithmetic) {
        let x = self.activated(arithmetic);
        let mut expected = vec![0.0; self.s.filter_len()];
        products(&self.s, self.count, |i, o, w| expected[w] += x[i] * rounded(arithmetic, self.gradient[o]));
        assert_close("wgrad", &self.s, arithmetic, &self.wgrad(arithmetic, Threads::One, 1), &expected);
    }

    fn check(&self) {
        for arithmetic in arithmetics() {
            self.check_fprop(arithmetic);
            self.check_dgrad(arithmetic);
            self.check_wgrad(arithmetic);
        }
    }
}

#[test]
fn agrees_with_the_reference_on_chosen_shapes() {
    for (i, (sizes, window, count)) in [
        ([8, 8, 16, 16], [3, 1, 1], 2),
        ([7, 5, 17, 33], [3, 1, 1], 3),
        ([1, 1, 8, 8], [3, 1, 1], 1),
        ([4, 4, 70, 64], [3, 1, 1], 5),
        ([6, 9, 10, 8], [3, 1, 0], 2),
        ([5, 6, 12, 48], [3, 1, 2], 2),
        ([32, 32, 3, 16], [3, 1, 1], 1),
        ([9, 11, 3, 10], [7, 2, 3], 2),
        ([8, 8, 32, 64], [3, 2, 1], 3),
        ([7, 9, 17, 35], [3, 2, 1], 2),
        ([8, 7, 33, 16], [1, 2, 0], 3),
        ([5, 5, 1, 1], [1, 1, 0], 1),
        ([4, 6, 64, 40], [1, 1, 0], 2),
        ([6, 6, 9, 9], [3, 1, 3], 2),
        ([2, 2, 128, 96], [3, 2, 1], 4),
        ([4, 4, 256, 256], [3, 1, 1], 2),
    ]
    .into_iter()
    .enumerate()
    {
        let options = Options([0, 0x7f, 0x2a, 0x55][i % 4]);
        TestConv::new(shape(sizes, window), count, options).check();
        TestConv::new(shape(sizes, window), count, Options(0x7f)).check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_reference(
        height in 1_usize..12, width in 1_usize..12, channels in (1_usize..70, 1_usize..70),
        kernel in prop::sample::select(vec![1_usize, 3, 3, 3, 7]), stride in 1_usize..3, pad in 0_usize..4,
        count in 1_usize..4, options in 0_u32..128,
    ) {
        prop_assume!(height.min(width) + 2 * pad >= kernel && pad < kernel.max(2));
        let s = shape([height, width, channels.0, channels.1], [kernel, stride, pad]);
        TestConv::new(s, count, Options(options)).check();
    }
}

/// More images than a task of bf16 packs at a time. Sums of small whole numbers are exact in every arithmetic.
#[test]
fn weight_gradients_of_many_images_are_exact() {
    let mut case = TestConv::new(shape([4, 4, 256, 256], [3, 1, 1]), 192, Options(0));
    for value in case.input.iter_mut().chain(&mut case.gradient) {
        *value = (1.5 * *value).round();
    }
    let expected = case.wgrad(Arithmetic::F32(Level::detect()), Threads::One, 1);
    assert!(expected.iter().any(|&sum| sum.abs() > 30.0));
    for arithmetic in arithmetics() {
        assert_eq!(case.wgrad(arithmetic, Threads::One, 1), expected, "{arithmetic:?}");
    }
}

#[test]
fn threads_and_grouping_change_no_bit() {
    let pools: Vec<_> =
        [1, 2, 3].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("a pool")).into();
    let best = Level::all().into_iter().next_back().map(Arithmetic::F32);
    let units = MatrixUnit::all().iter().copied().map(Arithmetic::Bf16);
    let cases = [
        ([16, 16, 20, 24], [3, 1, 1]),
        ([4, 4, 64, 64], [3, 1, 1]),
        ([16, 16, 16, 32], [3, 2, 1]),
        ([16, 16, 3, 16], [3, 1, 1]),
        ([9, 9, 16, 32], [1, 2, 0]),
        ([8, 8, 40, 24], [3, 2, 1]),
    ];
    for (arithmetic, (sizes, window)) in
        best.into_iter().chain(units).flat_map(|a| cases.map(|case| (a, case)))
    {
        let case = TestConv::new(shape(sizes, window), 13, Options(0x7f));
        let run = |threads, slots| {
            (
                case.fprop(arithmetic, threads, slots),
                case.dgrad(arithmetic, threads, slots),
                case.wgrad(arithmetic, threads, slots),
            )
        };
        let alone = run(Threads::One, 1);
        for pool in &pools {
            assert_eq!(alone, pool.install(|| run(Threads::All, pool.current_num_threads())));
        }
        // Image by image.
        let (s, mut single) = (case.s, Vec::new());
        for image in 0..case.count {
            let mut one = TestConv::new(s, 1, Options(0));
            one.input = case.input[image * s.input_len()..][..s.input_len()].to_vec();
            single.extend(one.fprop(arithmetic, Threads::One, 1).0);
        }
        let mut together = TestConv::new(s, case.count, Options(0));
        together.input = case.input;
        assert_eq!(single, together.fprop(arithmetic, Threads::One, 1).0);
    }
}
