//! Confusion matrices of an attack: the label before against the label after (the paper's Fig. 1 and 4).

use serde::{Deserialize, Serialize};

/// How many images of each label get each label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConfusionMatrix {
    /// By the label before, then by the label after.
    rows: Vec<Vec<u64>>,
}

impl ConfusionMatrix {
    /// Counts pairs of labels before and after, out of `classes`.
    pub fn new(classes: usize, before: &[u32], after: &[u32]) -> Self {
        let mut rows = vec![vec![0; classes]; classes];
        for (&before, &after) in before.iter().zip(after) {
            rows[before as usize][after as usize] += 1;
        }
        Self { rows }
    }

    /// Number of labels.
    pub fn classes(&self) -> usize {
        self.rows.len()
    }

    /// Counts: a row for each label before, in it a column for each label after.
    pub fn rows(&self) -> &[Vec<u64>] {
        &self.rows
    }

    /// Number of images.
    pub fn images(&self) -> u64 {
        self.rows.iter().flatten().sum()
    }

    /// Share of the images of other labels that end on `label`; none if there are no such images.
    pub fn share_onto(&self, label: usize) -> Option<f64> {
        let others = || self.rows.iter().enumerate().filter(|(before, _)| *before != label);
        let all: u64 = others().map(|(_, row)| row.iter().sum::<u64>()).sum();
        let moved: u64 = others().map(|(_, row)| row[label]).sum();
        (all > 0).then(|| moved as f64 / all as f64)
    }

    /// Images by the label after, in per cent.
    pub fn histogram(&self) -> Vec<f64> {
        let column = |label: usize| self.rows.iter().map(|row| row[label]).sum::<u64>();
        (0..self.classes()).map(|label| 100.0 * column(label) as f64 / self.images().max(1) as f64).collect()
    }

    /// Share of all images whose label moves `by` places on, counted in a circle.
    pub fn share_shifted(&self, by: usize) -> f64 {
        let classes = self.classes();
        let moved: u64 = self.rows.iter().enumerate().map(|(before, row)| row[(before + by) % classes]).sum();
        moved as f64 / self.images().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_those_that_could_land_there() {
        let confusion = ConfusionMatrix::new(3, &[0, 0, 1, 1, 2, 2], &[0, 1, 0, 1, 0, 0]);
        assert_eq!(confusion.rows(), [[1, 1, 0], [1, 1, 0], [2, 0, 0]]);
        assert_eq!(
            (confusion.share_onto(0), confusion.share_onto(1), confusion.share_onto(2)),
            (Some(0.75), Some(0.25), Some(0.0))
        );
        assert_eq!(confusion.share_shifted(1), 3.0 / 6.0);
        assert_eq!(confusion.share_shifted(2), 1.0 / 6.0);
        assert_eq!(confusion.histogram(), [4, 2, 0].map(|images| 100.0 * f64::from(images) / 6.0));
        assert_eq!(ConfusionMatrix::new(2, &[1, 1], &[0, 1]).share_onto(1), None);
    }
}
