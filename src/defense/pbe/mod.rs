//! Progressive Backdoor Erasing, Algorithm 1 (Mu et al., CVPR 2023).

mod config;
mod initial_set;
mod second_look;
mod select;
#[cfg(test)]
mod tests;

pub use config::{InitialSet, Pbe, Round, Select};
pub use second_look::SecondLook;

use super::run::sample;
use super::{Defense, Facts, Phase, Recipe, Run, RunState, TrainingSet};
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::eval::{
    Agreement, WorkingTrigger, agreeing, agreement, logits, logits_with_progress, predictions,
};
use crate::train::{Adversarial, TrainerConfig, pgd};
use select::Ranking;

/// More are a slip: the paper has four.
const MAX_ROUNDS: usize = 100;

const REFERENCE: Phase = Phase { key: "reference", label: "the infected model's logits" };
const INITIAL_SET: Phase = Phase { key: "initial_set", label: "initial set" };
const ATTACK: Phase = Phase { key: "attack", label: "step 1a, attack" };
const ADVERSARIAL: Phase = Phase { key: "adversarial", label: "step 1b, fine-tuning" };
const CLEAN: Phase = Phase { key: "clean", label: "step 2, fine-tuning" };
const RANK: Phase = Phase { key: "rank", label: "step 3, ranking" };
const SECOND_LOOK: Phase = Phase { key: "second_look", label: "a second look at the images" };

impl Defense for Pbe {
    /// Algorithm 1, and what the second look after its first round makes of it.
    fn run(&self, run: &mut Run) -> Result<()> {
        let reference = self.reference_logits(run)?; // of θ', which never changes
        self.rounds(run, &reference)?;
        match run.state.second_look {
            Some(SecondLook::Poisoned) if !run.state.restarted => {
                run.restart()?;
                self.rounds(run, &reference)
            }
            Some(SecondLook::NoSign) => run.reset_model(),
            _ => Ok(()),
        }
    }

    fn defaults(facts: &Facts) -> Result<Self> {
        if let (true, Some(rounds)) = (facts.clean_set, facts.rounds.filter(|&rounds| rounds != 1)) {
            return Err(Error::input(format!("rounds is {rounds}, but with a clean set there is one round")));
        }
        if let Some(rounds) = facts.rounds.filter(|&rounds| rounds > MAX_ROUNDS) {
            return Err(Error::input(format!("rounds is {rounds}, but must be at most {MAX_ROUNDS}")));
        }
        Ok(match facts.recipe {
            Recipe::Default => Self::default_recipe(facts),
            Recipe::Paper => Self::paper_recipe(facts),
        })
    }

    fn check(&self, facts: &Facts) -> Result<()> {
        self.check_all(facts)
    }

    fn unused(&self, facts: &Facts) -> Vec<(String, &'static str)> {
        self.unused_settings(facts)
    }

    fn idle(&self, state: &RunState) -> Vec<(String, &'static str)> {
        self.idle_settings(state)
    }

    fn trainer(&self) -> &TrainerConfig {
        &self.trainer
    }

    fn images_made(&self, images: usize, clean_set: bool) -> usize {
        let attacked = |round: &Round| match (round.attack.every_batch, round.adversarial.limit) {
            (true, _) => 0,
            (false, 0) => images,
            (false, limit) => limit.min(images),
        };
        let viewed = match &self.initial_set {
            _ if clean_set => 0,
            InitialSet { suspicion, .. } if *suspicion < 1.0 => images,
            InitialSet { views, .. } if views.is_empty() => 0,
            _ => self.candidates(images),
        };
        let unlearnt = |round: &Round| match round.unlearn {
            share if share > 0.0 && !clean_set => images + (share * images as f64) as usize,
            _ => 0,
        };
        let made = self.rounds.iter().map(|round| attacked(round).max(unlearnt(round)));
        made.max().unwrap_or(0).max(viewed)
    }
}

impl Pbe {
    /// Algorithm 1's iterations. With a clean set there is one, and nothing is ranked.
    fn rounds(&self, run: &mut Run, reference: &[f32]) -> Result<()> {
        for (number, round) in self.rounds.iter().enumerate() {
            run.begin_round(number);
            run.step(|run| {
                if number == 0 {
                    run.state.selected = self.initial_set(run, reference)?;
                }
                run.start_round()
            })?;
            run.step(|run| {
                if self.relabelled(run, round)?.is_some() {
                    return Ok(()); // the suspected images have the trigger itself
                }
                let adversarial = self.attack(run, round)?; // step 1a, Eq. 10 to 12
                run.train(ADVERSARIAL, &adversarial, &round.adversarial) // step 1b
            })?;
            run.step(|run| {
                let clean = self.clean_images(run, round)?;
                run.train(CLEAN, &clean, &round.clean) // step 2
            })?;
            run.step(|run| {
                if let Some(scores) = self.rank(run, reference)? {
                    self.second_look(run, &scores)?;
                    run.state.selected = self.select(run, round, &scores)?; // step 3, Eq. 15
                }
                Ok(())
            })?;
            run.end_round()?;
            if run.state.ends_early() {
                break;
            }
        }
        Ok(())
    }

    /// The logits of θ' for every image; none with a clean set, where no image is compared.
    fn reference_logits(&self, run: &mut Run) -> Result<Vec<f32>> {
        if run.clean_set {
            return Ok(vec![]);
        }
        run.enter(REFERENCE);
        let (total, report) = (run.images.len(), &mut run.report);
        logits_with_progress(run.infected, run.images, &mut |done| report.progress(done, total, None))
    }

    /// Adversarial examples of the model as it was when the round began, so that a resumed run makes the same ones.
    /// With `every_batch` the trainer makes them.
    fn attack<'a>(&self, run: &mut Run, round: &'a Round) -> Result<TrainingSet<'a>> {
        let (seed, config) = (run.step_seed(1), &round.attack);
        let indices = sample(&run.state.selected, round.adversarial.limit, seed);
        if config.every_batch || round.adversarial.epochs == 0 {
            return Ok(TrainingSet { images: run.images.clone(), indices, attack: Some(config), seed });
        }
        run.enter(ATTACK);
        let now = run.model.weights()?;
        run.model.set_weights(&run.state.start)?;
        let (total, report) = (indices.len(), &mut run.report);
        let made = pgd(run.model, run.images, &indices, config, seed, &mut |done| {
            report.progress(done, total, None)
        });
        run.model.set_weights(&now)?;
        let Adversarial { images, loss } = made?;
        run.record().losses.insert(ATTACK.key.into(), loss);
        Ok(TrainingSet { images, indices: (0..total as u32).collect(), attack: None, seed })
    }

    /// The selected images, and the suspected ones under other labels where the round relabels them.
    fn clean_images(&self, run: &mut Run, round: &Round) -> Result<TrainingSet<'static>> {
        let seed = run.step_seed(2);
        let mut indices = sample(&run.state.selected, round.clean.limit, seed);
        let mut images = run.images.clone();
        if let Some((suspected, answers)) = self.relabelled(run, round)? {
            let mut labels = images.labels.to_vec();
            suspected.iter().zip(answers).for_each(|(&index, label)| labels[index as usize] = label);
            images = images.with_labels(labels);
            run.record().relabelled = suspected.len();
            indices.extend(suspected);
        }
        if let Some(triggered) = self.unlearning_images(run, round, &indices)? {
            run.record().unlearned = triggered.len();
            let first = indices.len() as u32;
            images = images.subset(&indices).followed_by(&triggered);
            indices = (0..first + triggered.len() as u32).collect();
        }
        Ok(TrainingSet { images, indices, attack: None, seed })
    }

    /// Some of the images at `indices` with the trigger that is reconstructed from the suspected images, under their own
    /// labels: what unlearning is in Neural Cleanse. None where no trigger works, or with more than one target.
    fn unlearning_images(&self, run: &mut Run, round: &Round, indices: &[u32]) -> Result<Option<ImageSet>> {
        let Some(suspects) = run.state.suspects.as_ref().filter(|suspects| suspects.has_trigger()) else {
            return Ok(None);
        };
        if round.unlearn == 0.0 {
            return Ok(None);
        }
        let &[target] = suspects.targets().as_slice() else { return Ok(None) };
        let Some(found) = WorkingTrigger::find(run.infected, run.images, suspects, target)? else {
            return Ok(None);
        };
        let others: Vec<u32> =
            indices.iter().copied().filter(|&index| run.images.labels[index as usize] != target).collect();
        let share = (round.unlearn * indices.len() as f64) as usize;
        let chosen = sample(&others, share.max(1), run.step_seed(3));
        Ok(Some(found.trigger.put_on(run.images.subset(&chosen))))
    }

    /// The suspected images of the attacker's labels, and the label that the model of the round's beginning gives each, its
    /// own left out. None where suspicion doesn't decide, or where that model still gives half of them their own label: then
    /// it holds the backdoor and is no judge, or the label is right (a clean-label attack).
    fn relabelled(&self, run: &mut Run, round: &Round) -> Result<Option<(Vec<u32>, Vec<u32>)>> {
        let Some(suspects) = self.decisive(run).filter(|_| round.relabel) else { return Ok(None) };
        // Those of other labels are clean ones that look unusual.
        let mut targets = suspects.targets();
        // Most images of such a label are poisoned; where it is a clean-label attack, the label is right.
        targets.retain(|&target| !suspects.labels[target as usize].is_inverted());
        let mut suspected = suspects.trained_on();
        suspected.retain(|&index| targets.contains(&run.images.labels[index as usize]));
        let images = run.images.subset(&suspected);
        let now = run.model.weights()?;
        run.model.set_weights(&run.state.start)?;
        let logits = logits(run.model, &images);
        run.model.set_weights(&now)?;
        let (mut logits, classes) = (logits?, run.model.graph().classes());
        let all: Vec<u32> = (0..suspected.len() as u32).collect();
        let held = agreeing(&all, &predictions(&logits, classes)?, &images.labels).len();
        if 2 * held >= suspected.len() {
            return Ok(None);
        }
        for (row, &label) in logits.chunks_exact_mut(classes).zip(images.labels.iter()) {
            row[label as usize] = f32::MIN;
        }
        Ok(Some((suspected, predictions(&logits, classes)?)))
    }

    /// How far the model's logits of every image agree with those of θ'; none with a clean set.
    fn rank(&self, run: &mut Run, reference: &[f32]) -> Result<Option<Agreement>> {
        if run.clean_set {
            return Ok(None);
        }
        run.enter(RANK);
        let (total, report) = (run.images.len(), &mut run.report);
        let mut progress = |done| report.progress(done, total, None);
        agreement(run.model, run.images, reference, &mut progress).map(Some)
    }

    /// The images of the next round: by the ranking; where suspicion decides, those that deviate least and whose label the
    /// purified model gives.
    fn select(&self, run: &mut Run, round: &Round, scores: &Agreement) -> Result<Vec<u32>> {
        let (labels, batch) = (&run.images.labels, self.trainer.batch);
        let ranking = Ranking {
            scores: &scores.cosine,
            predictions: &scores.predictions,
            labels,
            trained_on: &run.state.selected,
            classes: run.model.graph().classes(),
        };
        let mut selected = match self.decisive(run) {
            Some(suspects) => {
                let trusted = self.least_deviating(suspects, labels);
                let agreed = agreeing(&trusted, &scores.predictions, labels);
                let judges = round.select.label_agreement && agreed.len() >= batch.min(trusted.len());
                if judges { agreed } else { trusted }
            }
            None => ranking.select(&round.select, batch),
        };
        run.state.suspects.iter().for_each(|suspects| suspects.remove_from(&mut selected));
        run.report.observer.ranked(run.report.round, &scores.cosine, &selected)?;
        Ok(selected)
    }
}
