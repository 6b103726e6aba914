//! The table of all kernels: what each is called, and the struct of arguments that it takes. Launches are built from the
//! structs of this table, `kernels/args.cuh` is made of it, and the PTX has to declare structs of the same size when it
//! is loaded.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction};
use cudarc::nvrtc::Ptx;

use super::plan::{Argument, ImageSetSize, Pointer};
use super::probe::describe;
use super::ptx;
use crate::error::{Error, Result};

/// The type of a kernel's parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParameterType {
    /// An address, 64 bits: of elements of this type, and what the kernel does with them.
    Pointer(Use, Dtype),
    /// An address of what the kernel's convolution multiplies: [`Kernel::operand`].
    Operand(Use),
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
    /// An entry of the table of [`super::ops::optimizer::Update`]; the table's bytes are those of the filters that it
    /// names.
    Segment,
}

impl Dtype {
    /// Bytes of an element; the few scalars of a run don't count.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::Run => 0,
            Dtype::U8 | Dtype::Segment => 1,
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
            Dtype::Segment => "table",
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
    pub kind: ParameterType,
}

/// The arguments of one launch, a field for each parameter.
pub(super) trait Arguments {
    const PARAMETERS: &'static [Parameter];
    fn values(self) -> Vec<Argument>;
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
        ParameterType::Word
    };
    (flag) => {
        ParameterType::Word
    };
    (image_set) => {
        ParameterType::Word
    };
    (float) => {
        ParameterType::Float
    };
    (read Operand) => {
        ParameterType::Operand(Use::Read)
    };
    (write Operand) => {
        ParameterType::Operand(Use::Write)
    };
    (read $dtype:ident) => {
        ParameterType::Pointer(Use::Read, Dtype::$dtype)
    };
    (write $dtype:ident) => {
        ParameterType::Pointer(Use::Write, Dtype::$dtype)
    };
    (update $dtype:ident) => {
        ParameterType::Pointer(Use::Update, Dtype::$dtype)
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

            /// The type of a convolution's operands; its name has it.
            pub fn operand(self) -> Dtype {
                if self.name().contains("_f32") { Dtype::F32 } else { Dtype::Bf16 }
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
                fn values(self) -> Vec<Argument> {
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
    LoadFilterArgs {
        weights: read F32, scale: read F32, filter: write Operand, total: word, kernel: word, stride: word,
        out_channels: word, in_channels: word, columns: word, dgrad: flag,
    } LoadFilterBf16 = "load_filter_bf16", LoadFilterF32 = "load_filter_f32";
    ConvInputArgs {
        input: read F32, scale: read F32, shift: read F32, output: write Operand, total: word, relu: flag,
        channels: word, padded_channels: word,
    } ConvInputBf16 = "conv_input_bf16", ConvInputF32 = "conv_input_f32";
    ConvMaskArgs {
        input: read F32, scale: read F32, shift: read F32, mask: write U32, total: word, channels: word, words: word,
    } ConvMask = "conv_mask";

    // Convolutions.
    ConvFpropArgs {
        x: read Operand, w: read Operand, bias: read F32, residual: read F32, residual_bf16: read Bf16,
        y: write F32, y_bf16: write Bf16, next: write Operand, next_scale: read F32, next_shift: read F32,
        next_mask: write U32, partial: write F64, next_relu: flag, rows: word, out_height: word,
        out_width: word, out_channels: word, column_tiles: word, height: word, width: word, vectors: word,
        kernel: word, stride: word, pad: word,
    } ConvFpropBf16x128x64 = "conv_fprop_bf16_128x64", ConvFpropBf16x64x64 = "conv_fprop_bf16_64x64",
      ConvFpropBf16x128x16 = "conv_fprop_bf16_128x16", ConvFpropStatsBf16x128x64 = "conv_fprop_stats_bf16_128x64",
      ConvFpropStatsBf16x64x64 = "conv_fprop_stats_bf16_64x64",
      ConvFpropStatsBf16x128x16 = "conv_fprop_stats_bf16_128x16", ConvFpropF32x64x64 = "conv_fprop_f32_64x64",
      ConvFpropF32x128x16 = "conv_fprop_f32_128x16", ConvFpropStatsF32x64x64 = "conv_fprop_stats_f32_64x64",
      ConvFpropStatsF32x128x16 = "conv_fprop_stats_f32_128x16";
    ConvDgradArgs {
        gradient: read Operand, w: read Operand, add: read F32, add_bf16: read Bf16, mask: read U32,
        scale: read F32, residual: read F32, residual_bf16: read Bf16, output: write F32, next: write Operand,
        clean: read F32, epsilons: read F32, alphas: read F32, adversarial: update F32, run: read Run,
        count: word, height: word, width: word, channels: word, column_tiles: word, out_height: word,
        out_width: word, vectors: word, kernel: word, stride: word, pad: word,
    } ConvDgradBf16x128x64 = "conv_dgrad_bf16_128x64", ConvDgradBf16x64x64 = "conv_dgrad_bf16_64x64",
      ConvDgradBf16x128x16 = "conv_dgrad_bf16_128x16", ConvDgradPgdBf16 = "conv_dgrad_pgd_bf16_128x16",
      ConvDgradF32x64x64 = "conv_dgrad_f32_64x64", ConvDgradF32x128x16 = "conv_dgrad_f32_128x16",
      ConvDgradPgdF32 = "conv_dgrad_pgd_f32_128x16";
    ConvWgradArgs {
        x: read Operand, gradient: read Operand, partial: write F32, column_tiles: word, out_height: word,
        out_width: word, out_vectors: word, height: word, width: word, vectors: word, kernel: word,
        stride: word, pad: word, pixels: word, pixels_per_part: word,
    } ConvWgradBf16x64x64 = "conv_wgrad_bf16_64x64", ConvWgradBf16x64x16 = "conv_wgrad_bf16_64x16",
      ConvWgradF32x64x64 = "conv_wgrad_f32_64x64", ConvWgradF32x64x16 = "conv_wgrad_f32_64x16";
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
        feature_gradient: write F32, output: write F32, next: write Bf16, divisor: float, run: read Run,
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
        weights: update F32, gradients: read F32, velocity: update F32, average: update F32, segments: read Segment,
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

/// Every kernel on the device, in the order of [`Kernel::ALL`].
pub(super) struct Kernels(Vec<CudaFunction>);

impl Kernels {
    pub fn get(&self, kernel: Kernel) -> &CudaFunction {
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
        check(&declared, kernel).map_err(|cause| Error::run(format!("CUDA kernel {name} {cause}")))?;
        module.load_function(name).map_err(|error| fail(name, error))
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

/// Whether a kernel that declares these parameters takes one struct of the table's size.
fn check(declared: &[&str], kernel: Kernel) -> std::result::Result<(), String> {
    let size = layout(kernel.parameters()).1;
    // `.param .align 8 .b8 name_param_0[208]`
    let found = match declared {
        [one] => one.split_once('[').and_then(|(_, size)| size.trim_end_matches(']').parse().ok()),
        _ => None,
    };
    if found == Some(size) {
        Ok(())
    } else {
        Err(format!("declares {declared:?}, not a struct of {size} bytes"))
    }
}

/// Where each field of a struct of these parameters lies, as C lays it out, and the struct's size.
pub(super) fn layout(parameters: &[Parameter]) -> (Vec<usize>, usize) {
    let (mut offsets, mut end, mut align) = (Vec::new(), 0_usize, 1);
    for parameter in parameters {
        let size = match parameter.kind {
            ParameterType::Pointer(..) | ParameterType::Operand(_) => 8,
            ParameterType::Word | ParameterType::Float => 4,
        };
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
            check(declared, kernel).unwrap_or_else(|cause| panic!("{} {cause}", kernel.name()));
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
            // A convolution's operands are bf16 or f32.
            let operands = parameters.iter().any(|one| matches!(one.kind, ParameterType::Operand(_)));
            let (template, instance) = if operands {
                ("template <class E> ", format!("{name}<bf16>"))
            } else {
                ("", name.to_string())
            };
            text += &format!("\n{template}struct {name} {{\n");
            let same_type = parameters.chunk_by(|one, next| c_type(one.kind) == c_type(next.kind));
            for some in same_type.flat_map(|same| same.chunks(10)) {
                let (ty, star) = c_type(some[0].kind);
                let names: Vec<String> = some.iter().map(|one| format!("{star}{}", one.name)).collect();
                text += &match some {
                    [one] => format!("    {ty}{star} {};\n", one.name),
                    _ => format!("    {ty} {};\n", names.join(", ")),
                };
            }
            // Fields are of 4 or 8 bytes: with the end and the last one's place no other can be elsewhere.
            let (Some(last), Some(offset)) = (parameters.last(), offsets.last()) else { continue };
            text += &format!(
                "}};\nstatic_assert(sizeof({instance}) == {size} && __builtin_offsetof({instance}, {}) == {offset}, \"\");\n",
                last.name
            );
            let short = name.trim_end_matches("Args");
            for (dtype, part) in [("bf16", "Bf16"), ("float", "F32")].into_iter().filter(|_| operands) {
                text += &format!("typedef {name}<{dtype}> {short}{part}Args;\n");
            }
        }
        text
    }

    /// The type, and what is before the name.
    fn c_type(kind: ParameterType) -> (String, &'static str) {
        let (usage, dtype) = match kind {
            ParameterType::Word => return ("u32".into(), ""),
            ParameterType::Float => return ("float".into(), ""),
            ParameterType::Operand(usage) => (usage, "E"),
            ParameterType::Pointer(usage, Dtype::F32) => (usage, "float"),
            ParameterType::Pointer(usage, Dtype::Bf16) => (usage, "bf16"),
            ParameterType::Pointer(usage, Dtype::F64) => (usage, "double"),
            ParameterType::Pointer(usage, Dtype::U32) => (usage, "u32"),
            ParameterType::Pointer(usage, Dtype::U8) => (usage, "u8"),
            ParameterType::Pointer(usage, Dtype::Run) => (usage, "Run"),
            ParameterType::Pointer(usage, Dtype::Segment) => (usage, "Segment"),
        };
        (if usage == Use::Read { format!("const {dtype}") } else { dtype.into() }, "*")
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
        assert_eq!(check(&[".param .align 8 .b8 a[24]"], Kernel::Copy), Ok(()));
        assert!(check(&[".param .align 8 .b8 a[32]"], Kernel::Copy).is_err());
        assert!(check(&[".param .u64 a", ".param .u64 b", ".param .u32 c"], Kernel::Copy).is_err());
    }
}
