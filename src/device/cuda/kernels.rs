//! The embedded kernels: their modules loaded, and what parameters each takes.

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction};
use cudarc::nvrtc::Ptx;

use super::availability::describe;
use crate::error::{Error, Result};

/// kernels/ptx, as `scripts/build_ptx.sh` made it.
const MODULES: [(&str, &str); 14] = [
    ("add", include_str!("../../../kernels/ptx/add.ptx")),
    ("augment", include_str!("../../../kernels/ptx/augment.ptx")),
    ("classifier", include_str!("../../../kernels/ptx/classifier.ptx")),
    ("conv", include_str!("../../../kernels/ptx/conv.ptx")),
    ("conv_bf16", include_str!("../../../kernels/ptx/conv_bf16.ptx")),
    ("conv_operands", include_str!("../../../kernels/ptx/conv_operands.ptx")),
    ("conv_wgrad_bf16", include_str!("../../../kernels/ptx/conv_wgrad_bf16.ptx")),
    ("generator", include_str!("../../../kernels/ptx/generator.ptx")),
    ("linear", include_str!("../../../kernels/ptx/linear.ptx")),
    ("loss", include_str!("../../../kernels/ptx/loss.ptx")),
    ("norm", include_str!("../../../kernels/ptx/norm.ptx")),
    ("optimizer", include_str!("../../../kernels/ptx/optimizer.ptx")),
    ("pgd", include_str!("../../../kernels/ptx/pgd.ptx")),
    ("pooling", include_str!("../../../kernels/ptx/pooling.ptx")),
];

/// The type of a kernel's parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An address, 64 bits.
    Pointer,
    /// A 32-bit integer.
    Word,
    /// An f32.
    Float,
}

/// A function on the device and what it takes: a launch is checked against it.
pub(super) struct Kernel {
    pub function: CudaFunction,
    pub parameters: Vec<Kind>,
}

/// Every kernel, by name.
pub(super) type Kernels = HashMap<&'static str, Kernel>;

/// Hands the modules to the driver, which compiles them for the device.
///
/// # Errors
/// The driver refuses a module.
pub(super) fn load(context: &Arc<CudaContext>) -> Result<Kernels> {
    let mut kernels = Kernels::new();
    for (name, text) in MODULES {
        let fail = |what: &str, error| Error::run(format!("CUDA {what}: {}", describe(error)));
        let module = context.load_module(Ptx::from_src(text)).map_err(|error| fail(name, error))?;
        for (entry, parameters) in entries(text) {
            let parameters =
                parameters.ok_or_else(|| Error::run(format!("CUDA kernel {entry}: parameters")))?;
            let function = module.load_function(entry).map_err(|error| fail(entry, error))?;
            kernels.insert(entry, Kernel { function, parameters });
        }
    }
    Ok(kernels)
}

/// The kernels that a module's text declares; no parameters where one has a type no launch can pass.
fn entries(text: &'static str) -> impl Iterator<Item = (&'static str, Option<Vec<Kind>>)> {
    text.split(".visible .entry ").skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once('(')?;
        let (list, _) = rest.split_once(')')?;
        Some((name.trim(), list.split(',').map(kind).collect()))
    })
}

/// `.param .u64 name_param_0` and the like.
fn kind(parameter: &str) -> Option<Kind> {
    match parameter.split_whitespace().nth(1)? {
        ".u64" => Some(Kind::Pointer),
        ".u32" => Some(Kind::Word),
        ".f32" => Some(Kind::Float),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_declares_parameters_a_launch_can_pass() {
        let all: Vec<_> = MODULES.iter().flat_map(|(_, text)| entries(text)).collect();
        assert_eq!(all.len(), 53);
        for (name, parameters) in all {
            assert!(parameters.is_some_and(|list| !list.is_empty()), "{name}");
        }
    }

    #[test]
    fn parameters_are_read_in_order() {
        let mut kernels = MODULES.iter().flat_map(|(_, text)| entries(text));
        let Some((_, Some(list))) = kernels.find(|(name, _)| *name == "norm_affine") else {
            panic!("no norm_affine")
        };
        use Kind::{Float, Pointer, Word};
        let pointers = [Pointer; 6];
        assert_eq!(list, [&pointers[..], &[Word, Float]].concat());
    }
}
