//! Images in memory and the formats they come from.

mod image_set;
pub mod normalisation;

pub use image_set::ImageSet;
pub use normalisation::Normalisation;
