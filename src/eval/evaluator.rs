//! Measures a model on clean test images, and on the same images with a trigger.

use super::metrics::{Metrics, accuracy, attack_metrics};
use super::predict::predict;
use crate::data::ImageSet;
use crate::digest::Digest;
use crate::engine::Engine;
use crate::error::Result;

/// What a model is measured on.
#[derive(Clone, Debug)]
pub struct Evaluator {
    clean: ImageSet,
    /// The images with the trigger under their true labels, and the label that the attacker wants for each.
    triggered: Option<(ImageSet, Vec<u32>)>,
}

impl Evaluator {
    /// Accuracy on `images` alone.
    pub fn new(images: &ImageSet) -> Self {
        Self { clean: images.clone(), triggered: None }
    }

    /// Accuracy on `images`, and attack success on `triggered`, which the attacker wants to have the labels
    /// `wanted`.
    pub fn with_triggered(images: &ImageSet, triggered: ImageSet, wanted: Vec<u32>) -> Self {
        Self { triggered: Some((triggered, wanted)), ..Self::new(images) }
    }

    /// ACC, and with a trigger ASR, inclusive ASR and R-ACC. Leaves its own images attached.
    ///
    /// # Errors
    /// A logit that is not finite; device errors.
    pub fn measure(&self, engine: &mut Engine) -> Result<Metrics> {
        let acc = accuracy(&predict(engine, &self.clean)?, &self.clean.labels);
        let attack = match &self.triggered {
            None => Metrics::default(),
            Some((images, wanted)) => attack_metrics(&predict(engine, images)?, &images.labels, wanted),
        };
        Ok(Metrics { clean_accuracy: acc, ..attack })
    }

    /// Digests of the images that it measures on, by name.
    pub fn digests(&self) -> Vec<(&'static str, String)> {
        let mut digests = vec![("test_images", self.clean.digest())];
        if let Some((images, wanted)) = &self.triggered {
            let digest = Digest::default().texts(&[images.digest()]).numbers(wanted);
            digests.push(("triggered_images", digest.finish()));
        }
        digests
    }

    /// Bytes of images it holds beside those it was made from.
    pub fn bytes(&self) -> usize {
        self.triggered.as_ref().map_or(0, |(images, _)| images.pixels.len())
    }
}
