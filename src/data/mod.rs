//! Images in memory and the formats they come from.

mod image_set;

pub use image_set::ImageSet;
