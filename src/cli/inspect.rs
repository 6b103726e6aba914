//! `pbe inspect`: says from its adversarial examples whether a model is infected, and for which label.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use pbe::analysis::{ATTACKS, Inspection, Verdict, attack_statistics, judge};
use pbe::data::{SampleSize, stratified_sample};
use pbe::engine::{EngineOptions, Norm};
use pbe::error::Result;
use pbe::report::{RunResult, Table, two_decimals};

use super::common::{DataArgs, ModelArgs, print};
use super::device::ComputeArgs;
use super::memory::{ImageBytes, MemoryEstimate};
use super::open::{Fitting, Model, tell};
use super::progress::Progress;

/// Training images that are attacked without `--limit`.
const LIMIT: usize = 200;

/// Options of `pbe inspect`.
#[derive(Args)]
pub struct InspectArgs {
    /// Model to inspect: safetensors, or a PyTorch checkpoint
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    input: ModelArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Runs the command.
pub fn run(args: &InspectArgs) -> Result<()> {
    let progress = Progress::new();
    let model = Model::load(&args.model, &args.input)?;
    let device = args.compute.open()?;
    let clock = Instant::now();
    let mut loaded = args.data.load_any(model.size(), model.channels(), args.compute.seed(), &progress)?;
    let data = args.data.data.as_path();
    let with =
        Fitting { device: device.as_ref(), data, args: &args.input, strict: true, progress: &progress };
    let network = model.fit(&mut loaded.set, &with)?;
    let inputs = tell(data, &loaded.set, &[&network.told], &progress);
    let images = match loaded.taken {
        Some(_) => loaded.limited(loaded.set.train.clone()),
        None => {
            let taken =
                stratified_sample(&loaded.set.train.labels, SampleSize::Count(LIMIT), args.compute.seed()).0;
            loaded.set.train.subset(&taken)
        }
    };
    let options = EngineOptions { attack: true, norm: Norm::L2, ..EngineOptions::default() };
    let bytes = ImageBytes { shared: 3 * images.pixels.len(), largest: images.pixels.len() };
    let networks = Box::new(move |_| vec![options]);
    MemoryEstimate { networks, ..MemoryEstimate::of(device.as_ref(), &network.graph, bytes) }.check()?;
    let load = clock.elapsed().as_secs_f64();

    let clock = Instant::now();
    let mut engine = network.open(device.as_ref(), &options)?;
    let found = attack_statistics(&mut engine, &images, &ATTACKS, args.compute.seed(), &mut |done| {
        progress.show("attacking", done, ATTACKS.len() * images.len(), None);
        Ok(())
    })?;
    progress.clear();
    let inspection = judge(found);
    if !args.compute.json {
        let classes: Vec<String> = match loaded.set.orders.is_empty() {
            true => (0..network.graph.classes()).map(|label| label.to_string()).collect(),
            false => images.classes.to_vec(),
        };
        return print(&text(&inspection, &classes));
    }
    let mut result = RunResult::new("inspect", &device.describe(), args.compute.seed());
    result.inputs = Some(inputs);
    result.inspection = Some(inspection);
    result.seconds = [("load".into(), load), ("attack".into(), clock.elapsed().as_secs_f64())].into();
    print(&result.to_json()?)
}

/// The verdict as text.
fn text(found: &Inspection, classes: &[String]) -> String {
    let mut table = Table::new(["label", "examples, %", "transfer of their mean perturbation, %"]);
    for (label, (class, share)) in classes.iter().zip(&found.histogram).enumerate() {
        let transfer = found.attacks.last().map(|attack| attack.transfer[label]);
        let rate = transfer.map(|it| 100.0 * it.transferred as f64 / it.images.max(1) as f64);
        table.row([class.clone(), two_decimals(Some(*share)), two_decimals(rate)]);
    }
    let verdict = match (found.verdict, found.target) {
        (Verdict::Infected, Some(target)) => format!("infected, target `{}`", classes[target as usize]),
        (Verdict::Infected, None) => "infected".into(),
        (Verdict::Undecided, _) => {
            "undecided: no label stands out, as in benign models and in some infected ones".into()
        }
    };
    format!("{table}\n{verdict} (index {:.2}, threshold {:.2})\n", found.index, found.threshold)
}
