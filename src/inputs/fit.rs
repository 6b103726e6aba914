//! What neither an option nor the model's file says about its inputs is fitted: every published normalisation and every
//! known order of the classes is tried on training images.

use serde::{Deserialize, Serialize};

use super::statistics::FirstLayer;
use crate::data::{ClassOrder, ImageSet, Normalisation, SampleSize, stratified_sample};
use crate::engine::{Device, Engine, EngineOptions, is_processor};
use crate::error::Result;
use crate::eval::{logits, predictions};
use crate::model::Weights;

/// Images that the candidates are tried on: all of them first, then those that aren't clearly worse than the best.
const STAGES: [usize; 3] = [200, 2000, 8000];

/// Images of a stage at least.
const LEAST: usize = 50;

/// Multiply-adds that a stage may take.
const CPU_WORK: usize = 500_000_000_000;
const GPU_WORK: usize = 100 * CPU_WORK;

/// A difference of so many standard errors is one.
const CLEAR: f64 = 3.0;

/// The usual normalisation of the data is taken unless it is worse by so many.
const USUAL: f64 = 2.0;

/// Losses count up to this, so that a few poisoned images don't decide.
const LARGEST_LOSS: f32 = 8.0;

/// A way to feed a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Feeding {
    pub normalisation: Normalisation,
    /// Place of its class order among those that were given.
    pub order: usize,
    /// Share of the training images that the model then gives their label, per cent; none without labels.
    pub accuracy: Option<f64>,
    /// Distance of its inputs from those that the first batch norm remembers.
    pub distance: Option<f64>,
}

/// What was tried, the best first.
#[derive(Clone, Debug)]
pub struct Fit {
    pub candidates: Vec<Feeding>,
    /// Images that the accuracies are of.
    pub images: usize,
    /// Whether no other order of the classes fits as well.
    pub clear: bool,
    /// What a guess of the most frequent class would have, per cent.
    pub chance: f64,
}

/// A candidate as it is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CandidateResult {
    pub normalisation: String,
    pub class_order: String,
    pub accuracy: Option<f64>,
    pub distance: Option<f64>,
}

/// Normalisations that are tried: the published ones, and the usual one of the data.
pub fn candidates(usual: &Normalisation) -> Vec<Normalisation> {
    let mut all = Normalisation::all_published(usual.channels());
    if !all.contains(usual) {
        all.push(usual.clone());
    }
    all
}

/// Tries `normalisations` with `orders` of the classes on the labelled `images`, whose labels are counted in the first
/// order. `usual` is preferred where nothing tells two apart.
pub fn fit(
    device: &dyn Device,
    weights: &Weights,
    images: &ImageSet,
    normalisations: &[Normalisation],
    orders: &[ClassOrder],
    usual: &Normalisation,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Fit> {
    let layer = FirstLayer::new(weights, images);
    let graph = weights.architecture.graph(usual, images.height, images.width)?;
    let work = if is_processor(&device.kind()) { CPU_WORK } else { GPU_WORK };
    let mut left: Vec<(Normalisation, usize)> = normalisations
        .iter()
        .flat_map(|normalisation| (0..orders.len()).map(move |order| (normalisation.clone(), order)))
        .collect();
    let (mut trials, mut lost) = (vec![], vec![]);
    let mut sample = images.clone();
    for (stage, most) in STAGES.into_iter().enumerate() {
        let passes = left.chunk_by(|a, b| a.0 == b.0).count();
        let count = most.min(work / (graph.multiply_adds().max(1) * passes)).max(LEAST);
        if stage > 0 && (left.len() == 1 || count.min(images.len()) <= sample.len()) {
            break;
        }
        sample = images.subset(&stratified_sample(&images.labels, SampleSize::Count(count), 0).0);
        let before = std::mem::take(&mut trials);
        for (done, same) in left.chunk_by(|a, b| a.0 == b.0).enumerate() {
            progress(done, passes);
            let tried = try_orders(device, weights, &sample, &same[0].0, orders)?;
            trials.extend(
                tried.into_iter().filter(|trial| same.iter().any(|(_, order)| *order == trial.order)),
            );
        }
        let is_left = |trial: &Trial| {
            left.iter().any(|(kept, order)| *kept == trial.normalisation && *order == trial.order)
        };
        lost.extend(before.into_iter().filter(|trial| !is_left(trial)));
        left = rivals(&trials).into_iter().map(|(kept, order)| (kept.clone(), order)).collect();
    }
    Ok(decide(trials, lost, layer.as_ref(), usual, &sample))
}

/// Without labels: what the first batch norm remembers decides.
pub fn fit_unlabelled(
    weights: &Weights,
    images: &ImageSet,
    normalisations: &[Normalisation],
    usual: &Normalisation,
) -> Fit {
    let layer = FirstLayer::new(weights, images);
    let trial = |normalisation: &Normalisation| Trial {
        normalisation: normalisation.clone(),
        order: 0,
        right: vec![],
        losses: vec![],
    };
    let trials = normalisations.iter().map(trial).collect();
    decide(trials, vec![], layer.as_ref(), usual, images)
}

/// A candidate on some images.
#[derive(Clone)]
struct Trial {
    normalisation: Normalisation,
    order: usize,
    /// Whether each image got its label.
    right: Vec<bool>,
    /// The cross entropy of each.
    losses: Vec<f32>,
}

impl Trial {
    fn hits(&self) -> usize {
        self.right.iter().filter(|right| **right).count()
    }

    fn loss(&self) -> f64 {
        self.losses.iter().map(|&loss| f64::from(loss)).sum()
    }

    /// Standard errors by which its loss is lower than that of another on the same images.
    fn lead(&self, other: &Trial) -> f64 {
        let differences =
            || self.losses.iter().zip(&other.losses).map(|(own, theirs)| f64::from(theirs - own));
        let count = self.losses.len().max(1) as f64;
        let mean = differences().sum::<f64>() / count;
        let variance = differences().map(|it| (it - mean).powi(2)).sum::<f64>() / count;
        if mean == 0.0 { 0.0 } else { mean / (variance / count).sqrt().max(1e-12) }
    }
}

fn try_orders(
    device: &dyn Device,
    weights: &Weights,
    images: &ImageSet,
    normalisation: &Normalisation,
    orders: &[ClassOrder],
) -> Result<Vec<Trial>> {
    let graph = weights.architecture.graph(normalisation, images.height, images.width)?;
    let mut engine = Engine::open(device, &graph, &weights.values, &EngineOptions::default())?;
    let logits = logits(&mut engine, images)?;
    let classes = graph.classes();
    let predicted = predictions(&logits, classes)?;
    let trial = |(number, order): (usize, &ClassOrder)| {
        let place = |class: &String| order.classes.iter().position(|other| other == class).unwrap_or(0);
        let places: Vec<usize> = images.classes.iter().map(place).collect();
        let labels: Vec<usize> = images.labels.iter().map(|&label| places[label as usize]).collect();
        let right =
            predicted.iter().zip(&labels).map(|(&predicted, &label)| predicted as usize == label).collect();
        let losses =
            logits.chunks_exact(classes).zip(&labels).map(|(row, &label)| loss(row, label)).collect();
        Trial { normalisation: normalisation.clone(), order: number, right, losses }
    };
    Ok(orders.iter().enumerate().map(trial).collect())
}

fn loss(logits: &[f32], label: usize) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    (largest + sum.ln() - logits[label]).min(LARGEST_LOSS)
}

/// The best trial and those that aren't clearly worse.
fn rivals(trials: &[Trial]) -> Vec<(&Normalisation, usize)> {
    let Some(best) = trials.iter().min_by(|a, b| a.loss().total_cmp(&b.loss())) else { return vec![] };
    let near = trials.iter().filter(|trial| best.lead(trial) < CLEAR);
    near.map(|trial| (&trial.normalisation, trial.order)).collect()
}

/// Of those that aren't clearly worse than the best, the usual one of the data wins, else the best. Without labels it is
/// the one whose inputs are nearest to the batch norm's.
fn decide(
    mut trials: Vec<Trial>,
    lost: Vec<Trial>,
    layer: Option<&FirstLayer>,
    usual: &Normalisation,
    images: &ImageSet,
) -> Fit {
    let labelled = trials.iter().any(|trial| !trial.right.is_empty());
    trials.sort_by(|a, b| a.loss().total_cmp(&b.loss()));
    let near = rivals(&trials);
    let is_near = |trial: &Trial| near.contains(&(&trial.normalisation, trial.order));
    let candidate = |trial: &Trial| {
        let count = trial.right.len();
        Feeding {
            normalisation: trial.normalisation.clone(),
            order: trial.order,
            accuracy: (count > 0).then(|| 100.0 * trial.hits() as f64 / count as f64),
            distance: layer.map(|layer| layer.distance(&trial.normalisation)),
        }
    };
    let (near, behind): (Vec<&Trial>, Vec<&Trial>) = trials.iter().partition(|trial| is_near(trial));
    let mut front: Vec<Feeding> = near.iter().copied().map(candidate).collect();
    let mut behind: Vec<Feeding> = behind.into_iter().chain(&lost).map(candidate).collect();
    behind.sort_by(|a, b| b.accuracy.unwrap_or(0.0).total_cmp(&a.accuracy.unwrap_or(0.0)));
    let clear = front.iter().all(|candidate| candidate.order == front[0].order);
    let is_usual = |trial: &&Trial| trial.normalisation == *usual && near[0].lead(trial) < USUAL;
    if !labelled {
        let distance = |candidate: &Feeding| candidate.distance.unwrap_or(0.0);
        front.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    } else if let Some(at) = near.iter().position(is_usual) {
        front[..=at].rotate_right(1);
    }
    front.extend(behind);
    let mut classes = vec![0usize; images.classes.len()];
    images.labels.iter().for_each(|&label| classes[label as usize] += 1);
    let chance = 100.0 * classes.into_iter().max().unwrap_or(0) as f64 / images.len().max(1) as f64;
    Fit { candidates: front, images: images.len(), clear, chance }
}

impl Fit {
    /// Whether the best is no better than a guess, so that something else is wrong.
    pub fn is_unusable(&self) -> bool {
        let Some(best) = self.candidates.first().and_then(|candidate| candidate.accuracy) else {
            return false;
        };
        let chance = self.chance / 100.0;
        let error = 100.0 * (chance * (1.0 - chance) / self.images.max(1) as f64).sqrt();
        best < self.chance + CLEAR * error
    }
}
