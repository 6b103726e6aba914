//! Mean and standard deviation over seeds.

use super::Figures;

/// The mean of some values, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub mean: f64,
    /// Of a sample (divided by one less than the values); none for one value.
    pub deviation: Option<f64>,
}

impl Spread {
    /// Of these values; none for no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        (!values.is_empty()).then_some(Self { mean, deviation })
    }

    /// Both with so many decimals.
    pub fn text(&self, decimals: usize) -> String {
        let deviation = self.deviation.map(|deviation| format!(" ± {deviation:.decimals$}"));
        format!("{:.decimals$}{}", self.mean, deviation.unwrap_or_default())
    }
}

/// What the runs of a model with a defence say together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many have ended.
    pub runs: usize,
    pub clean_accuracy: Option<Spread>,
    pub asr: Option<Spread>,
    pub robust_accuracy: Option<Spread>,
    pub der: Option<Spread>,
    pub seconds: Option<Spread>,
}

impl Summary {
    /// Of runs that have ended; none for none.
    pub fn new(runs: &[&Figures]) -> Option<Self> {
        let spread = |value: fn(&Figures) -> Option<f64>| {
            Spread::of(&runs.iter().filter_map(|figures| value(figures)).collect::<Vec<_>>())
        };
        (!runs.is_empty()).then(|| Self {
            runs: runs.len(),
            clean_accuracy: spread(|figures| figures.after.clean_accuracy),
            asr: spread(|figures| figures.after.asr),
            robust_accuracy: spread(|figures| figures.after.robust_accuracy),
            der: spread(|figures| figures.der),
            seconds: spread(|figures| Some(figures.seconds)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::comparison;
    use super::*;

    #[test]
    fn mean_and_sample_deviation() {
        assert_eq!(Spread::of(&[]), None);
        let one = Spread::of(&[3.0]).unwrap();
        assert_eq!((one, one.text(2).as_str()), (Spread { mean: 3.0, deviation: None }, "3.00"));
        let three = Spread::of(&[2.0, 4.0, 6.0]).unwrap();
        assert_eq!(
            (three, three.text(1).as_str()),
            (Spread { mean: 4.0, deviation: Some(2.0) }, "4.0 ± 2.0")
        );
    }

    #[test]
    fn a_summary_counts_the_runs_that_ended() {
        let all = comparison();
        let pbe = all.summary("m_1", "pbe").unwrap();
        assert_eq!((pbe.runs, pbe.clean_accuracy.unwrap().mean, pbe.asr.unwrap().mean), (2, 80.0, 3.0));
        // (96 - 1 + 100) / 2 and (98 - 0 + 100) / 2: gains in ACC count as nothing.
        assert_eq!(pbe.der.unwrap().mean, f64::midpoint(97.5, 99.0));
        assert_eq!(all.summary("m_1", "f|t_<1>").map(|it| it.runs), Some(1));
        assert_eq!(all.summary("m2", "f|t_<1>"), None);
        // Loading and measuring aren't the defence's.
        assert_eq!(pbe.seconds.unwrap().mean, 2.0);
    }
}
