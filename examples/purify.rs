//! Purifies a model from another program's point of view: `purify MODEL DATA OUTPUT` reads a model and its training data,
//! erases what may be planted in the model, and writes the result.

use pbe::{NoopObserver, Options, inspect, load_data, load_model, predict, purify};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, data, output] = &arguments[..] else {
        return Err("usage: purify MODEL DATA OUTPUT".into());
    };
    let mut suspect = load_model(model)?;
    let options = Options::default();
    let set = load_data(data, &mut suspect, &options)?;
    let options = Options { flip: set.allows_flip(), ..options };
    let (detection, suspects) = inspect(&suspect, &set.train, &options)?;
    println!("{:?}: {} of {} images suspected", detection.verdict, suspects.images.len(), set.train.len());

    let purified = purify(&suspect, &set.train, &options, &mut NoopObserver)?;
    if let Some(test) = &set.test {
        for (name, model) in [("before", &suspect), ("after", &purified)] {
            let predicted = predict(model, test, &options)?;
            println!("{name}: accuracy {:?}", pbe::eval::accuracy(&predicted, &test.labels));
        }
    }
    purified.save(output)?;
    Ok(())
}
