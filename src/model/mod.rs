//! What a network is: its tensors' names, shapes and places, its weights, and the files they live in.

mod architecture;
mod check;
mod checkpoint;
pub mod container;
mod disguise;
mod file;
mod generator;
mod infer;
mod layout;
mod module;
mod network;
mod safetensors_file;
mod sets;
mod weights;

pub use architecture::Architecture;
pub use checkpoint::{Entry, Object};
pub use file::{Origin, load, load_bytes, load_set, save, to_bytes};
pub use generator::{Generator, GeneratorRole};
pub use infer::infer;
pub use layout::{Layout, Slot, TensorRole, TensorSpec};
pub use network::NetworkKind;
pub use weights::Weights;
