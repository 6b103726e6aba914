//! The staging rows: inputs and outputs of a run, one row for each image.

use crate::device::{Region, Span};

/// The columns of the staging region; row r of a column is at `offset + r * len`.
#[derive(Clone, Debug)]
pub struct Staging {
    /// Rows.
    pub rows: usize,
    /// Index of the image in the attached set (u32).
    pub indices: Span,
    /// Label (u32).
    pub labels: Span,
    /// ε of the attack.
    pub epsilon: Span,
    /// α of the attack.
    pub alpha: Span,
    /// Logits to distil from, or to compare with.
    pub teacher: Span,
    /// Loss of the image.
    pub loss: Span,
    /// Cosine score.
    pub score: Span,
    /// Features.
    pub features: Span,
    /// Logits.
    pub logits: Span,
    /// Adversarial image, or one that the caller made, f32 in [0, 1]; of length 0 if there is neither.
    pub adversarial: Span,
    /// Gradient of the loss at it; of length 0 if it isn't needed.
    pub input_gradient: Span,
    /// Activation gradients, one column for each of [`Graph::activation_layers`](super::graph::Graph::activation_layers);
    /// none if they aren't needed.
    pub activation_gradients: Vec<Span>,
    /// Feature maps, one column for each of [`Graph::feature_maps`](super::graph::Graph::feature_maps), and gradients at
    /// them; none if they aren't needed.
    pub feature_maps: [Vec<Span>; 2],
    /// Elements altogether.
    pub len: usize,
}

impl Staging {
    /// Lays out `rows` rows.
    pub fn new(
        rows: usize,
        classes: usize,
        features: usize,
        adversarial: usize,
        input_gradient: usize,
        activation_gradients: &[usize],
        feature_maps: &[usize],
    ) -> Self {
        let mut end = 0;
        let mut column = |len: usize| {
            let span = Span { region: Region::Staging, offset: end, len };
            end += (rows * len).next_multiple_of(16);
            span
        };
        Self {
            rows,
            indices: column(1),
            labels: column(1),
            epsilon: column(1),
            alpha: column(1),
            teacher: column(classes),
            loss: column(1),
            score: column(1),
            features: column(features),
            logits: column(classes),
            adversarial: column(adversarial),
            input_gradient: column(input_gradient),
            activation_gradients: activation_gradients.iter().map(|&channels| column(channels)).collect(),
            feature_maps: [(); 2].map(|()| feature_maps.iter().map(|&len| column(len)).collect()),
            len: end,
        }
    }
}
