//! `pbe inspect`: says whether a model is infected, and for which label, from its training images and from its
//! adversarial examples.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use pbe::analysis::{ATTACKS, Detection, Inspection, Verdict, attack_statistics, judge};
use pbe::data::{ImageSet, SampleSize, stratified_sample};
use pbe::device::Device;
use pbe::engine::{EngineOptions, Norm};
use pbe::error::{Error, Result};
use pbe::eval::{LabelProbe, find_suspects};
use pbe::fs::check_folder_of;
use pbe::report::{RunResult, Table, csv, two_decimals};

use super::common::{DataArgs, ModelArgs, print};
use super::device::ComputeArgs;
use super::memory::{ImageBytes, MemoryEstimate};
use super::open::{Fitting, Model, Network, tell};
use super::progress::Progress;
use super::purify::training_images;
use super::truth::Truth;

/// Training images that are looked at without `--limit`.
const LIMIT: usize = 10_000;
/// Of those, images that are attacked.
const ATTACKED: usize = 200;

/// Options of `pbe inspect`.
#[derive(Args)]
pub struct InspectArgs {
    /// Model to inspect: safetensors, or a PyTorch checkpoint
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    /// The truth, where it is known: poisons the data as it says
    #[arg(long, value_name = "FILE")]
    poison: Option<PathBuf>,
    /// Write the suspected images as CSV: index, file, label, deviation
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// End with exit code 3 at this verdict
    #[arg(long, value_name = "VERDICT")]
    fail_on: Option<FailOn>,
    #[command(flatten)]
    input: ModelArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// A verdict that ends in an exit code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    Infected,
}

/// Runs the command.
pub fn run(args: &InspectArgs) -> Result<()> {
    let progress = Progress::new();
    args.output.as_deref().map_or(Ok(()), check_folder_of)?;
    let model = Model::load(&args.model, &args.input)?;
    let truth = args.poison.as_deref().map(Truth::load).transpose()?;
    let (device, seed) = (args.compute.open()?, args.compute.seed());
    let clock = Instant::now();
    let mut loaded = args.data.load_any(model.size(), model.channels(), seed, &progress)?;
    let data = args.data.data.as_path();
    let with =
        Fitting { device: device.as_ref(), data, args: &args.input, strict: true, progress: &progress };
    let network = model.fit(&mut loaded.set, &with)?;
    let inputs = tell(data, &loaded.set, &[&network.told], &progress);
    let taken = loaded.taken.clone().unwrap_or_else(|| sample(&loaded.set.train, LIMIT, seed));
    let images = training_images(&loaded, truth.as_ref())?.0;
    let images = if loaded.taken.is_some() { images } else { images.subset(&taken) };
    let allows_flip = loaded.set.allows_flip();
    // A folder of images without classes has no labels that could be looked at.
    let labelled = !loaded.set.orders.is_empty();
    let options = check_memory(device.as_ref(), &network, &images, labelled)?;
    let load = clock.elapsed().as_secs_f64();

    let clock = Instant::now();
    let mut engine = network.open(device.as_ref(), &options)?;
    let suspects = match labelled {
        false => None,
        true => Some(find_suspects(&mut engine, &images, allows_flip, seed, &mut |done, total| {
            progress.show("looking at training images", done, total, None);
            Ok(())
        })?),
    };
    let looked = clock.elapsed().as_secs_f64();
    let attacked = images.subset(&sample(&images, ATTACKED, seed));
    let statistics = attack_statistics(&mut engine, &attacked, &ATTACKS, seed, &mut |done| {
        progress.show("attacking", done, ATTACKS.len() * attacked.len(), None);
        Ok(())
    })?;
    progress.clear();
    let inspection = Inspection::new(suspects.as_ref().map(Detection::new), judge(statistics));
    if let (Some(path), Some(suspects)) = (&args.output, &suspects) {
        csv::write_suspects(path, &images, &taken, suspects)?;
    }
    let infected = inspection.verdict == Verdict::Infected;
    if args.compute.json {
        let mut result = RunResult::new("inspect", &device.describe(), seed);
        result.inputs = Some(inputs);
        result.inspection = Some(inspection);
        let attack = clock.elapsed().as_secs_f64() - looked;
        result.seconds =
            [("load".into(), load), ("training_images".into(), looked), ("attack".into(), attack)].into();
        print(&result.to_json()?)?;
    } else {
        let classes: Vec<String> = match labelled {
            true => images.classes.to_vec(),
            false => (0..network.graph.classes()).map(|label| label.to_string()).collect(),
        };
        print(&text(&inspection, &classes))?;
    }
    match args.fail_on {
        Some(FailOn::Infected) if infected => {
            Err(Error::Verdict(format!("{}: infected (--fail-on)", args.model.display())))
        }
        _ => Ok(()),
    }
}

/// At most `count` images, class proportions kept.
fn sample(images: &ImageSet, count: usize, seed: u64) -> Vec<u32> {
    stratified_sample(&images.labels, SampleSize::Count(count), seed).0
}

fn check_memory(
    device: &dyn Device,
    network: &Network,
    images: &ImageSet,
    labelled: bool,
) -> Result<EngineOptions> {
    let options = EngineOptions {
        attack: true,
        norm: Norm::L2,
        activation_gradients: labelled,
        ..EngineOptions::default()
    };
    let bytes = ImageBytes { shared: 3 * images.pixels.len(), largest: images.pixels.len() };
    let networks = Box::new(move |_| vec![options]);
    MemoryEstimate { networks, ..MemoryEstimate::of(device, &network.graph, bytes) }.check()?;
    Ok(options)
}

/// Labels with their suspected images and examples, then the verdict.
fn text(found: &Inspection, classes: &[String]) -> String {
    let test = &found.adversarial_examples;
    let mut table = Table::new([
        "label",
        "images",
        "suspected",
        "adversarial examples, %",
        "transfer of their mean perturbation, %",
    ]);
    for (label, (class, share)) in classes.iter().zip(&test.histogram).enumerate() {
        let transfer = test.attacks.last().map(|attack| attack.transfer[label]);
        let rate = transfer.map(|it| 100.0 * it.transferred as f64 / it.images.max(1) as f64);
        let of = found.training_images.as_ref().map(|found| found.labels[label]);
        let count = |of: Option<u64>| of.map_or("—".into(), |count| count.to_string());
        table.row([
            class.clone(),
            count(of.map(|of| of.images)),
            count(of.map(|of| of.suspected)),
            two_decimals(Some(*share)),
            two_decimals(rate),
        ]);
    }
    let (index, threshold) = (test.index, test.threshold);
    let mut text = format!("{table}\n{}\n", verdict(found, classes));
    if let Some(detection) = &found.training_images {
        text += &format!("training images: {}\n", evidence(detection));
        text.extend(triggers(detection, classes));
    }
    text + &format!("adversarial examples: index {index:.2}, threshold {threshold:.2}\n")
}

/// The verdict in a sentence.
fn verdict(found: &Inspection, classes: &[String]) -> String {
    let all = found.targets.len() * 2 >= classes.len() && found.targets.len() > 1;
    match found.verdict {
        Verdict::Infected if all => {
            format!("infected: {} of {} labels are targets (all-to-all)", found.targets.len(), classes.len())
        }
        Verdict::Infected => {
            let targets: Vec<String> =
                found.targets.iter().map(|&label| format!("`{}`", classes[label as usize])).collect();
            format!("infected: target {}", targets.join(", "))
        }
        Verdict::NoSign => "no sign of a backdoor: the training images look as they do to benign models".into(),
        Verdict::Undecided if found.training_images.is_none() => {
            "undecided: no label stands out, as in benign models and in most infected ones; with the labelled training \
             images more can be said"
                .into()
        }
        Verdict::Undecided => {
            "undecided: a label has a larger share of suspected images than in most benign models, but not than in 95 % of them".into()
        }
    }
}

/// The labels whose images show a trigger.
fn triggers(detection: &Detection, classes: &[String]) -> impl Iterator<Item = String> {
    let shown = detection.labels.iter().zip(classes).filter(|(label, _)| label.has_trigger());
    shown.filter_map(|(label, class)| {
        let LabelProbe { rate, images, .. } = label.probe?;
        Some(format!(
            "a trigger reconstructed from {images} images of `{class}` sends {rate:.1} % of other images to it\n"
        ))
    })
}

fn evidence(detection: &Detection) -> String {
    let Detection { images, suspected, index, p_value, calibrated_on, .. } = detection;
    format!(
        "{suspected} of {images} suspected, index {:.2} %, p {p_value:.3} against {calibrated_on} benign models",
        100.0 * index
    )
}
