//! Input normalisation `(x/255 − mean) / std`, per channel, in units of [0, 1].

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Mean and standard deviation per channel. Displays as, and parses from,
/// `mean,mean,mean/std,std,std`.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalisation {
    /// Subtracted.
    pub mean: Vec<f32>,
    /// Divided by; positive.
    pub std: Vec<f32>,
}

impl Normalisation {
    /// Checks lengths (equal, 1 or 3) and values (finite, std > 0).
    pub fn new(mean: Vec<f32>, std: Vec<f32>) -> Result<Self> {
        if mean.len() != std.len() || !matches!(mean.len(), 1 | 3) {
            return Err(Error::input(format!(
                "normalisation needs as many means as deviations, 1 or 3; got {} and {}",
                mean.len(),
                std.len()
            )));
        }
        if let Some(value) = mean.iter().find(|value| !value.is_finite()) {
            return Err(Error::input(format!("normalisation mean {value} is not a finite number")));
        }
        if let Some(value) = std.iter().find(|value| !value.is_finite() || **value <= 0.0) {
            return Err(Error::input(format!("normalisation std {value} is not a positive number")));
        }
        Ok(Self { mean, std })
    }

    /// Leaves [0, 1] as it is (GTSRB, CelebA and unknown data).
    pub fn identity(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    /// CIFAR-10, as BackdoorBench has it.
    pub fn for_cifar10() -> Self {
        Self { mean: vec![0.4914, 0.4822, 0.4465], std: vec![0.247, 0.243, 0.261] }
    }

    /// CIFAR-100, as BackdoorBench has it.
    pub fn for_cifar100() -> Self {
        Self { mean: vec![0.5071, 0.4865, 0.4409], std: vec![0.2673, 0.2564, 0.2762] }
    }

    /// Tiny-ImageNet, as BackdoorBench has it.
    pub fn for_tiny_imagenet() -> Self {
        Self { mean: vec![0.4802, 0.4481, 0.3975], std: vec![0.2302, 0.2265, 0.2262] }
    }

    /// MNIST and Fashion-MNIST, as BackdoorBench has it, for a stem of `channels` (1 or 3).
    pub fn for_mnist(channels: usize) -> Self {
        Self { mean: vec![0.5; channels], std: vec![0.5; channels] }
    }

    /// Channels it is made for.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }
}

/// Numbers with commas between, as in [`Normalisation`]'s text form.
pub fn join(values: &[f32]) -> String {
    values.iter().map(f32::to_string).collect::<Vec<_>>().join(",")
}

/// Reads what [`join`] writes.
pub fn split(text: &str) -> Result<Vec<f32>> {
    text.split(',')
        .map(|part| {
            part.trim().parse::<f32>().map_err(|_| Error::input(format!("`{}` is not a number", part.trim())))
        })
        .collect()
}

impl fmt::Display for Normalisation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", join(&self.mean), join(&self.std))
    }
}

impl FromStr for Normalisation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((mean, std)) = text.split_once('/') else {
            return Err(Error::input(format!(
                "normalisation `{text}` is not of the form mean,mean,mean/std,std,std"
            )));
        };
        Self::new(split(mean)?, split(std)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for normalisation in [
            Normalisation::for_cifar10(),
            Normalisation::for_cifar100(),
            Normalisation::for_tiny_imagenet(),
            Normalisation::for_mnist(1),
            Normalisation::identity(3),
        ] {
            let text = normalisation.to_string();
            assert_eq!(text.parse::<Normalisation>().unwrap(), normalisation, "{text}");
        }
        let spaced: Normalisation = "0.49, 0.48,0.45 / 0.25,0.24,0.26".parse().unwrap();
        assert_eq!(spaced.mean, [0.49, 0.48, 0.45]);
        assert_eq!(spaced.std, [0.25, 0.24, 0.26]);
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for (text, cause) in [
            ("0.5", "not of the form"),
            ("0.5,0.5/0.5,0.5", "1 or 3"),
            ("0.5,0.5,0.5/0.5", "as many"),
            ("0.5/0", "std 0 is not a positive"),
            ("0.5/-1", "std -1 is not a positive"),
            ("nan/1", "mean NaN"),
            ("0.5/inf", "std inf"),
            ("a/1", "`a` is not a number"),
        ] {
            let message = text.parse::<Normalisation>().unwrap_err().to_string();
            assert!(message.contains(cause), "{text}: {message}");
        }
    }
}
