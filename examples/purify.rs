//! Purifies a model from another program's point of view: `purify MODEL DATA OUTPUT` reads a
//! safetensors file and a data folder, erases what may be planted in the model, and writes the result.

use std::path::Path;

use pbe::data::LoadOptions;
use pbe::defense::{Defense, Facts, NoopObserver, Pbe, RunInputs, RunState, purify};
use pbe::engine::{CpuDevice, Engine, EngineOptions};
use pbe::eval::Evaluator;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, data, output] = &arguments[..] else {
        return Err("usage: purify MODEL DATA OUTPUT".into());
    };
    let mut weights = pbe::model::load(model)?;
    let channels = Some(weights.architecture.channels);
    let options = LoadOptions { size: weights.input_size, channels, ..LoadOptions::default() };
    let set = pbe::data::load(Path::new(data), &options, &|_, _| ())?;
    let normalisation = weights.normalisation.as_ref().unwrap_or(&set.normalisation);
    let graph = weights.architecture.graph(normalisation, set.train.height, set.train.width)?;

    let device = CpuDevice::new(None)?;
    let pbe = Pbe::defaults(&Facts::new(false))?;
    let options = EngineOptions { attack: true, ..pbe.trainer().engine_options() };
    let mut infected =
        Engine::open(&device, &graph, &weights.values, &EngineOptions { batch: 0, ..options })?;
    let mut model = Engine::open(&device, &graph, &weights.values, &options)?;
    let inputs = RunInputs {
        infected: &mut infected,
        model: &mut model,
        images: &set.train,
        clean_set: false,
        seed: 0,
    };
    purify(&pbe, inputs, &mut RunState::default(), &mut NoopObserver)?;

    if let Some(test) = &set.test {
        let evaluator = Evaluator::new(test);
        println!("before: {:?}", evaluator.measure(&mut infected)?);
        println!("after:  {:?}", evaluator.measure(&mut model)?);
    }
    weights.values = model.weights()?;
    pbe::model::save(&weights, output)?;
    Ok(())
}
