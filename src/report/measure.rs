//! Measuring a model: clean test images, and the same images with a trigger.

use super::metrics::{Figures, accuracy, attack_figures, predictions};
use crate::backdoor::{LabelMode, PoisonFile, Trigger, triggered_test};
use crate::data::ImageSet;
use crate::engine::Engine;
use crate::error::Result;

/// What a model is measured on.
#[derive(Clone, Debug)]
pub struct TestBed {
    clean: ImageSet,
    triggered: Option<(ImageSet, LabelMode)>,
}

impl TestBed {
    /// Accuracy on `images` alone.
    pub fn new(images: &ImageSet) -> Self {
        Self { clean: images.clone(), triggered: None }
    }

    /// Accuracy on `images`, and attack success on all of them with `trigger`.
    pub fn with_trigger(images: &ImageSet, trigger: &Trigger, label: LabelMode) -> Result<Self> {
        let triggered = triggered_test(images, trigger)?;
        Ok(Self { triggered: Some((triggered, label)), ..Self::new(images) })
    }

    /// As [`TestBed::with_trigger`], with the trigger of `truth`.
    pub fn with_poison(images: &ImageSet, truth: &PoisonFile) -> Result<Self> {
        Self::with_trigger(images, &truth.trigger(images)?, truth.label)
    }

    /// ACC, and with a trigger ASR, inclusive ASR and R-ACC. Leaves its own images attached.
    ///
    /// # Errors
    /// A logit that is not finite; device errors.
    pub fn measure(&self, engine: &mut Engine) -> Result<Figures> {
        let answers = predict(engine, &self.clean)?;
        let mut figures = match &self.triggered {
            None => Figures::default(),
            Some((images, label)) => {
                let classes = images.classes.len();
                attack_figures(&predict(engine, images)?, &images.labels, *label, classes)
            }
        };
        figures.acc = accuracy(&answers, &self.clean.labels);
        Ok(figures)
    }

    /// Bytes of images it holds beside those it was made from.
    pub fn bytes(&self) -> usize {
        self.triggered.as_ref().map_or(0, |(images, _)| images.pixels.len())
    }
}

/// Logits of all `images`, one row of classes each.
pub fn logits(engine: &mut Engine, images: &ImageSet) -> Result<Vec<f32>> {
    engine.attach(images)?;
    let all: Vec<u32> = (0..images.len() as u32).collect();
    engine.logits(&all)
}

fn predict(engine: &mut Engine, images: &ImageSet) -> Result<Vec<u32>> {
    let logits = logits(engine, images)?;
    predictions(&logits, engine.graph().classes())
}
