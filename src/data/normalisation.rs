//! Input normalisation `(x/255 − mean) / std`, per channel, in units of [0, 1].

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// A published normalisation, by the name that `--normalisation` takes.
struct Published {
    name: &'static str,
    mean: [f32; 3],
    std: [f32; 3],
}

const fn published(name: &'static str, mean: [f32; 3], std: [f32; 3]) -> Published {
    Published { name, mean, std }
}

/// What people divide by. Where two have nearly the same numbers, one stands for both.
static PUBLISHED: [Published; 10] = [
    published("identity", [0.0; 3], [1.0; 3]),
    published("cifar10", [0.4914, 0.4822, 0.4465], [0.247, 0.243, 0.261]),
    // The deviations of kuangliu/pytorch-cifar: means of the deviations of single images.
    published("cifar10-kuangliu", [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]),
    published("cifar100", [0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
    published("gtsrb", [0.3403, 0.3121, 0.3214], [0.2724, 0.2608, 0.2669]),
    published("tiny-imagenet", [0.4802, 0.4481, 0.3975], [0.2302, 0.2265, 0.2262]),
    published("imagenet", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    published("half", [0.5; 3], [0.5; 3]),
    published("mnist", [0.1307; 3], [0.3081; 3]),
    published("fashion-mnist", [0.286; 3], [0.353; 3]),
];

impl Published {
    /// For so many channels; none where the channels differ and there is one.
    fn of(&self, channels: usize) -> Option<Normalisation> {
        let same = |values: &[f32; 3]| values.iter().all(|value| *value == values[0]);
        let fits = channels == 3 || (channels == 1 && same(&self.mean) && same(&self.std));
        fits.then(|| Normalisation { mean: self.mean[..channels].into(), std: self.std[..channels].into() })
    }
}

/// What `--normalisation` takes: a published name, or numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum NormalisationChoice {
    /// The name of a published one.
    Named(&'static str),
    /// Mean and deviation.
    Values(Normalisation),
}

impl NormalisationChoice {
    /// For a network of so many input channels.
    ///
    /// # Errors
    /// It is of another number of channels.
    pub fn resolve(&self, channels: usize) -> Result<Normalisation> {
        let found = match self {
            Self::Named(name) => by_name(name).and_then(|known| known.of(channels)).ok_or(3),
            Self::Values(values) if values.channels() == channels => Ok(values.clone()),
            Self::Values(values) => Err(values.channels()),
        };
        found.map_err(|given| {
            Error::input(format!("normalisation has {given} channels, the network's input {channels}"))
        })
    }
}

fn by_name(name: &str) -> Option<&'static Published> {
    PUBLISHED.iter().find(|known| known.name == name)
}

impl FromStr for NormalisationChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match by_name(text) {
            Some(known) => Ok(Self::Named(known.name)),
            None if text.contains('/') => text.parse().map(Self::Values),
            None => {
                let names = PUBLISHED.iter().map(|known| known.name).collect::<Vec<_>>().join(", ");
                Err(Error::input(format!(
                    "normalisation `{text}` is neither of the form mean,mean,mean/std,std,std nor one of {names}"
                )))
            }
        }
    }
}

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

    /// Every published one for so many channels.
    pub fn all_published(channels: usize) -> Vec<Self> {
        PUBLISHED.iter().filter_map(|known| known.of(channels)).collect()
    }

    /// The published name, where it has one.
    pub fn name(&self) -> Option<&'static str> {
        let is_it = |known: &&Published| known.of(self.channels()).as_ref() == Some(self);
        PUBLISHED.iter().find(is_it).map(|known| known.name)
    }

    /// The published name, or the numbers.
    pub fn words(&self) -> String {
        self.name().map_or_else(|| self.to_string(), ToString::to_string)
    }

    fn of_name(name: &str) -> Self {
        by_name(name).and_then(|known| known.of(3)).unwrap_or_else(|| Self::identity(3))
    }

    /// Leaves [0, 1] as it is (GTSRB, CelebA and unknown data).
    pub fn identity(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    /// CIFAR-10, as BackdoorBench has it.
    pub fn for_cifar10() -> Self {
        Self::of_name("cifar10")
    }

    /// CIFAR-100, as BackdoorBench has it.
    pub fn for_cifar100() -> Self {
        Self::of_name("cifar100")
    }

    /// Tiny-ImageNet, as BackdoorBench has it.
    pub fn for_tiny_imagenet() -> Self {
        Self::of_name("tiny-imagenet")
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
    fn published_ones_have_names() {
        for known in &PUBLISHED {
            let choice: NormalisationChoice = known.name.parse().unwrap();
            let normalisation = choice.resolve(3).unwrap();
            assert_eq!(normalisation.name(), Some(known.name));
        }
        let half: NormalisationChoice = "half".parse().unwrap();
        assert_eq!(half.resolve(1).unwrap(), Normalisation::for_mnist(1));
        let cifar: NormalisationChoice = "cifar10".parse().unwrap();
        assert!(cifar.resolve(1).unwrap_err().to_string().contains("3 channels"));
        let message = "cifar".parse::<NormalisationChoice>().unwrap_err().to_string();
        assert!(message.contains("cifar10-kuangliu"), "{message}");
        assert_eq!(Normalisation::all_published(1).len(), 4);
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
