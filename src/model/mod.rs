//! What a network is: its tensors' names, shapes and places, its weights, and the files they live in.

mod architecture;
mod check;
mod checkpoint;
pub mod container;
mod file;
mod generator;
mod infer;
mod layout;
mod network;
mod weights;

pub use architecture::{Architecture, Kind, Role, TensorSpec};
pub use file::{load, save};
pub use generator::{Generator, Role as GeneratorRole};
pub use infer::infer;
pub use layout::{Layout, Slot};
pub use weights::Weights;
