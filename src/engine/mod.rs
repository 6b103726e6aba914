//! The engine floor: a network is a [`graph::Graph`], lowered by [`lower`] to flat programs over one
//! arena, run through [`Engine`].

pub mod arena;
mod backward;
mod engine_plan;
mod gradients;
pub mod graph;
mod image_engine;
pub mod lower;
pub mod profile;
pub mod programs;
mod run;
mod runner;
pub mod shared;
pub mod staging;

pub use crate::device::cpu::CpuDevice;
pub use crate::device::{Augment, Device, Norm, Precision, StepParams, is_processor};
pub use engine_plan::{EngineOptions, EnginePlan};
pub use image_engine::{ImageEngine, ImageOptions, ImagePlan};
pub use programs::{Source, Statistics};
pub use run::{AttackBatch, Budget, Engine, Rows};
