//! What a purification found, in sentences.

use super::result::{ClassRecall, RunResult, TrainingAccuracy};
use super::table::two_decimals;
use crate::analysis::{AsrEstimate, Detection, EstimatedFrom, Verdict};
use crate::defense::SecondLook;

/// A class that loses more recall than this is named, in points.
const LOST: f64 = 5.0;

/// Points of accuracy that a purification may cost.
const WORSE: f64 = 5.0;
/// A backdoor with more of its attack success rate than this, in per cent and as a share, isn't erased.
const LEFT: (f64, f64) = (20.0, 0.5);

/// The sentences, without line breaks.
pub fn findings(result: &RunResult) -> Vec<String> {
    let mut sentences = vec![];
    if let Some(detection) = &result.detection {
        sentences.push(verdict(detection, &result.recall));
        if detection.verdict == Verdict::Infected {
            let none = "The attack success rate can't be estimated from the suspected images.";
            sentences.push(result.asr_estimate.as_ref().map_or(none.into(), estimate));
        }
    }
    sentences.extend(result.second_look.and_then(second_look).map(String::from));
    let relabelled = result.rounds.iter().rev().find_map(|round| round.relabelled);
    sentences.extend(relabelled.map(|count| {
        format!(
            "Trained on {count} of the suspected images under the labels that the purified model gave them."
        )
    }));
    let unlearned = result.rounds.iter().rev().find_map(|round| round.unlearned);
    sentences.extend(unlearned.map(|count| {
        format!(
            "Trained on {count} images with the reconstructed trigger under their own labels: the estimate after may be too low."
        )
    }));
    sentences.extend(result.training_accuracy.map(|TrainingAccuracy { images, before, after }| {
        format!("Accuracy on the {images} training images that aren't suspected: {before:.2} before, {after:.2} after.")
    }));
    sentences.extend(result.recall.iter().filter_map(lost));
    if ["purify", "demo"].contains(&result.command.as_str()) {
        sentences.extend(not_done(result).into_iter().map(|cause| format!("Not done: {cause}.")));
    }
    sentences
}

/// What speaks against the purified model.
pub fn not_done(result: &RunResult) -> Vec<String> {
    let (RunResult { before, after, .. }, mut sentences) = (result, vec![]);
    let own = result.training_accuracy.map(|own| (own.before, own.after));
    if let Some((before, after)) = before.clean_accuracy.zip(after.clean_accuracy).or(own)
        && before - after > WORSE
    {
        let lost = before - after;
        sentences
            .push(format!("the purified model is worse than the one given, by {lost:.2} points of accuracy"));
    }
    let estimated = result.asr_estimate.as_ref().map(|estimate| (estimate.before, estimate.after));
    if let Some((before, after)) = before.asr.zip(after.asr).or(estimated)
        && after > LEFT.0
        && after > LEFT.1 * before
    {
        sentences.push(format!(
            "the backdoor is still there, attack success rate {before:.2} before, {after:.2} after"
        ));
    }
    sentences
}

fn verdict(found: &Detection, classes: &[ClassRecall]) -> String {
    let Detection { images, suspected, p_value, calibrated_on, .. } = found;
    let share = two_decimals(Some(100.0 * *suspected as f64 / (*images).max(1) as f64));
    let counted = format!("{suspected} of {images} training images are suspected ({share} %)");
    let names: Vec<String> = found
        .targets
        .iter()
        .filter_map(|&target| classes.get(target as usize))
        .map(|class| format!("`{}`", class.class))
        .collect();
    match found.verdict {
        Verdict::Infected if names.len() > 1 && 2 * names.len() >= classes.len() => {
            format!("The model was infected, for {} of {} labels: {counted}.", names.len(), classes.len())
        }
        Verdict::Infected => format!("The model was infected, target {}: {counted}.", names.join(", ")),
        Verdict::NoSign => format!("The training images show no sign of a backdoor: {counted}."),
        Verdict::Undecided => format!(
            "Undecided whether the model was infected: {counted}; one label has a larger share than in most of {calibrated_on} benign models (p {p_value:.2})."
        ),
    }
}

/// What the second look changed.
fn second_look(said: SecondLook) -> Option<&'static str> {
    match said {
        SecondLook::Poisoned => Some(
            "They were found in a second look, with a first purified model; the purification then began anew.",
        ),
        SecondLook::NoSign => Some(
            "A second look, with a purified model, found nothing either: the model is as it was given. There are backdoors that neither look finds; `--set initial_set.no_sign=0` purifies all the same.",
        ),
        SecondLook::Undecided => None,
    }
}

fn estimate(found: &AsrEstimate) -> String {
    let AsrEstimate { from, images, before, after, relearnt } = found;
    let how = match from {
        EstimatedFrom::ReconstructedTrigger => {
            format!("measured with a trigger reconstructed from them, on {images} other images")
        }
        EstimatedFrom::Suspects => format!("measured on {images} of them that nothing was trained on"),
    };
    let again = relearnt.map_or(String::new(), |rate| {
        format!(", {rate:.2} after retraining for an epoch with 1 % of the suspected images")
    });
    format!("Estimated attack success rate: {before:.2} before, {after:.2} after{again} ({how}).")
}

fn lost(recall: &ClassRecall) -> Option<String> {
    let (before, after) = (recall.before?, recall.after?);
    let ClassRecall { class, .. } = recall;
    (before - after > LOST).then(|| format!("Class `{class}` lost recall: {before:.2} to {after:.2}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{LabelSuspects, Metrics};
    use crate::report::RoundResult;

    fn result(verdict: Verdict, targets: &[u32]) -> RunResult {
        let detection = Detection {
            verdict,
            targets: targets.to_vec(),
            index: 0.4,
            p_value: 0.03,
            calibrated_on: 30,
            images: 1000,
            suspected: 50,
            labels: vec![LabelSuspects::default(); 3],
        };
        let recall = |class: &str, after| ClassRecall { class: class.into(), before: Some(90.0), after };
        let recall = vec![recall("cat", Some(84.0)), recall("dog", Some(88.0)), recall("frog", None)];
        let mut result = RunResult::new("purify", "cpu", 0);
        (result.detection, result.recall) = (Some(detection), recall);
        result
    }

    #[test]
    fn the_target_the_estimate_and_lost_classes_are_told() {
        let mut one = result(Verdict::Infected, &[1]);
        one.asr_estimate = Some(AsrEstimate {
            from: EstimatedFrom::ReconstructedTrigger,
            images: 950,
            before: 99.0,
            after: 1.25,
            relearnt: Some(2.0),
        });
        let sentences = findings(&one);
        assert_eq!(sentences.len(), 3);
        assert_eq!(
            sentences[0],
            "The model was infected, target `dog`: 50 of 1000 training images are suspected (5.00 %)."
        );
        assert!(sentences[1].contains("99.00 before, 1.25 after, 2.00 after retraining"), "{}", sentences[1]);
        assert_eq!(sentences[2], "Class `cat` lost recall: 90.00 to 84.00.");
        assert!(findings(&result(Verdict::Infected, &[0, 1, 2]))[0].contains("for 3 of 3 labels"));
        one.rounds =
            vec![RoundResult::default(), RoundResult { relabelled: Some(40), ..RoundResult::default() }];
        assert!(findings(&one)[2].starts_with("Trained on 40 of the suspected images"));
    }

    /// A model without its task, or with its backdoor, isn't a purified one, whether that was measured or estimated.
    #[test]
    fn a_result_that_is_no_better_is_never_called_done() {
        let words =
            |result: &RunResult| findings(result).into_iter().filter(|it| it.starts_with("Not done")).count();
        let figures = |acc, asr| Metrics { clean_accuracy: Some(acc), asr: Some(asr), ..Metrics::default() };
        for (before, after, expected) in [
            ((90.0, 99.0), (85.5, 3.0), 0),
            ((90.0, 99.0), (84.5, 3.0), 1),
            ((90.0, 99.0), (40.0, 60.0), 2),
            ((90.0, 15.0), (90.0, 14.0), 0),
        ] {
            let mut one = RunResult::new("purify", "cpu", 0);
            one.judge(figures(before.0, before.1), figures(after.0, after.1));
            assert_eq!(words(&one), expected, "{before:?} {after:?}");
            let mut estimated = RunResult::new("purify", "cpu", 0);
            estimated.training_accuracy =
                Some(TrainingAccuracy { images: 9, before: before.0, after: after.0 });
            let from = EstimatedFrom::Suspects;
            estimated.asr_estimate =
                Some(AsrEstimate { from, images: 9, before: before.1, after: after.1, relearnt: None });
            assert_eq!(words(&estimated), expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn nothing_is_claimed_without_a_sign() {
        assert!(findings(&result(Verdict::NoSign, &[]))[0].contains("no sign"));
        assert!(findings(&result(Verdict::Undecided, &[]))[0].contains("30 benign models"));
        assert_eq!(findings(&RunResult::new("purify", "cpu", 0)), Vec::<String>::new());
    }
}
