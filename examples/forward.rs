//! Runs a model on some images, for `scripts/check_torchvision.py` and `scripts/signs.py`:
//!
//!     forward MODEL IMAGES.safetensors OUTPUT.safetensors [--steps N | --bf16]
//!
//! IMAGES holds `images` (N, height, width, channels; u8) and `labels` (N; i32). OUTPUT gets `logits` and
//! `direction`, the input gradient of each image's loss over its length: what one step of L2 PGD adds. With
//! `--steps`, N training steps of all images with no learning rate are made first, for the caller to time. With
//! `--bf16` it runs in bf16 on the first CUDA device, else on the processor.

use std::error::Error;
use std::sync::Arc;

use pbe::data::ImageSet;
use pbe::device::cpu::CpuDevice;
use pbe::device::cuda::CudaDevice;
use pbe::device::{Device, Norm, Precision, StepParams};
use pbe::engine::{AttackBatch, Budget, Engine, EngineOptions, Source};
use pbe::model::container::{Entry, Metadata, read, write};
use pbe::model::load;
use safetensors::Dtype;

/// A step so long that what it adds has all the digits of the gradient, and a ball that holds it.
const BUDGET: Budget = Budget { epsilon: 2048.0, alpha: 1024.0 };

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, images, output, rest @ ..] = arguments.as_slice() else {
        return Err("usage: forward MODEL IMAGES OUTPUT [--steps N | --bf16]".into());
    };
    let steps = if let [_, steps] = rest { steps.parse()? } else { 0 };
    let device: Box<dyn Device> = match rest {
        [bf16] if bf16 == "--bf16" => {
            Box::new(CudaDevice::open(0, Precision::Bf16).map_err(|error| error.to_string())?)
        }
        _ => Box::new(CpuDevice::new(Some(1))?),
    };
    let weights = load(model)?;
    let normalisation = weights.normalisation.clone().ok_or("the model has no normalisation")?;
    let images = image_set(&std::fs::read(images)?, weights.architecture.classes)?;
    let count = images.labels.len();
    let graph = weights.architecture.graph(&normalisation, images.height, images.width)?;
    let batch = if steps > 0 { count } else { 0 };
    let options = EngineOptions { batch, attack: true, norm: Norm::L2, ..EngineOptions::default() };
    let mut engine = Engine::open(device.as_ref(), &graph, &weights.values, &options)?;
    engine.attach(&images)?;
    let indices: Vec<u32> = (0..count as u32).collect();
    let still = StepParams::default();
    for _ in 0..steps {
        engine.train_step(Source::Images, &indices, &images.labels, None, &still)?;
    }
    let logits = engine.logits(&indices)?;
    let direction = direction(&mut engine, &images, &indices)?;
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (logit_bytes, direction_bytes) = (bytes(&logits), bytes(&direction));
    let shapes = [vec![count, graph.classes()], vec![count, images.height, images.width, images.channels]];
    let entries = [("logits", &logit_bytes), ("direction", &direction_bytes)];
    let entries: Vec<Entry> = entries
        .into_iter()
        .zip(&shapes)
        .map(|((name, bytes), shape)| Entry { name, dtype: Dtype::F32, shape, bytes })
        .collect();
    std::fs::write(output, write(&Metadata::new(), &entries))?;
    Ok(())
}

/// The images of a file, classes by number.
fn image_set(bytes: &[u8], classes: usize) -> Result<ImageSet, Box<dyn Error>> {
    let (file, _) = read(bytes)?;
    let (pixels, labels) = (file.tensor("images")?, file.tensor("labels")?);
    let &[_, height, width, channels] = pixels.shape() else {
        return Err("images have four dimensions".into());
    };
    let words = labels.data().as_chunks::<4>().0;
    let labels: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    Ok(ImageSet {
        pixels: Arc::new(pixels.data().to_vec()),
        names: Arc::new(labels.iter().map(u32::to_string).collect()),
        labels: Arc::new(labels),
        classes: Arc::new((0..classes).map(|class| class.to_string()).collect()),
        height,
        width,
        channels,
    })
}

/// Each image's input gradient over its length.
fn direction(engine: &mut Engine, images: &ImageSet, indices: &[u32]) -> pbe::error::Result<Vec<f32>> {
    let budgets = vec![BUDGET; indices.len()];
    let target = AttackBatch {
        source: Source::Images,
        indices,
        labels: &images.labels,
        budgets: &budgets,
        predict: false,
    };
    let params = StepParams { random_start: false, clamp: false, ..StepParams::default() };
    let len = images.image_len();
    let mut moved = vec![0.0; indices.len() * len];
    engine.attack(&target, &params, |rows| rows.adversarial(&mut moved[rows.first * len..]))?;
    let pixel = |i: usize| f32::from(images.pixels[i]) / 255.0;
    Ok(moved.iter().enumerate().map(|(i, value)| (value - pixel(i)) / BUDGET.alpha).collect())
}
