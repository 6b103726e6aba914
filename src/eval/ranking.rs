//! How well scores tell clean training images from poisoned ones. All figures are 0 to 1.

/// A point of a precision–recall curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// Clean images that score at least this high, out of all clean images.
    pub recall: f64,
    /// Clean images that score at least this high, out of all images that do.
    pub precision: f64,
}

/// Indices by score, highest first; equal scores by index.
pub fn ranked(scores: &[f32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
    order
}

/// Precision and recall of "clean" at every distinct score, from the highest down.
///
/// Equal scores are one threshold, so the curve doesn't depend on the images' order. Empty where
/// no image is clean.
pub fn precision_recall(scores: &[f32], clean: &[bool]) -> Vec<CurvePoint> {
    let total = clean.iter().filter(|&&clean| clean).count() as f64;
    let order = ranked(scores);
    let (mut hits, mut seen) = (0usize, 0usize);
    let mut curve = Vec::new();
    for tied in order.chunk_by(|&a, &b| scores[a as usize] == scores[b as usize]) {
        seen += tied.len();
        hits += tied.iter().filter(|&&index| clean[index as usize]).count();
        if total > 0.0 {
            curve.push(CurvePoint { recall: hits as f64 / total, precision: hits as f64 / seen as f64 });
        }
    }
    curve
}

/// Average precision of "clean": Σ (Rₙ − Rₙ₋₁)·Pₙ over the thresholds of [`precision_recall`],
/// without interpolation, as scikit-learn computes it. None where no image is clean.
pub fn average_precision(scores: &[f32], clean: &[bool]) -> Option<f64> {
    let curve = precision_recall(scores, clean);
    let before = std::iter::once(0.0).chain(curve.iter().map(|point| point.recall));
    let sum = curve.iter().zip(before).map(|(point, before)| (point.recall - before) * point.precision).sum();
    (!curve.is_empty()).then_some(sum)
}

/// Clean images among `selected`, out of those selected; none where nothing is selected.
pub fn precision(selected: &[u32], clean: &[bool]) -> Option<f64> {
    let hits = selected.iter().filter(|&&index| clean[index as usize]).count();
    (!selected.is_empty()).then(|| hits as f64 / selected.len() as f64)
}

/// [`precision`] of the top `fraction` of the ranking, rounded to whole images.
pub fn top_precision(scores: &[f32], clean: &[bool], fraction: f64) -> Option<f64> {
    let count = (fraction * scores.len() as f64).round() as usize;
    precision(&ranked(scores)[..count.min(scores.len())], clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranking: clean, clean, poison, clean, poison.
    /// Recall 1/3, 2/3, 2/3, 1, 1 at precision 1, 1, 2/3, 3/4, 3/5:
    /// AP = 1/3·1 + 1/3·1 + 0 + 1/3·3/4 + 0 = 11/12.
    #[test]
    fn average_precision_by_hand() {
        let scores = [0.2, 0.9, 0.5, 0.8, 0.4];
        let clean = [false, true, false, true, true];
        let expected = [(1, 1), (2, 2), (2, 3), (3, 4), (3, 5)];
        let curve = precision_recall(&scores, &clean);
        assert_eq!(curve.len(), 5);
        for (point, (hits, seen)) in curve.iter().zip(expected) {
            assert_eq!(point.recall, f64::from(hits) / 3.0);
            assert_eq!(point.precision, f64::from(hits) / f64::from(seen));
        }
        assert!((average_precision(&scores, &clean).unwrap() - 11.0 / 12.0).abs() < 1e-12);
    }

    #[test]
    fn the_best_ranking_scores_one_and_a_constant_score_the_share_of_clean_images() {
        let clean = [true, false, true, true];
        assert_eq!(average_precision(&[0.9, 0.1, 0.8, 0.7], &clean), Some(1.0));
        assert_eq!(average_precision(&[0.5; 4], &clean), Some(0.75));
        assert_eq!(average_precision(&[0.5, 0.4], &[false, false]), None);
        assert_eq!(average_precision(&[], &[]), None);
    }

    /// Two tied images, one clean: the order in which they are listed must not matter.
    #[test]
    fn ties_do_not_depend_on_the_order() {
        let one = average_precision(&[0.9, 0.5, 0.5, 0.1], &[true, true, false, true]);
        let other = average_precision(&[0.9, 0.5, 0.5, 0.1], &[true, false, true, true]);
        assert_eq!(one, other);
        // 1/3·1 + 1/3·2/3 + 1/3·3/4
        assert!((one.unwrap() - (1.0 + 2.0 / 3.0 + 0.75) / 3.0).abs() < 1e-12);
    }

    #[test]
    fn the_top_of_a_ranking() {
        let scores = [0.1, 0.9, 0.5, 0.5];
        assert_eq!(ranked(&scores), [1, 2, 3, 0]);
        let clean = [false, true, false, true];
        assert_eq!(top_precision(&scores, &clean, 0.25), Some(1.0));
        assert_eq!(top_precision(&scores, &clean, 0.5), Some(0.5));
        assert_eq!(top_precision(&scores, &clean, 1.0), Some(0.5));
        assert_eq!(top_precision(&scores, &clean, 0.0), None);
        assert_eq!(precision(&[3, 0, 1], &clean), Some(2.0 / 3.0));
    }
}
