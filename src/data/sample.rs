//! Stratified choices: some of the images, class proportions kept.

use crate::rng::{Purpose, Stream};

/// How many images to take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SampleSize {
    /// This size of the whole, in [0, 1].
    Fraction(f64),
    /// This many, or all where there are fewer.
    Count(usize),
}

impl SampleSize {
    fn of(self, whole: usize) -> usize {
        match self {
            SampleSize::Fraction(fraction) => ((fraction * whole as f64).round() as usize).min(whole),
            SampleSize::Count(count) => count.min(whole),
        }
    }
}

/// Splits the indices of `labels` into those taken and the rest, both ascending. Each class gives
/// its proportional size (largest remainder); which of its images is decided by `seed`.
pub fn stratified_sample(labels: &[u32], size: SampleSize, seed: u64) -> (Vec<u32>, Vec<u32>) {
    let classes = labels.iter().max().map_or(0, |&label| label as usize + 1);
    let mut members = vec![Vec::new(); classes];
    for (index, &label) in labels.iter().enumerate() {
        members[label as usize].push(index as u32);
    }
    let sizes: Vec<usize> = members.iter().map(Vec::len).collect();
    let mut take = vec![false; labels.len()];
    for (class, quota) in quotas(&sizes, size.of(labels.len())).into_iter().enumerate() {
        let order = Stream::new(seed, Purpose::Split, class as u32).permutation(members[class].len());
        for &position in &order[..quota] {
            take[members[class][position as usize] as usize] = true;
        }
    }
    (0..labels.len() as u32).partition(|&index| take[index as usize])
}

/// `count` shared among classes of these sizes: the whole part each, then one more to the largest
/// remainders (the first class where they tie).
fn quotas(sizes: &[usize], count: usize) -> Vec<usize> {
    let whole: usize = sizes.iter().sum();
    if whole == 0 {
        return vec![0; sizes.len()];
    }
    let mut quotas: Vec<usize> = sizes.iter().map(|size| size * count / whole).collect();
    let mut by_remainder: Vec<usize> = (0..sizes.len()).collect();
    by_remainder.sort_by_key(|&class| std::cmp::Reverse(sizes[class] * count % whole));
    let missing = count - quotas.iter().sum::<usize>();
    for &class in &by_remainder[..missing] {
        quotas[class] += 1;
    }
    quotas
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<u32> {
        (0..1000).map(|i| if i % 10 < 7 { 0 } else { i % 3 }).collect()
    }

    #[test]
    fn keeps_proportions_and_order() {
        let labels = labels();
        let (taken, rest) = stratified_sample(&labels, SampleSize::Count(100), 3);
        assert_eq!((taken.len(), rest.len()), (100, 900));
        assert!(taken.is_sorted() && rest.is_sorted());
        let mut all = [taken.clone(), rest].concat();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<u32>>());
        for class in 0..3 {
            let count = |indices: &[u32]| indices.iter().filter(|&&i| labels[i as usize] == class).count();
            let whole = labels.iter().filter(|&&label| label == class).count();
            assert!(count(&taken).abs_diff(whole / 10) <= 1, "class {class}: {} of {whole}", count(&taken));
        }
    }

    #[test]
    fn the_seed_decides_and_nothing_else() {
        let labels = labels();
        let take = |seed| stratified_sample(&labels, SampleSize::Fraction(0.05), seed).0;
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
        assert_eq!(take(1).len(), 50);
    }

    #[test]
    fn all_none_and_more_than_there_are() {
        let labels = [0, 1, 1, 4];
        assert_eq!(stratified_sample(&labels, SampleSize::Count(9), 0).0, [0, 1, 2, 3]);
        assert_eq!(stratified_sample(&labels, SampleSize::Fraction(1.0), 0).0, [0, 1, 2, 3]);
        assert_eq!(stratified_sample(&labels, SampleSize::Count(0), 0).1, [0, 1, 2, 3]);
        assert_eq!(stratified_sample(&[], SampleSize::Count(3), 0), (vec![], vec![]));
    }

    #[test]
    fn one_of_each_equal_class() {
        let labels: Vec<u32> = (0..50).map(|i| i / 10).collect();
        let (taken, _) = stratified_sample(&labels, SampleSize::Count(5), 11);
        let classes: Vec<u32> = taken.iter().map(|&index| labels[index as usize]).collect();
        assert_eq!(classes, [0, 1, 2, 3, 4]);
    }
}
