//! D⁰: the images of the first round, from what tells poisoned images from clean ones in an infected model.
//!
//! The filters are in `src/eval/filter.rs`.

use super::INITIAL_SET;
use super::config::Pbe;
use crate::defense::Run;
use crate::error::Result;
use crate::eval::{Filter, FilterChain, FilterReport, View, agreeing, predictions};
use crate::rng::{Purpose, Stream};

impl Pbe {
    /// D⁰: a clean set as a whole; else candidates whose label the infected model gives (no trigger holds an image
    /// to a label that the model doesn't give), without those that a filter drops. `reference` are the infected model's logits
    /// of all images.
    pub(super) fn initial_set(&self, run: &mut Run, reference: &[f32]) -> Result<Vec<u32>> {
        let (images, classes) = (run.images, run.infected.graph().classes());
        if run.clean_set {
            return Ok((0..images.len() as u32).collect());
        }
        run.enter(INITIAL_SET);
        let mut candidates = Stream::new(run.seed, Purpose::Split, 0).permutation(images.len());
        candidates.truncate(self.candidates(images.len()));
        candidates.sort_unstable();
        let (mut kept, mut reports) = (candidates.clone(), vec![]);
        if self.initial_set.label_agreement {
            kept = agreeing(&candidates, &predictions(reference, classes)?, &images.labels);
            let (input, kept) = (candidates.clone(), kept.clone());
            reports.push(FilterReport { filter: "label".into(), input, kept, skipped: false });
        }
        let filters = self.filters();
        let (total, report) = (kept.len() * filters.list.len(), &mut run.report);
        let mut progress = |done| report.progress(done, total, None);
        let (kept, further) = filters.apply(run.infected, images, &kept, run.seed, &mut progress)?;
        reports.extend(further);
        run.report.observer.initial_set(&reports);
        // A model whose predictions no attack changes leaves nothing: then the candidates are the better guess.
        let set = if kept.len() < self.trainer.batch.min(candidates.len()) { candidates } else { kept };
        run.record().dropped = self.candidates(images.len()) - set.len();
        Ok(set)
    }

    /// The filters of the initial set, the cheap ones first.
    pub(super) fn filters(&self) -> FilterChain {
        let applies = |view: &&View| **view != View::Flip || self.trainer.flip;
        let views = self.initial_set.views.iter().filter(applies).map(|view| Filter::View(*view));
        let list =
            views.chain(self.initial_set.attacks.iter().map(|attack| Filter::Attack(*attack))).collect();
        FilterChain { list, max_dropped: self.initial_set.max_dropped }
    }
}
