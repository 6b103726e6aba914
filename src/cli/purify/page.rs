//! `report.html` of a purification: the verdict, before and after, and the images that it rests on.

use std::sync::Arc;

use pbe::analysis::Verdict;
use pbe::data::ImageSet;
use pbe::error::Result;
use pbe::eval::{Metrics, SUSPECT_DEVIATION};
use pbe::inputs::Inputs;
use pbe::report::page::Page;
use pbe::report::svg::{LineSeries, lines};
use pbe::report::{RunResult, findings, two_decimals};

use super::data::PurifyData;
use super::findings::Findings;

/// Suspected images that are shown.
const SHOWN: usize = 8;
/// Columns of the histogram.
const BINS: usize = 40;
/// The largest deviation that the histogram shows.
const DEVIATION: f64 = 1.2;

/// The page. `command` repeats the run.
pub fn page(result: &RunResult, found: &Findings, data: &PurifyData, command: &str) -> Result<String> {
    let verdict = match found.detection.verdict {
        Verdict::Infected => "The model was infected",
        Verdict::NoSign => "No sign of a backdoor",
        Verdict::Undecided => "Undecided",
    };
    let sentences = findings(result);
    let (first, others) = sentences.split_first().map_or(("", &[][..]), |(first, others)| (first, others));
    let mut page = Page::new(verdict, first);
    page.list(others);
    page.list(&result.warnings);
    page.heading("Before and after");
    page.table(&before_and_after(result), &explained(result));
    suspected(&mut page, found, &data.images)?;
    page.heading("Deviations");
    page.figure(&histogram(found), "Training images by how far their activation gradients are from those of their label. An image is suspected where it deviates by more than the line and the model as given gives its label.");
    if result.rounds.len() > 1 {
        page.heading("Rounds");
        page.figure(&rounds(result), "After each round.");
    }
    page.heading("Classes");
    page.table(
        &classes(found),
        "Recall in per cent, and training images that the model as given gives their label.",
    );
    if let Some(Inputs { data, models }) = &result.inputs {
        let data = data.iter().map(ToString::to_string);
        page.heading("What was read");
        page.list(&data.chain(models.iter().map(ToString::to_string)).collect::<Vec<_>>());
    }
    page.heading("Repeat the run");
    page.code(command);
    Ok(page.finish(&result.to_json()?))
}

/// The estimate after retraining, where there is one.
fn relearnt(result: &RunResult) -> Option<f64> {
    result.asr_estimate.as_ref().and_then(|estimate| estimate.relearnt)
}

/// What the table of [`before_and_after`] says.
fn explained(result: &RunResult) -> String {
    let mut text = String::from(
        "Per cent. ACC: accuracy on the test images, or, where there are none, on the training images that aren't suspected. ASR: attack success rate, measured where the trigger is known, else estimated from the suspected images.",
    );
    if relearnt(result).is_some() {
        text.push_str(" Retrained: the purified model after an epoch with 1 % of the suspected images among others, to see whether the backdoor comes back.");
    }
    text
}

fn before_and_after(result: &RunResult) -> Vec<Vec<String>> {
    let estimate = result.asr_estimate.as_ref();
    let own = result.training_accuracy;
    let row = |name: &str, metrics: &Metrics, training: Option<f64>, estimated: Option<f64>| {
        vec![
            name.to_string(),
            two_decimals(metrics.clean_accuracy.or(training)),
            two_decimals(metrics.asr),
            two_decimals(estimated),
        ]
    };
    let mut rows = vec![
        ["", "ACC", "ASR, measured", "ASR, estimated"].map(String::from).to_vec(),
        row("as given", &result.before, own.map(|own| own.before), estimate.map(|estimate| estimate.before)),
        row("purified", &result.after, own.map(|own| own.after), estimate.map(|estimate| estimate.after)),
    ];
    rows.extend(relearnt(result).map(|rate| row("retrained", &Metrics::default(), None, Some(rate))));
    rows
}

/// The most suspicious images, and the trigger reconstructed from them.
fn suspected(page: &mut Page, found: &Findings, images: &ImageSet) -> Result<()> {
    if found.suspects.images.is_empty() {
        return Ok(());
    }
    page.heading("The most suspicious training images");
    let shown: Vec<u32> = found.suspects.images.iter().take(SHOWN).copied().collect();
    let shown = images.subset(&shown);
    let mut rows = vec![("suspected", &shown)];
    let mut caption = String::from("All of them are in suspects.csv.");
    let difference = picture(found, images);
    if let Some(difference) = &difference {
        rows.push(("reconstructed trigger", difference));
        caption.push_str(" The trigger is reconstructed from what they have in common beside other images; it is grey where it changes nothing.");
    }
    page.pictures(&rows, &caption)
}

/// The reconstructed trigger as a picture: grey, and twice the shift.
fn picture(found: &Findings, images: &ImageSet) -> Option<ImageSet> {
    if found.shift.is_empty() {
        return None;
    }
    let byte = |value: &f64| (127.5 + 2.0 * value).round().clamp(0.0, 255.0) as u8;
    let pixels: Vec<u8> = found.shift.iter().map(byte).collect();
    let one = images.subset(&[0]);
    Some(ImageSet { pixels: Arc::new(pixels), names: Arc::new(vec!["reconstructed trigger".into()]), ..one })
}

/// How many images deviate by how much: those that aren't suspected, those that are, and the line between them.
fn histogram(found: &Findings) -> String {
    let mut suspected = vec![false; found.suspects.deviation.len()];
    found.suspects.images.iter().for_each(|&index| suspected[index as usize] = true);
    let counts = |wanted: bool| {
        let mut counts = [0u32; BINS];
        for (deviation, suspected) in found.suspects.deviation.iter().zip(&suspected) {
            if *suspected == wanted {
                let bin = f64::from(*deviation) / DEVIATION * BINS as f64;
                counts[(bin as usize).min(BINS - 1)] += 1;
            }
        }
        counts.map(f64::from)
    };
    let [others, ours] = [counts(false), counts(true)];
    let most = others.iter().chain(&ours).fold(1.0f64, |most, &count| most.max(count));
    let series = |name: &str, counts: [f64; BINS]| {
        let place = |bin: usize| (bin as f64 + 0.5) * DEVIATION / BINS as f64;
        let points = counts.iter().enumerate().map(|(bin, &count)| [place(bin), count]).collect();
        LineSeries { name: name.into(), points }
    };
    let cut = f64::from(SUSPECT_DEVIATION);
    let cut = LineSeries { name: "cut".into(), points: vec![[cut, 0.0], [cut, most]] };
    let all = [series("not suspected", others), series("suspected", ours), cut];
    lines("Training images by deviation", ("deviation", [0.0, DEVIATION]), ("images", [0.0, most]), &all)
}

fn rounds(result: &RunResult) -> String {
    let last = (result.rounds.len() - 1) as f64;
    let series = |name: &str, of: &dyn Fn(&pbe::report::RoundResult) -> Option<f64>| {
        let points = result.rounds.iter().filter_map(|round| Some([f64::from(round.round), of(round)?]));
        LineSeries { name: name.into(), points: points.collect() }
    };
    let mut all = vec![
        series("ACC", &|round| round.clean_accuracy),
        series("ASR", &|round| round.asr),
        series("selected, % of the images", &|round| round.selected_share.map(|share| 100.0 * share)),
    ];
    all.retain(|series| !series.points.is_empty());
    lines("Rounds", ("round", [0.0, last]), ("per cent", [0.0, 100.0]), &all)
}

fn classes(found: &Findings) -> Vec<Vec<String>> {
    let head = ["class", "before", "after", "images", "suspected"].map(String::from).to_vec();
    let rows = found.recall.iter().zip(&found.suspects.labels).map(|(recall, label)| {
        vec![
            recall.class.clone(),
            two_decimals(recall.before),
            two_decimals(recall.after),
            label.images.to_string(),
            label.suspected.to_string(),
        ]
    });
    std::iter::once(head).chain(rows).collect()
}
