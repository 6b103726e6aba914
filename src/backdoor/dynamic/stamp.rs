//! The trained trigger on images of a set. It is computed on the CPU whatever device a run is on, so that
//! a poisoned set is the same everywhere.

use std::sync::Arc;

use super::Dynamic;
use super::compose::compose;
use crate::data::ImageSet;
use crate::engine::{CpuDevice, ImageEngine, ImageOptions, Source, StepParams};
use crate::error::Result;
use crate::model::GeneratorRole;

/// Images that are in the making at a time.
const CHUNK: usize = 256;

impl Dynamic {
    /// Puts the trigger made for image `source` on image `target`, for each (target, source) of `pairs`;
    /// sources are the images as they were before. Uses as many threads as loading images does.
    ///
    /// # Errors
    /// Images of another size; the device's.
    pub fn stamp(&self, images: &mut ImageSet, pairs: &[(u32, u32)]) -> Result<()> {
        if pairs.is_empty() {
            return Ok(());
        }
        let device = CpuDevice::new(Some(rayon::current_num_threads()))?;
        let open = |role, weights: &[f32]| -> Result<ImageEngine> {
            let graph = self.graph(role)?;
            let mut engine = ImageEngine::open(&device, &graph, weights, &ImageOptions::default())?;
            engine.attach(images)?;
            Ok(engine)
        };
        let mut generators =
            [open(GeneratorRole::Pattern, &self.pattern)?, open(GeneratorRole::Mask, &self.mask)?];
        let (len, mask_len) = (images.image_len(), images.height * images.width);
        let (mut patterns, mut masks) = (vec![0.0; CHUNK * len], vec![0.0; CHUNK * mask_len]);
        let (mut image, mut output) = (vec![0.0; len], vec![0.0; len]);
        let mut stamped = images.pixels.as_ref().clone();
        for pairs in pairs.chunks(CHUNK) {
            let sources: Vec<u32> = pairs.iter().map(|&(_, source)| source).collect();
            let rows = [&mut patterns[..pairs.len() * len], &mut masks[..pairs.len() * mask_len]];
            for (engine, rows) in generators.iter_mut().zip(rows) {
                engine.generate(Source::Images, &sources, &StepParams::default(), rows)?;
            }
            for (row, &(target, _)) in pairs.iter().enumerate() {
                let bytes = images.image(target as usize);
                image.iter_mut().zip(bytes).for_each(|(value, &byte)| *value = f32::from(byte) / 255.0);
                let pattern = &patterns[row * len..(row + 1) * len];
                compose(&image, pattern, &masks[row * mask_len..(row + 1) * mask_len], &mut output);
                let bytes = &mut stamped[target as usize * len..(target as usize + 1) * len];
                bytes.iter_mut().zip(&output).for_each(|(byte, &value)| *byte = level(value));
            }
        }
        images.pixels = Arc::new(stamped);
        Ok(())
    }
}

/// The nearest of 256 levels.
fn level(value: f32) -> u8 {
    (value * 255.0).round_ties_even().clamp(0.0, 255.0) as u8
}
