//! The scalars of a run as the kernels read them.

use bytemuck::{Pod, Zeroable};

use crate::device::StepParams;

/// `Run` in kernels/common.cuh.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct RunScalars {
    learning_rate: f32,
    momentum: f32,
    weight_decay: f32,
    adam_rate: f32,
    adam_correction: f32,
    betas: [f32; 2],
    average_decay: f32,
    distill_weight: f32,
    temperature: f32,
    patches: f32,
    nesterov: u32,
    random_start: u32,
    clamp: u32,
    epoch: u32,
    pub seed: [u32; 2],
}

impl RunScalars {
    /// Words they take.
    pub const WORDS: usize = size_of::<Self>() / size_of::<u32>();

    /// Those of these parameters.
    pub fn new(params: &StepParams) -> Self {
        let (adam_rate, adam_correction) = params.adam_scales();
        Self {
            learning_rate: params.learning_rate,
            momentum: params.momentum,
            weight_decay: params.weight_decay,
            adam_rate: adam_rate as f32,
            adam_correction: adam_correction as f32,
            betas: [params.betas.0, params.betas.1],
            average_decay: params.average_decay,
            distill_weight: params.distill_weight,
            temperature: params.temperature,
            patches: params.erasing_probability,
            nesterov: params.nesterov.into(),
            random_start: params.random_start.into(),
            clamp: params.clamp.into(),
            epoch: params.epoch,
            seed: [params.seed as u32, (params.seed >> 32) as u32],
        }
    }
}
