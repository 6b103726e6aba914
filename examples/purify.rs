//! Purifies a model from another program's point of view: `purify MODEL DATA OUTPUT` reads a
//! safetensors file and a data folder, erases what may be planted in the model, and writes the result.

use std::path::Path;

use pbe::data::LoadOptions;
use pbe::defense::config::{PurifyConfig, Recipe};
use pbe::defense::pbe::{Models, Pbe};
use pbe::defense::state::State;
use pbe::defense::watcher::Quiet;
use pbe::engine::{CpuDevice, Engine};
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
    let config = PurifyConfig::new(Recipe::Default, false);
    let open = |trained| Engine::open(&device, &graph, &weights.values, &config.engine_options(trained));
    let mut models = Models { infected: open(false)?, purified: open(true)? };
    let (images, seed) = (&set.train, 0);
    Pbe { models: &mut models, images, clean_set: false, config: &config, seed }
        .run(&mut State::default(), &mut Quiet)?;

    if let Some(test) = &set.test {
        let evaluator = Evaluator::new(test);
        println!("before: {:?}", evaluator.measure(&mut models.infected)?);
        println!("after:  {:?}", evaluator.measure(&mut models.purified)?);
    }
    weights.values = models.purified.weights()?;
    pbe::model::save(&weights, output)?;
    Ok(())
}
