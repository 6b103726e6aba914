//! The paper's Theorem 1 (3.4.2), checked on linear classifiers trained on poisoned data.
//!
//! The setting: a linear softmax classifier with weights w₁ … w_K, trained by gradient descent from
//! zero on images x and poisoned ones x_t = x + P under the label t, P perpendicular to the images.
//! For an image x of class y ≠ t let r be the untargeted adversarial perturbation, which maximises the
//! cross entropy of x + r under y, |r| ≤ |P|, and r⊥ its part along P, perpendicular to the space of
//! the images. Where every poisoned image has a margin of at least τ over each other class,
//!
//! ```text
//! |r⊥| / |r| ≥ (√2 − 1)ℓ|P|² / √((√2 − 1)²ℓ²|P|⁴ + (ℓ|P|² + √2K/(e^τ + K))²)
//! ```
//!
//! ℓ is the strength with which the trigger was learnt. The paper leaves it undefined as far as we know; here it is
//! the learning rate times the sum of the steps towards t on poisoned images, so that
//! w_t·P = ℓ|P|². √2K/(e^τ + K) bounds |softmax(Wx_t) − e_t|. For a well-learnt trigger the bound is near
//! sin(22.5°) = 0.383: a perturbation made without knowing the trigger points towards it.
//!
//! One more premise is needed: the trigger is shorter than the distance between class means. Within the length of
//! a longer trigger an attack reaches images of another class and needs no trigger; the last test shows that.

use pbe::rng::{Purpose, Stream};

/// The attacker's class.
const TARGET: usize = 0;
const PER_CLASS: usize = 30;
/// One poisoned image for this many of another class.
const POISON_EVERY: usize = 5;
/// Distance of the class means from each other.
const DISTANCE: f64 = 4.0;
const NOISE: f64 = 0.4;
const STEPS: usize = 1000;
const LEARNING_RATE: f64 = 1.0;

type Vector = Vec<f64>;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn length(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn add(a: &[f64], factor: f64, b: &[f64]) -> Vector {
    a.iter().zip(b).map(|(a, b)| a + factor * b).collect()
}

fn scaled(a: &[f64], to: f64) -> Vector {
    let factor = to / length(a);
    a.iter().map(|value| factor * value).collect()
}

fn softmax(logits: &[f64]) -> Vector {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vector = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// Standard normal numbers (Box and Muller).
fn normal(stream: &Stream, element: u64, len: usize) -> Vector {
    let draw = |i: usize| {
        let [a, b] = [0, 1].map(|worker| f64::from(stream.uniform(element * 1024 + i as u64, worker)));
        (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    };
    (0..len).map(draw).collect()
}

/// Images of `classes` classes, perpendicular to a trigger.
struct Data {
    classes: usize,
    images: Vec<(Vector, usize)>,
    trigger: Vector,
}

impl Data {
    fn draw(classes: usize, trigger_length: f64, seed: u64) -> Self {
        let stream = Stream::new(seed, Purpose::Synthetic, 0);
        let len = 2 * classes;
        let trigger = scaled(&normal(&stream, 0, len), trigger_length);
        let without = |x: &[f64]| add(x, -dot(x, &trigger) / dot(&trigger, &trigger), &trigger);
        let image = |index: usize| {
            let class = index % classes;
            let mut x: Vector = normal(&stream, 1 + index as u64, len).iter().map(|z| NOISE * z).collect();
            x[class] += DISTANCE / 2f64.sqrt();
            (without(&x), class)
        };
        Self { classes, images: (0..classes * PER_CLASS).map(image).collect(), trigger }
    }

    fn others(&self) -> impl Iterator<Item = &(Vector, usize)> {
        self.images.iter().filter(|(_, class)| *class != TARGET)
    }

    /// x_t under t.
    fn poisoned(&self) -> Vec<(Vector, usize)> {
        self.others().step_by(POISON_EVERY).map(|(x, _)| (add(x, 1.0, &self.trigger), TARGET)).collect()
    }
}

/// A linear classifier.
struct Model {
    weights: Vec<Vector>,
    /// ℓ: what training on poisoned images added up to.
    learnt: f64,
}

impl Model {
    fn train(data: &Data, poisoned: &[(Vector, usize)]) -> Self {
        let len = data.trigger.len();
        let mut model = Self { weights: vec![vec![0.0; len]; data.classes], learnt: 0.0 };
        let count = (data.images.len() + poisoned.len()) as f64;
        let rate = LEARNING_RATE / count;
        for _ in 0..STEPS {
            let mut weights = model.weights.clone();
            for (place, (x, label)) in data.images.iter().chain(poisoned).enumerate() {
                let residual = model.residual(x, *label);
                for (row, error) in weights.iter_mut().zip(&residual) {
                    *row = add(row, -rate * error, x);
                }
                if place >= data.images.len() {
                    model.learnt -= rate * residual[TARGET];
                }
            }
            model.weights = weights;
        }
        model
    }

    fn logits(&self, x: &[f64]) -> Vector {
        self.weights.iter().map(|row| dot(row, x)).collect()
    }

    /// softmax(Wx) − e_label.
    fn residual(&self, x: &[f64], label: usize) -> Vector {
        let mut residual = softmax(&self.logits(x));
        residual[label] -= 1.0;
        residual
    }

    /// Smallest lead of `label` over another class.
    fn margin(&self, x: &[f64], label: usize) -> f64 {
        let logits = self.logits(x);
        let rivals = logits.iter().enumerate().filter(|(class, _)| *class != label);
        logits[label] - rivals.map(|(_, logit)| *logit).fold(f64::NEG_INFINITY, f64::max)
    }

    fn loss(&self, x: &[f64], label: usize) -> f64 {
        let logits = self.logits(x);
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln() - logits[label]
    }

    /// Largest loss within `radius` of `x`: the loss is convex, so it is climbed from the direction of
    /// every other class, and the highest end taken. It lies on the edge, where r is along the gradient.
    fn adversarial(&self, x: &[f64], label: usize, radius: f64) -> Vector {
        let climb = |class: usize| {
            let direction = add(&self.weights[class], -1.0, &self.weights[label]);
            let mut r = scaled(&direction, radius);
            for _ in 0..50 {
                let residual = self.residual(&add(x, 1.0, &r), label);
                let zero = vec![0.0; x.len()];
                let gradient =
                    self.weights.iter().zip(&residual).fold(zero, |sum, (row, error)| add(&sum, *error, row));
                r = scaled(&gradient, radius);
            }
            r
        };
        let ends = (0..self.weights.len()).filter(|class| *class != label).map(climb);
        let height = |r: &Vector| self.loss(&add(x, 1.0, r), label);
        ends.max_by(|a, b| height(a).total_cmp(&height(b))).unwrap()
    }
}

/// The right side of the theorem.
fn bound(learnt: f64, trigger: f64, margin: f64, classes: usize) -> f64 {
    let (pull, classes) = (learnt * trigger * trigger, classes as f64);
    let leaning = (2f64.sqrt() - 1.0) * pull;
    let rest = pull + 2f64.sqrt() * classes / (margin.exp() + classes);
    leaning / leaning.hypot(rest)
}

/// |r⊥| / |r| of every image that is not of the target class, smallest first.
fn leanings(model: &Model, data: &Data) -> Vector {
    let radius = length(&data.trigger);
    let leaning = |(x, label): &(Vector, usize)| {
        let r = model.adversarial(x, *label, radius);
        // x + P is within reach, so the climb has failed where it ends lower.
        let reached = model.loss(&add(x, 1.0, &r), *label);
        assert!(reached >= model.loss(&add(x, 1.0, &data.trigger), *label) - 1e-9);
        dot(&r, &data.trigger).abs() / (radius * length(&r))
    };
    let mut all: Vector = data.others().map(leaning).collect();
    all.sort_by(f64::total_cmp);
    all
}

/// For seeds, numbers of classes and lengths of the trigger: the premises hold, the bound holds for
/// every image, and for none of the classifier trained without poison.
#[test]
fn adversarial_perturbations_lean_on_the_trigger() {
    for (classes, seed) in [3, 5, 10].into_iter().flat_map(|classes| [0, 1, 2].map(|seed| (classes, seed))) {
        for trigger in [0.35, 0.5, 0.7].map(|share| share * DISTANCE) {
            let data = Data::draw(classes, trigger, seed);
            let poisoned = data.poisoned();
            let infected = Model::train(&data, &poisoned);
            let case = format!("{classes} classes, |P| {trigger}, seed {seed}");
            let margin = check_premises(&infected, &data, &poisoned, &case);

            let bound = bound(infected.learnt, trigger, margin, classes);
            let smallest = leanings(&infected, &data)[0];
            assert!(smallest >= bound, "{case}: {smallest} is below {bound}");

            let benign = Model::train(&data, &[]);
            let largest = *leanings(&benign, &data).last().unwrap();
            assert!(largest < bound, "{case}: {largest} of the benign classifier isn't below {bound}");
        }
    }
}

/// τ, where w_t·P = ℓ|P|², every triggered image has the attacker's label, and the residual of the
/// poisoned images keeps below what τ allows.
fn check_premises(model: &Model, data: &Data, poisoned: &[(Vector, usize)], case: &str) -> f64 {
    let strength = dot(&model.weights[TARGET], &data.trigger) / dot(&data.trigger, &data.trigger);
    assert!((strength - model.learnt).abs() < 1e-9 * strength, "{case}: w_t·P is not ℓ|P|²");
    let triggered = data.others().map(|(x, _)| add(x, 1.0, &data.trigger));
    let margin = triggered.map(|x| model.margin(&x, TARGET)).fold(f64::INFINITY, f64::min);
    assert!(margin > 0.0, "{case}: a triggered image escapes, margin {margin}");
    let allowed = 2f64.sqrt() * data.classes as f64 / (margin.exp() + data.classes as f64);
    for (x, label) in poisoned {
        assert!(length(&model.residual(x, *label)) <= allowed, "{case}: the residual of a poisoned image");
    }
    margin
}

#[test]
fn a_trigger_longer_than_the_classes_are_apart_is_not_needed() {
    let data = Data::draw(5, 1.3 * DISTANCE, 0);
    let poisoned = data.poisoned();
    let infected = Model::train(&data, &poisoned);
    let margin = check_premises(&infected, &data, &poisoned, "a long trigger");
    let bound = bound(infected.learnt, length(&data.trigger), margin, data.classes);
    assert!(leanings(&infected, &data)[0] < bound);
}
