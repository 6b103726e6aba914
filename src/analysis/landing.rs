//! Predicted labels against the labels that images had (the paper's Fig. 1 and 4).

use serde::{Deserialize, Serialize};

/// How many images of each label get each label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Landing {
    /// By the label before, then by the label after.
    rows: Vec<Vec<u64>>,
}

impl Landing {
    /// Counts pairs of labels before and after, out of `classes`.
    pub fn new(classes: usize, before: &[u32], after: &[u32]) -> Self {
        let mut rows = vec![vec![0; classes]; classes];
        for (&before, &after) in before.iter().zip(after) {
            rows[before as usize][after as usize] += 1;
        }
        Self { rows }
    }

    /// Labels.
    pub fn classes(&self) -> usize {
        self.rows.len()
    }

    /// Images that had the label of the row and have the label of the place.
    pub fn rows(&self) -> &[Vec<u64>] {
        &self.rows
    }

    /// Images.
    pub fn images(&self) -> u64 {
        self.rows.iter().flatten().sum()
    }

    /// Out of the images of other labels, the share that lands on `label`; none where there is none.
    pub fn onto(&self, label: usize) -> Option<f64> {
        let others = || self.rows.iter().enumerate().filter(|(before, _)| *before != label);
        let all: u64 = others().map(|(_, row)| row.iter().sum::<u64>()).sum();
        let landed: u64 = others().map(|(_, row)| row[label]).sum();
        (all > 0).then(|| landed as f64 / all as f64)
    }

    /// Images by the label after, in per cent.
    pub fn histogram(&self) -> Vec<f64> {
        let landed = |label: usize| self.rows.iter().map(|row| row[label]).sum::<u64>();
        (0..self.classes()).map(|label| 100.0 * landed(label) as f64 / self.images().max(1) as f64).collect()
    }

    /// The share of all images that lands `by` labels further round.
    pub fn further(&self, by: usize) -> f64 {
        let classes = self.classes();
        let landed: u64 =
            self.rows.iter().enumerate().map(|(before, row)| row[(before + by) % classes]).sum();
        landed as f64 / self.images().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_those_that_could_land_there() {
        let landing = Landing::new(3, &[0, 0, 1, 1, 2, 2], &[0, 1, 0, 1, 0, 0]);
        assert_eq!(landing.rows(), [[1, 1, 0], [1, 1, 0], [2, 0, 0]]);
        assert_eq!((landing.onto(0), landing.onto(1), landing.onto(2)), (Some(0.75), Some(0.25), Some(0.0)));
        assert_eq!(landing.further(1), 3.0 / 6.0);
        assert_eq!(landing.further(2), 1.0 / 6.0);
        assert_eq!(landing.histogram(), [4, 2, 0].map(|images| 100.0 * f64::from(images) / 6.0));
        assert_eq!(Landing::new(2, &[1, 1], &[0, 1]).onto(1), None);
    }
}
