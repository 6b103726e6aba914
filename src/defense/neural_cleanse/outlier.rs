//! Which triggers are outliers: the anomaly index of Neural Cleanse, section IV-C.

/// Labels whose trigger is an outlier among smaller ones: further than 2 of 1.4826 × the median absolute deviation below
/// the median.
pub(super) fn outliers(norms: &[f32]) -> Vec<usize> {
    let middle = median(norms);
    let deviations: Vec<f32> = norms.iter().map(|norm| (norm - middle).abs()).collect();
    let scale = 1.4826 * median(&deviations);
    (0..norms.len()).filter(|&label| middle - norms[label] > 2.0 * scale).collect()
}

/// The mean of the two in the middle where the number is even, as NumPy.
fn median(values: &[f32]) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (len, half) if len % 2 == 1 => sorted[half],
        (_, half) => (sorted[half - 1] + sorted[half]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_trigger_stands_out_and_a_large_one_does_not() {
        let mut norms = vec![60.0, 55.0, 70.0, 65.0, 58.0, 62.0, 66.0, 59.0, 61.0, 64.0];
        assert!(outliers(&norms).is_empty());
        norms[4] = 9.0;
        norms[7] = 200.0;
        assert_eq!(outliers(&norms), [4]);
        // The smallest of ten; the spread of the others decides.
        assert!(outliers(&[40.0, 55.0, 70.0, 85.0, 50.0, 62.0, 76.0, 59.0, 81.0, 64.0]).is_empty());
    }

    #[test]
    fn few_labels_and_equal_triggers() {
        assert!(outliers(&[]).is_empty());
        assert!(outliers(&[3.0, 3.0, 3.0]).is_empty());
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    }
}
