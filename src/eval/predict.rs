//! Logits, predictions and cosine scores of whole image sets, with running statistics and without augmentation.

use crate::data::ImageSet;
use crate::engine::{Engine, Source, StepParams};
use crate::error::{Error, Result};

/// Logits of all `images`, one row of classes each.
pub fn logits(engine: &mut Engine, images: &ImageSet) -> Result<Vec<f32>> {
    logits_with_progress(engine, images, &mut |_| Ok(()))
}

/// As [`logits`]. `progress` gets the number of images that are done; its error ends the work.
pub fn logits_with_progress(
    engine: &mut Engine,
    images: &ImageSet,
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<f32>> {
    engine.attach(images)?;
    let all: Vec<u32> = (0..images.len() as u32).collect();
    let classes = engine.graph().classes();
    let mut logits = vec![0.0; images.len() * classes];
    engine.infer(Source::Images, &all, &StepParams::default(), |rows| {
        rows.logits(&mut logits[rows.first * classes..])?;
        progress(rows.first + rows.count)
    })?;
    Ok(logits)
}

/// The classes that the network gives to all `images`.
pub fn predict(engine: &mut Engine, images: &ImageSet) -> Result<Vec<u32>> {
    predictions(&logits(engine, images)?, engine.graph().classes())
}

/// The class of the largest logit for each row of `classes` logits (the first of equals).
///
/// # Errors
/// A logit that is not finite, with its image.
pub fn predictions(logits: &[f32], classes: usize) -> Result<Vec<u32>> {
    let rows = logits.chunks_exact(classes.max(1));
    rows.enumerate()
        .map(|(image, row)| {
            if let Some(class) = row.iter().position(|logit| !logit.is_finite()) {
                let logit = row[class];
                return Err(Error::run(format!("logit of image {image} for class {class} is {logit}")));
            }
            let larger = |best, class| if row[class] > row[best] { class } else { best };
            Ok((0..row.len()).fold(0, larger) as u32)
        })
        .collect()
}

/// How a network compares with another one on every image.
#[derive(Debug, Default)]
pub struct Agreement {
    /// Cosine between the logits of the two networks (PBE, Eq. 15).
    pub cosine: Vec<f32>,
    /// The classes that the network gives.
    pub predictions: Vec<u32>,
}

/// Compares `engine` with the network whose logits of all `images` are `reference`. `progress` as in
/// [`logits_with_progress`].
pub fn agreement(
    engine: &mut Engine,
    images: &ImageSet,
    reference: &[f32],
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Agreement> {
    engine.attach(images)?;
    let all: Vec<u32> = (0..images.len() as u32).collect();
    let classes = engine.graph().classes();
    let mut cosine = vec![0.0; images.len()];
    let mut logits = vec![0.0; images.len() * classes];
    engine.score(&all, reference, |rows| {
        rows.scores(&mut cosine[rows.first..])?;
        rows.logits(&mut logits[rows.first * classes..])?;
        progress(rows.first + rows.count)
    })?;
    Ok(Agreement { cosine, predictions: predictions(&logits, classes)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_logit_wins_and_the_first_of_equals() {
        let logits = [1.0, 3.0, 2.0, 5.0, 5.0, -1.0, -3.0, -2.0, -1.0];
        assert_eq!(predictions(&logits, 3).unwrap(), [1, 0, 2]);
        let message = predictions(&[0.0, 1.0, 2.0, f32::NAN], 2).unwrap_err().to_string();
        assert_eq!(message, "logit of image 1 for class 1 is NaN");
    }
}
