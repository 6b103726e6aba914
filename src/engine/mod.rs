//! The engine floor: a network is a [`graph::Graph`], lowered by [`lower`] to flat programs over one
//! arena, run through [`Engine`].

pub mod arena;
mod backward;
pub mod graph;
mod image_engine;
pub mod lower;
mod plan;
pub mod profile;
pub mod programs;
mod run;
mod runner;
pub mod shared;
pub mod staging;

pub use image_engine::{ImageEngine, ImageOptions, ImagePlan};
pub use plan::Plan;
pub use programs::Source;
pub use run::{AttackBatch, Budget, Engine, EngineOptions, Rows};
