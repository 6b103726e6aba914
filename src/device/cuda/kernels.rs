//! The table of all kernels: what each is called, and which parameters it takes, in order. Launches are built
//! from the structs of this table, and the PTX has to declare the same when it is loaded.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction};
use cudarc::nvrtc::Ptx;

use super::plan::{ImageSetSize, Pointer, Value};
use super::probe::describe;
use super::ptx;
use crate::error::{Error, Result};

/// The type of a kernel's parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An address, 64 bits: of elements of this type, and what the kernel does with them.
    Pointer(Use, Dtype),
    /// A 32-bit integer: a size, an index, a flag.
    Word,
    /// An f32.
    Float,
}

/// The type of a buffer's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    F32,
    Bf16,
    F64,
    U32,
    U8,
    /// [`super::scalars::RunScalars`].
    Run,
    /// The table of [`super::ops::optimizer::Update`]; its bytes are those of the filters that it names.
    Parts,
}

impl Dtype {
    /// Bytes of an element; the few scalars of a run don't count.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::Run => 0,
            Dtype::U8 | Dtype::Parts => 1,
            Dtype::Bf16 => 2,
            Dtype::F32 | Dtype::U32 => 4,
            Dtype::F64 => 8,
        }
    }

    /// Its name for a reader.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
            Dtype::F64 => "f64",
            Dtype::U32 => "u32",
            Dtype::U8 => "u8",
            Dtype::Run => "scalars",
            Dtype::Parts => "table",
        }
    }
}

/// What a kernel does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Write,
    /// Reads it and writes it back.
    Update,
}

/// A parameter: its name in the CUDA source, and its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub kind: Kind,
}

/// The arguments of one launch, a field for each parameter.
pub(super) trait Arguments {
    const PARAMETERS: &'static [Parameter];
    fn values(self) -> Vec<Value>;
}

/// The Rust type of an argument.
macro_rules! argument {
    (word) => {
        usize
    };
    (flag) => {
        bool
    };
    (float) => {
        f32
    };
    (image_set) => {
        ImageSetSize
    };
    ($use:ident $dtype:ident) => {
        Pointer
    };
}

macro_rules! kind {
    (word) => {
        Kind::Word
    };
    (flag) => {
        Kind::Word
    };
    (image_set) => {
        Kind::Word
    };
    (float) => {
        Kind::Float
    };
    (read $dtype:ident) => {
        Kind::Pointer(Use::Read, Dtype::$dtype)
    };
    (write $dtype:ident) => {
        Kind::Pointer(Use::Write, Dtype::$dtype)
    };
    (update $dtype:ident) => {
        Kind::Pointer(Use::Update, Dtype::$dtype)
    };
}

/// For each row a struct of arguments, and the kernels that take them.
macro_rules! kernels {
    ($($arguments:ident { $($name:ident: $kind:ident $($dtype:ident)?,)* } $($kernel:ident = $cuda:literal),+;)*) => {
        /// A kernel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Kernel { $($($kernel,)+)* }

        impl Kernel {
            /// Every kernel.
            pub const ALL: &'static [Kernel] = &[$($(Kernel::$kernel,)+)*];

            /// Its name in the CUDA source.
            pub fn name(self) -> &'static str {
                match self { $($(Kernel::$kernel => $cuda,)+)* }
            }

            /// What it takes, in order.
            pub fn parameters(self) -> &'static [Parameter] {
                match self { $($(Kernel::$kernel)|+ => $arguments::PARAMETERS,)* }
            }
        }

        $(
            pub(super) struct $arguments { $(pub $name: argument!($kind $($dtype)?),)* }

            impl Arguments for $arguments {
                const PARAMETERS: &'static [Parameter] =
                    &[$(Parameter { name: stringify!($name), kind: kind!($kind $($dtype)?) },)*];
                fn values(self) -> Vec<Value> {
                    vec![$(self.$name.into(),)*]
                }
            }
        )*

        /// The structs of arguments and their names, for `kernels/args.cuh`.
        #[cfg(test)]
        const STRUCTS: &[(&str, &[Parameter])] = &[$((stringify!($arguments), $arguments::PARAMETERS),)*];
    };
}

kernels! {
    // Filters and inputs in the form that the convolutions read.
    LoadFilterBf16Args {
        weights: read F32, scale: read F32, filter: write Bf16, total: word, kernel: word, stride: word,
        out_channels: word, in_channels: word, columns: word, dgrad: flag,
    } LoadFilterBf16 = "load_filter_bf16";
    LoadFilterF32Args {
        weights: read F32, scale: read F32, filter: write F32, total: word, kernel: word, stride: word,
        out_channels: word, in_channels: word, columns: word, dgrad: flag,
    } LoadFilterF32 = "load_filter_f32";
    ConvInputBf16Args {
        input: read F32, scale: read F32, shift: read F32, output: write Bf16, total: word, relu: flag,
        channels: word, padded_channels: word,
    } ConvInputBf16 = "conv_input_bf16";
    ConvInputF32Args {
        input: read F32, scale: read F32, shift: read F32, output: write F32, total: word, relu: flag,
        channels: word, padded_channels: word,
    } ConvInputF32 = "conv_input_f32";
    ConvMaskArgs {
        input: read F32, scale: read F32, shift: read F32, mask: write U32, total: word, channels: word, words: word,
    } ConvMask = "conv_mask";

    // Convolutions.
    ConvFpropBf16Args {
        x: read Bf16, w: read Bf16, bias: read F32, residual: read F32, residual_bf16: read Bf16, y: write F32,
        y_bf16: write Bf16, next: write Bf16, next_scale: read F32, next_shift: read F32, next_mask: write U32,
        partial: write F64, next_relu: flag, rows: word, out_height: word, out_width: word, out_channels: word,
        column_tiles: word, height: word, width: word, vectors: word, kernel: word, stride: word, pad: word,
    } ConvFpropBf16x128x64 = "conv_fprop_bf16_128x64", ConvFpropBf16x64x64 = "conv_fprop_bf16_64x64",
      ConvFpropBf16x128x16 = "conv_fprop_bf16_128x16", ConvFpropStatsBf16x128x64 = "conv_fprop_stats_bf16_128x64",
      ConvFpropStatsBf16x64x64 = "conv_fprop_stats_bf16_64x64", ConvFpropStatsBf16x128x16 = "conv_fprop_stats_bf16_128x16";
    ConvFpropF32Args {
        x: read F32, w: read F32, bias: read F32, residual: read F32, residual_bf16: read Bf16, y: write F32,
        y_bf16: write Bf16, next: write F32, next_scale: read F32, next_shift: read F32, next_mask: write U32,
        partial: write F64, next_relu: flag, rows: word, out_height: word, out_width: word, out_channels: word,
        column_tiles: word, height: word, width: word, vectors: word, kernel: word, stride: word, pad: word,
    } ConvFpropF32x64x64 = "conv_fprop_f32_64x64", ConvFpropF32x128x16 = "conv_fprop_f32_128x16",
      ConvFpropStatsF32x64x64 = "conv_fprop_stats_f32_64x64", ConvFpropStatsF32x128x16 = "conv_fprop_stats_f32_128x16";
    ConvDgradBf16Args {
        gradient: read Bf16, w: read Bf16, add: read F32, add_bf16: read Bf16, mask: read U32, scale: read F32,
        residual: read F32, residual_bf16: read Bf16, output: write F32, next: write Bf16, clean: read F32,
        epsilons: read F32, alphas: read F32, adversarial: update F32, run: read Run, count: word, height: word,
        width: word, channels: word, column_tiles: word, out_height: word, out_width: word, vectors: word,
        kernel: word, stride: word, pad: word,
    } ConvDgradBf16x128x64 = "conv_dgrad_bf16_128x64", ConvDgradBf16x64x64 = "conv_dgrad_bf16_64x64",
      ConvDgradBf16x128x16 = "conv_dgrad_bf16_128x16", ConvDgradPgdBf16 = "conv_dgrad_pgd_bf16_128x16";
    ConvDgradF32Args {
        gradient: read F32, w: read F32, add: read F32, add_bf16: read Bf16, mask: read U32, scale: read F32,
        residual: read F32, residual_bf16: read Bf16, output: write F32, next: write F32, clean: read F32,
        epsilons: read F32, alphas: read F32, adversarial: update F32, run: read Run, count: word, height: word,
        width: word, channels: word, column_tiles: word, out_height: word, out_width: word, vectors: word,
        kernel: word, stride: word, pad: word,
    } ConvDgradF32x64x64 = "conv_dgrad_f32_64x64", ConvDgradF32x128x16 = "conv_dgrad_f32_128x16",
      ConvDgradPgdF32 = "conv_dgrad_pgd_f32_128x16";
    ConvWgradBf16Args {
        x: read Bf16, gradient: read Bf16, partial: write F32, column_tiles: word, out_height: word,
        out_width: word, out_vectors: word, height: word, width: word, vectors: word, kernel: word, stride: word,
        pad: word, pixels: word, pixels_per_part: word,
    } ConvWgradBf16x64x64 = "conv_wgrad_bf16_64x64", ConvWgradBf16x64x16 = "conv_wgrad_bf16_64x16";
    ConvWgradF32Args {
        x: read F32, gradient: read F32, partial: write F32, column_tiles: word, out_height: word,
        out_width: word, out_vectors: word, height: word, width: word, vectors: word, kernel: word, stride: word,
        pad: word, pixels: word, pixels_per_part: word,
    } ConvWgradF32x64x64 = "conv_wgrad_f32_64x64", ConvWgradF32x64x16 = "conv_wgrad_f32_64x16";
    ConvWgradReduceArgs {
        partial: read F32, weight_gradient: write F32, total: word, parts: word, taps: word, out_channels: word,
        in_channels: word, padded_out: word, padded_in: word,
    } ConvWgradReduce = "conv_wgrad_reduce";

    // Batch norm.
    NormAffineArgs {
        gamma: read F32, beta: read F32, mean: read F32, variance: read F32, scale: write F32, shift: write F32,
        channels: word, epsilon: float,
    } NormAffine = "norm_affine";
    NormStatsPartialArgs {
        x: read F32, partial: write F64, rows: word, channels: word, rows_per_part: word,
    } NormStatsPartial = "norm_stats_partial";
    NormStatsArgs {
        partial: read F64, x: read F32, gamma: read F32, beta: read F32, running_mean: update F32,
        running_variance: update F32, mean: write F32, inverse_std: write F32, scale: write F32, shift: write F32,
        rows: word, channels: word, parts: word, momentum: float, epsilon: float,
    } NormStats = "norm_stats";
    NormDgradPartialArgs {
        x: read F32, gradient: read F32, mean: read F32, scale: read F32, shift: read F32, partial: write F64,
        rows: word, channels: word, rows_per_part: word,
    } NormDgradPartial = "norm_dgrad_partial";
    NormDgradReduceArgs {
        partial: read F64, inverse_std: read F32, gamma_gradient: write F32, beta_gradient: write F32,
        channels: word, parts: word,
    } NormDgradReduce = "norm_dgrad_reduce";
    NormDgradArgs {
        x: read F32, gamma: read F32, mean: read F32, inverse_std: read F32, scale: read F32, shift: read F32,
        gamma_gradient: read F32, beta_gradient: read F32, gradient: read F32, residual: read F32,
        output: write F32, rows: word, channels: word, rows_per_part: word, next: write Bf16, padded: word,
    } NormDgrad = "norm_dgrad";

    // Pooling, sums, image networks.
    MaxPoolArgs {
        input: read F32, scale: read F32, shift: read F32, output: write F32, argmax: write U32, total: word,
        relu: flag, height: word, width: word, channels: word, out_height: word, out_width: word, kernel: word,
        stride: word, pad: word,
    } MaxPool = "max_pool";
    MaxPoolDgradArgs {
        gradient: read F32, argmax: read U32, output: write F32, height: word, width: word, channels: word,
        out_height: word, out_width: word, kernel: word, stride: word, pad: word,
    } MaxPoolDgrad = "max_pool_dgrad";
    AdaptiveAvgPoolArgs {
        input: read F32, output: write F32, total: word, height: word, width: word, channels: word, side: word,
    } AdaptiveAvgPool = "adaptive_avg_pool";
    AdaptiveAvgPoolDgradArgs {
        gradient: read F32, output: write F32, total: word, height: word, width: word, channels: word, side: word,
    } AdaptiveAvgPoolDgrad = "adaptive_avg_pool_dgrad";
    AddArgs {
        left: read F32, left_scale: read F32, left_shift: read F32, right: read F32, right_scale: read F32,
        right_shift: read F32, output: write F32, total: word, channels: word, left_relu: flag, right_relu: flag,
    } Add = "add";
    UpsampleArgs {
        input: read F32, scale: read F32, shift: read F32, output: write F32, total: word, height: word,
        width: word, channels: word, relu: flag,
    } Upsample = "upsample";
    UpsampleDgradArgs {
        gradient: read F32, output: write F32, total: word, height: word, width: word, channels: word,
    } UpsampleDgrad = "upsample_dgrad";
    ScaledTanhArgs {
        input: read F32, scale: read F32, shift: read F32, output: write F32, total: word, channels: word,
    } ScaledTanh = "scaled_tanh";
    ScaledTanhDgradArgs {
        input: read F32, scale: read F32, shift: read F32, gradient: read F32, factor: read F32, output: write F32,
        total: word, channels: word,
    } ScaledTanhDgrad = "scaled_tanh_dgrad";

    // The classifier's end.
    GlobalAvgPoolArgs { input: read F32, output: write F32, total: word, pixels: word, channels: word, } GlobalAvgPool = "global_avg_pool";
    GlobalAvgPoolDgradArgs {
        gradient: read F32, output: write F32, total: word, pixels: word, channels: word,
    } GlobalAvgPoolDgrad = "global_avg_pool_dgrad";
    LinearArgs {
        weight: read F32, bias: read F32, input: read F32, output: write F32, total: word, inputs: word,
        outputs: word,
    } Linear = "linear";
    LinearDgradArgs {
        weight: read F32, gradient: read F32, output: write F32, total: word, inputs: word, outputs: word,
    } LinearDgrad = "linear_dgrad";
    LinearWgradArgs {
        input: read F32, gradient: read F32, weight_gradient: write F32, bias_gradient: write F32, total: word,
        images: word, inputs: word, outputs: word,
    } LinearWgrad = "linear_wgrad";
    CrossEntropyArgs {
        logits: read F32, labels: read U32, teacher: read F32, loss: write F32, gradient: write F32, images: word,
        classes: word, divisor: float, run: read Run,
    } CrossEntropy = "cross_entropy";
    CosineArgs {
        logits: read F32, reference: read F32, score: write F32, images: word, classes: word,
    } Cosine = "cosine_similarity";
    ClassifierForwardArgs {
        input: read F32, weight: read F32, bias: read F32, features: write F32, logits: write F32, pixels: word,
        channels: word, classes: word, reference: read F32, score: write F32,
    } ClassifierForward = "classifier_forward";
    ClassifierLossArgs {
        input: read F32, weight: read F32, bias: read F32, features: write F32, logits: write F32, pixels: word,
        channels: word, classes: word, labels: read U32, teacher: read F32, loss: write F32, gradient: write F32,
        back: write F32, output: write F32, next: write Bf16, divisor: float, run: read Run,
    } ClassifierLoss = "classifier_loss";

    // Images and the attack.
    LoadImagesArgs {
        images: read U8, indices: read U32, output: write F32, set: image_set, height: word, width: word,
        from: image_set, channels: word, pad: word, flip: flag, run: read Run,
    } LoadImages = "load_images";
    RandomErasingArgs {
        indices: read U32, images: write F32, height: word, width: word, channels: word, run: read Run,
    } RandomErasing = "random_erasing";
    PgdStartArgs {
        clean: read F32, indices: read U32, epsilons: read F32, adversarial: write F32, elements: word, l2: flag,
        run: read Run,
    } PgdStart = "pgd_start";
    PgdStepArgs {
        clean: read F32, gradient: read F32, epsilons: read F32, alphas: read F32, adversarial: update F32,
        elements: word, run: read Run,
    } PgdStepLinf = "pgd_step_linf", PgdStepL2 = "pgd_step_l2";

    // Updates of the weights.
    SgdArgs {
        weights: update F32, gradients: read F32, velocity: update F32, total: word, run: read Run,
    } Sgd = "sgd";
    SgdWithFiltersArgs {
        weights: update F32, gradients: read F32, velocity: update F32, average: update F32, parts: read Parts,
        count: word, trainable: word, run: read Run,
    } SgdWithFilters = "sgd_with_filters";
    AdamArgs {
        weights: update F32, gradients: read F32, first: update F32, second: update F32, total: word, run: read Run,
    } Adam = "adam";
    MovingAverageArgs {
        weights: read F32, average: update F32, total: word, run: read Run,
    } MovingAverage = "moving_average";
    CopyArgs { input: read F32, output: write F32, total: word, } Copy = "copy";
}

/// A kernel on the device, and how it takes its arguments.
pub(super) struct Function {
    pub function: CudaFunction,
    /// As one struct by value; else one by one.
    pub by_value: bool,
}

/// Every kernel, in the order of [`Kernel::ALL`].
pub(super) struct Kernels(Vec<Function>);

impl Kernels {
    pub fn get(&self, kernel: Kernel) -> &Function {
        &self.0[kernel as usize]
    }
}

/// Hands the modules to the driver, which compiles them for the device.
///
/// # Errors
/// A file of `PBE_PTX_DIR` can't be read, the driver refuses a module, or a kernel takes other arguments than those of
/// the table.
pub(super) fn load(context: &Arc<CudaContext>) -> Result<Kernels> {
    let fail = |what: &str, error| Error::run(format!("CUDA {what}: {}", describe(error)));
    let mut modules = Vec::new();
    for (name, text) in ptx::modules(ptx::ptx_dir().as_deref())? {
        let module = context.load_module(Ptx::from_src(&*text)).map_err(|error| fail(name, error))?;
        modules.push((text, module));
    }
    let find = |&kernel: &Kernel| {
        let name = kernel.name();
        let declared = modules.iter().find_map(|(text, module)| Some((entry(text, name)?, module)));
        let (declared, module) = declared.ok_or_else(|| Error::run(format!("no CUDA kernel {name}")))?;
        let by_value =
            passing(&declared, kernel).map_err(|cause| Error::run(format!("CUDA kernel {name} {cause}")))?;
        let function = module.load_function(name).map_err(|error| fail(name, error))?;
        Ok(Function { function, by_value })
    };
    Kernel::ALL.iter().map(find).collect::<Result<_>>().map(Kernels)
}

/// The kernels that a module's text declares, and their lists of parameters.
fn entries(text: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    text.split(".visible .entry ").skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once('(')?;
        let (list, _) = rest.split_once(')')?;
        Some((name.trim(), list.split(',').map(str::trim).collect()))
    })
}

fn entry<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    entries(text).find(|(found, _)| *found == name).map(|(_, list)| list)
}

/// Whether a kernel that declares these parameters takes its arguments as one struct.
fn passing(declared: &[&str], kernel: Kernel) -> std::result::Result<bool, String> {
    let table = kernel.parameters();
    if let [one] = declared
        && let Some((_, size)) = one.split_once('[')
    {
        // `.param .align 8 .b8 name_param_0[208]`
        let size = size.trim_end_matches(']').parse::<usize>().unwrap_or(0);
        return match layout(table).1 == size {
            true => Ok(true),
            false => Err(format!("takes {size} bytes, not {}", layout(table).1)),
        };
    }
    // `.param .u64 name_param_0`
    let words = |kind: &Kind| match kind {
        Kind::Pointer(..) => ".u64",
        Kind::Word => ".u32",
        Kind::Float => ".f32",
    };
    let same = declared.len() == table.len()
        && declared.iter().zip(table).all(|(one, parameter)| one.contains(words(&parameter.kind)));
    if same { Ok(false) } else { Err(format!("declares {declared:?}, not {table:?}")) }
}

/// Where each field of a struct of these parameters lies, as C lays it out, and the struct's size.
pub(super) fn layout(parameters: &[Parameter]) -> (Vec<usize>, usize) {
    let (mut offsets, mut end, mut align) = (Vec::new(), 0_usize, 1);
    for parameter in parameters {
        let size = if let Kind::Pointer(..) = parameter.kind { 8 } else { 4 };
        let offset = end.next_multiple_of(size);
        offsets.push(offset);
        (end, align) = (offset + size, align.max(size));
    }
    (offsets, end.next_multiple_of(align))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ptx_declares_the_kernels_of_the_table_and_no_others() {
        let modules = ptx::modules(None).unwrap();
        let all: Vec<_> = modules.iter().flat_map(|(_, text)| entries(text)).collect();
        assert_eq!(all.len(), Kernel::ALL.len());
        for &kernel in Kernel::ALL {
            let (_, declared) = all.iter().find(|(name, _)| *name == kernel.name()).unwrap();
            passing(declared, kernel).unwrap_or_else(|cause| panic!("{} {cause}", kernel.name()));
        }
    }

    /// The structs in C, with what they have to look like.
    fn header() -> String {
        let mut text = String::from(
            "// The kernels' structs of arguments, made of the table in src/device/cuda/kernels.rs by\n\
             // `PBE_WRITE_ARGS=1 cargo test --lib args_header`. Do not edit.\n\
             #pragma once\n#include \"common.cuh\"\n\nstruct Segment;\n",
        );
        for (name, parameters) in STRUCTS {
            let (offsets, size) = layout(parameters);
            text += &format!("\nstruct {name} {{\n");
            for Parameter { name, kind } in *parameters {
                text += &match kind {
                    Kind::Pointer(Use::Read, dtype) => format!("    const {}* {name};\n", c_type(*dtype)),
                    Kind::Pointer(_, dtype) => format!("    {}* {name};\n", c_type(*dtype)),
                    Kind::Word => format!("    u32 {name};\n"),
                    Kind::Float => format!("    float {name};\n"),
                };
            }
            // Fields are of 4 or 8 bytes: with the end and the last one's place no other can be elsewhere.
            let (Some(last), Some(offset)) = (parameters.last(), offsets.last()) else { continue };
            text += &format!(
                "}};\nstatic_assert(sizeof({name}) == {size} && __builtin_offsetof({name}, {}) == {offset}, \"\");\n",
                last.name
            );
        }
        text
    }

    fn c_type(dtype: Dtype) -> &'static str {
        match dtype {
            Dtype::F32 => "float",
            Dtype::Bf16 => "bf16",
            Dtype::F64 => "double",
            Dtype::U32 => "u32",
            Dtype::U8 => "u8",
            Dtype::Run => "Run",
            Dtype::Parts => "Segment",
        }
    }

    #[test]
    fn the_args_header_is_made_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/args.cuh");
        if std::env::var_os("PBE_WRITE_ARGS").is_some() {
            std::fs::write(path, header()).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap() == header(),
            "kernels/args.cuh isn't made of the table"
        );
    }

    #[test]
    fn other_parameters_than_those_of_the_table_are_refused() {
        let copy = [".param .u64 a", ".param .u64 b", ".param .u32 c"];
        assert_eq!(passing(&copy, Kernel::Copy), Ok(false));
        assert!(passing(&copy[..2], Kernel::Copy).is_err());
        assert!(passing(&[copy[0], copy[2], copy[1]], Kernel::Copy).is_err());
        assert_eq!(passing(&[".param .align 8 .b8 a[24]"], Kernel::Copy), Ok(true));
        assert!(passing(&[".param .align 8 .b8 a[32]"], Kernel::Copy).is_err());
    }
}
