//! The scalars of a run as the kernels read them.

use bytemuck::{Pod, Zeroable};

use crate::device::Controls;

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
    seed: [u32; 2],
}

impl RunScalars {
    /// Words they take.
    pub const WORDS: usize = size_of::<Self>() / size_of::<u32>();

    /// Those of these controls.
    pub fn new(controls: &Controls) -> Self {
        let (adam_rate, adam_correction) = controls.adam_scales();
        Self {
            learning_rate: controls.learning_rate,
            momentum: controls.momentum,
            weight_decay: controls.weight_decay,
            adam_rate: adam_rate as f32,
            adam_correction: adam_correction as f32,
            betas: [controls.betas.0, controls.betas.1],
            average_decay: controls.average_decay,
            distill_weight: controls.distill_weight,
            temperature: controls.temperature,
            patches: controls.patches,
            nesterov: controls.nesterov.into(),
            random_start: controls.random_start.into(),
            clamp: controls.clamp.into(),
            epoch: controls.epoch,
            seed: [controls.seed as u32, (controls.seed >> 32) as u32],
        }
    }
}
