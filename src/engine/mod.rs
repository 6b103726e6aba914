//! The engine floor: a network is a [`graph::Graph`], lowered by [`lower`] to flat programs over one
//! arena, run through [`Engine`].

pub mod arena;
mod backward;
pub mod graph;
pub mod lower;
mod plan;
pub mod programs;
mod run;
pub mod shared;
pub mod staging;

pub use plan::Plan;
pub use programs::Source;
pub use run::{Attacked, Budget, Engine, EngineOptions, Rows};
