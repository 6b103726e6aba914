//! Step 3: which images of a ranking the next round trains on.

use super::config::Select;
use crate::eval::ranked;

/// A ranking, and what is known of its images.
#[derive(Clone, Copy, Debug)]
pub struct Ranking<'a> {
    /// Of every image; higher is more likely clean.
    pub scores: &'a [f32],
    /// The label that the purified model gives each.
    pub predictions: &'a [u32],
    /// The label each came with.
    pub labels: &'a [u32],
    /// The images that the round was trained on.
    pub trained_on: &'a [u32],
    /// Classes of the network.
    pub classes: usize,
}

impl Ranking<'_> {
    /// The images that `rule` selects, in ascending order. A purified model that agrees with fewer images than a
    /// `batch` has forgotten its task and is no judge: then its predictions don't count.
    pub fn select(&self, rule: &Select, batch: usize) -> Vec<u32> {
        let best = self.best(rule.share);
        if !rule.label_agreement {
            return best;
        }
        let agreed = self.agreed(rule.share);
        if agreed.len() >= batch.min(best.len()) { agreed } else { best }
    }

    /// The best `share` of the ranking (at least one image), in ascending order. Equal scores rank by index.
    fn best(&self, share: f64) -> Vec<u32> {
        let mut order = ranked(self.scores);
        order.truncate(self.count(share));
        order.sort_unstable();
        order
    }

    /// Those of the best `share` whose label the purified model gives, with two exceptions that keep a class from
    /// being lost. A class that the model has forgotten keeps its images. A class that it knows also gets its
    /// best-ranked images from below the share, as long as fewer than half of its agreeing images are selected: the
    /// logits of the target's images change the most when the backdoor goes, and can all rank below the rest.
    ///
    /// A class is known where the purified model gives it to half of the images that should have it. A label may
    /// have poisoned images besides, so no more than an equal share of all images is expected for it. A class that
    /// isn't known is forgotten if `trained_on` had less than a tenth of its share of it.
    fn agreed(&self, share: f64) -> Vec<u32> {
        let agrees = |&i: &usize| self.predictions[i] == self.labels[i];
        let label = |i: usize| self.labels[i] as usize;
        let predicted = self.by_class(self.predictions.iter().map(|&class| class as usize));
        let labelled = self.by_class((0..self.labels.len()).map(label));
        let trained = self.by_class(self.trained_on.iter().map(|&i| label(i as usize)));
        let agreeing = self.by_class((0..self.labels.len()).filter(agrees).map(label));
        let expected = |class: usize| labelled[class].min(self.labels.len() / self.classes);
        let known = |class: usize| 2 * predicted[class] >= expected(class);
        let forgotten = |class: usize| {
            !known(class) && 10 * trained[class] * self.labels.len() < expected(class) * self.trained_on.len()
        };
        let count = self.count(share);
        let (mut selected, mut kept) = (vec![], vec![0; self.classes]);
        for (rank, index) in ranked(self.scores).into_iter().enumerate() {
            let (i, class) = (index as usize, label(index as usize));
            let keeps = match rank < count {
                true => agrees(&i) || forgotten(class),
                false => agrees(&i) && known(class) && 2 * kept[class] < agreeing[class],
            };
            if keeps {
                kept[class] += 1;
                selected.push(index);
            }
        }
        selected.sort_unstable();
        selected
    }

    fn count(&self, share: f64) -> usize {
        ((share * self.scores.len() as f64).round() as usize).max(1)
    }

    fn by_class(&self, of: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        of.for_each(|class| counts[class] += 1);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Ranking =
        Ranking { scores: &[], predictions: &[], labels: &[], trained_on: &[], classes: 2 };

    #[test]
    fn selects_the_most_alike() {
        let ranking = Ranking { scores: &[0.1, 0.9, 0.5, 0.9], ..PLAIN };
        assert_eq!(ranking.best(0.5), vec![1, 3]);
        assert_eq!(ranking.best(0.01), vec![1]);
    }

    /// The infected model's adversarial examples all landed on its target, so no image of that class came into the
    /// first set (Blend of another program, CIFAR-10): the purified model had forgotten the class, agreed with 6 of
    /// its images, and ended with a recall of 40 % there, 85 % before.
    #[test]
    fn a_forgotten_class_keeps_its_images() {
        let keep = |trained_on: &[u32], predictions: &[u32]| {
            let scores = [0.9, 0.9, 0.1, 0.1, 0.9, 0.9, 0.1, 0.1];
            Ranking { scores: &scores, predictions, labels: &[0, 0, 0, 0, 1, 1, 1, 1], trained_on, ..PLAIN }
                .agreed(0.5)
        };
        let (once, twice) = ([1, 1, 1, 1, 1, 0, 1, 1], [1, 1, 1, 0, 1, 0, 1, 1]);
        assert_eq!(keep(&[4, 5], &once), [0, 1, 4, 6], "neither trained on class 0 nor predicting it");
        assert_eq!(keep(&[0, 4], &once), [4, 6], "trained on");
        assert_eq!(keep(&[4, 5], &twice), [3, 4, 6], "predicts it often enough, for other images");
    }

    /// Most images of the target's label are poisoned there (GTSRB, Dynamic: 3,921 of 6,171), and a purified model
    /// that gives them their true label has forgotten nothing: asked label by label whether it agrees with most,
    /// 4 % of the selection were poisoned, and ASR 50 after 1.4.
    #[test]
    fn a_label_that_is_mostly_poison_is_not_forgotten() {
        let labels = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let predictions = [0, 0, 0, 1, 1, 1, 1, 1, 1, 1];
        let scores = [0.9, 0.1, 0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9];
        let ranking = Ranking {
            scores: &scores,
            predictions: &predictions,
            labels: &labels,
            trained_on: &[9],
            ..PLAIN
        };
        assert_eq!(ranking.agreed(0.4), [0, 1, 9]);
    }

    /// SIG, GTSRB: 4 of the target class's 1,625 clean images were selected, all other images of the class ranking
    /// below the poisoned ones; the class was lost in the last round, 92.2 after 97.4.
    #[test]
    fn a_known_class_at_the_end_of_the_ranking_keeps_the_best_half_of_its_images() {
        let labels = [0, 0, 0, 0, 1, 1, 1, 1, 0, 0];
        let predictions = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1];
        let scores = [0.1, 0.3, 0.2, 0.4, 0.9, 0.9, 0.9, 0.9, 0.8, 0.8];
        let ranking = Ranking {
            scores: &scores,
            predictions: &predictions,
            labels: &labels,
            trained_on: &[0, 4],
            ..PLAIN
        };
        // The last two are poisoned.
        assert_eq!(ranking.agreed(0.6), [1, 3, 4, 5, 6, 7]);
    }
}
