//! How far each image's activation gradients are from those of its label (AGPD, ICLR 2025).
//!
//! The gradient of the logit of an image's label at an inner convolution, mean over pixels, says which channels raise
//! it. A clean image's are those of its label; an image that has its label from a trigger has others. No
//! training and no clean model is needed.
//!
//! With `g_l` the gradient of an image at layer l and `r_l` the reference of its label, the deviation is the mean over
//! layers of 1 − cos(`g_l`, `r_l`). The reference is the median of each coordinate over unit vectors, taken five times
//! more over the half that deviates least: it holds where up to some 40 % of the images are poisoned.

use crate::data::ImageSet;
use crate::engine::Engine;
use crate::error::Result;

/// Medians after the first, each over the nearer half.
const TRIMS: usize = 5;
/// A reference is taken from so many images at most.
const REFERENCE_IMAGES: usize = 500;
/// With fewer trusted images of a label, its reference is taken from all of them.
const MIN_TRUSTED: usize = 5;

/// How far each of `images` is from its label's reference: 0 (alike) to 2. `predictions` are the classes that the network
/// gives. A label's reference is taken from those of `trusted` that have it and get it from the model; where there are
/// too few, from all such images. The engine has to be opened with `activation_gradients`. `progress` gets the number of
/// images that are done; its error ends the work.
pub fn activation_deviation(
    engine: &mut Engine,
    images: &ImageSet,
    predictions: &[u32],
    trusted: &[u32],
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<f32>> {
    engine.attach(images)?;
    let mut deviation = vec![0.0; images.len()];
    let mut is_trusted = vec![false; images.len()];
    trusted.iter().for_each(|&index| is_trusted[index as usize] = true);
    let mut done = 0;
    for class in 0..engine.graph().classes() as u32 {
        let members: Vec<u32> =
            (0..images.len() as u32).filter(|&index| images.labels[index as usize] == class).collect();
        let layers = gradients(engine, &members, class, &mut |count| progress(done + count))?;
        done += members.len();
        let answered = |row: &usize| predictions[members[*row] as usize] == class;
        let mut reference: Vec<usize> =
            (0..members.len()).filter(|row| answered(row) && is_trusted[members[*row] as usize]).collect();
        if reference.len() < MIN_TRUSTED {
            reference = (0..members.len()).filter(answered).collect();
        }
        if reference.is_empty() {
            reference = (0..members.len()).collect();
        }
        let own = deviations(&layers, members.len(), &spread(reference, REFERENCE_IMAGES));
        own.iter().zip(&members).for_each(|(own, &index)| deviation[index as usize] = *own);
    }
    Ok(deviation)
}

/// One layer's gradients as unit vectors, a row for each image.
struct LayerGradients {
    channels: usize,
    rows: Vec<f32>,
}

impl LayerGradients {
    fn row(&self, row: usize) -> &[f32] {
        &self.rows[row * self.channels..][..self.channels]
    }
}

/// Gradients of the logit of `class` of the images at `members`, by layer.
fn gradients(
    engine: &mut Engine,
    members: &[u32],
    class: u32,
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<LayerGradients>> {
    let graph = engine.graph();
    let mut layers: Vec<LayerGradients> = graph
        .activation_layers()
        .into_iter()
        .map(|node| graph.nodes[node].channels)
        .map(|channels| LayerGradients { channels, rows: vec![0.0; members.len() * channels] })
        .collect();
    engine.activation_gradients(members, &vec![class; members.len()], |rows| {
        for (number, layer) in layers.iter_mut().enumerate() {
            rows.activation_gradients(number, &mut layer.rows[rows.first * layer.channels..])?;
        }
        progress(rows.first + rows.count)
    })?;
    for layer in &mut layers {
        layer.rows.chunks_exact_mut(layer.channels).for_each(normalise);
    }
    Ok(layers)
}

/// Every image's mean over layers of 1 − cosine to the reference, which the rows `reference` decide.
fn deviations(layers: &[LayerGradients], count: usize, reference: &[usize]) -> Vec<f32> {
    let mut nearest = reference.to_vec();
    let mut deviation = vec![0.0; count];
    for trim in 0..=TRIMS {
        deviation.fill(0.0);
        for layer in layers {
            let reference = median(layer, &nearest);
            for (row, deviation) in deviation.iter_mut().enumerate() {
                let cosine: f32 = layer.row(row).iter().zip(&reference).map(|(a, b)| a * b).sum();
                *deviation += (1.0 - cosine) / layers.len() as f32;
            }
        }
        if trim < TRIMS {
            nearest = reference.to_vec();
            nearest.sort_by(|&a, &b| deviation[a].total_cmp(&deviation[b]));
            nearest.truncate(reference.len().div_ceil(2));
        }
    }
    deviation
}

/// The median of each coordinate over `rows`, as a unit vector.
fn median(layer: &LayerGradients, rows: &[usize]) -> Vec<f32> {
    let mut column = vec![0.0; rows.len()];
    let mut median: Vec<f32> = (0..layer.channels)
        .map(|channel| {
            column.iter_mut().zip(rows).for_each(|(value, &row)| *value = layer.row(row)[channel]);
            let middle = column.len() / 2;
            if column.is_empty() { 0.0 } else { *column.select_nth_unstable_by(middle, f32::total_cmp).1 }
        })
        .collect();
    normalise(&mut median);
    median
}

fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let factor = if length > 0.0 { 1.0 / length } else { 0.0 };
    vector.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
}

/// At most `count` of `list`, evenly spaced.
fn spread(list: Vec<usize>, count: usize) -> Vec<usize> {
    let (len, count) = (list.len(), count.min(list.len()));
    (0..count).map(|at| list[at * len / count]).collect()
}
