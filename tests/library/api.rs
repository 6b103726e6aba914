//! The calls at the crate's root, as another program makes them.

use pbe::data::Normalisation;
use pbe::defense::Phase;
use pbe::model::{Architecture, NetworkKind, Weights, to_bytes};
use pbe::{
    DeviceChoice, ImageSet, Model, NoopObserver, Observer, Options, Precision, Tensor, attack, inspect,
    logits, predict, purify, score,
};

const SIDE: usize = 12;

fn model() -> Model {
    let network = NetworkKind::PreActResNet18;
    let mut weights = Weights::initialise(Architecture { network, width: 2, classes: 2, channels: 3 }, 3);
    weights.normalisation = Some(Normalisation::identity(3));
    Model::from_bytes(&to_bytes(&weights).unwrap()).unwrap()
}

fn images() -> ImageSet {
    let noise = ImageSet::noise(24, SIDE, 3, 2);
    let (pixels, labels) = (noise.pixels.to_vec(), noise.labels.to_vec());
    ImageSet::new(pixels, labels, (SIDE, SIDE, 3), 2).unwrap()
}

fn options() -> Options {
    let settings =
        ["batch=8", "initial_set.no_sign=0", "rounds.*.adversarial.epochs=1", "rounds.*.clean.epochs=1"];
    Options { device: DeviceChoice::Cpu, settings: settings.map(String::from).to_vec(), ..Options::default() }
}

#[test]
fn images_in_memory_are_purified_attacked_scored_and_inspected() {
    let (model, images, options) = (model(), images(), options());
    let purified = purify(&model, &images, &options, &mut NoopObserver).unwrap();
    let again = purify(&model, &images, &options, &mut NoopObserver).unwrap();
    assert_eq!(purified.to_bytes().unwrap(), again.to_bytes().unwrap());
    assert_ne!(purified.weights().values, model.weights().values);
    let own = score(&model, &model, &images, &options).unwrap();
    assert!(own.iter().all(|cosine| (cosine - 1.0).abs() < 1e-5), "{own:?}");
    assert_eq!(score(&model, &purified, &images, &options).unwrap().len(), 24);
    let examples = attack(&model, &images, 8.0, &options).unwrap();
    let farthest = examples.pixels.iter().zip(images.pixels.iter()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!((1..=9).contains(&farthest.unwrap()), "{farthest:?}");
    let (detection, suspects) = inspect(&model, &images, &options).unwrap();
    assert_eq!((detection.images, suspects.deviation.len()), (24, 24));
    assert_eq!(predict(&model, &images, &options).unwrap(), suspects.predictions);
}

/// A state dict has no normalisation, may have a prefix before its names, and things beside the network.
#[test]
fn a_model_goes_through_its_tensors() {
    let (model, images, options) = (model(), images(), options());
    let names: Vec<String> = model.tensors().map(|tensor| format!("module.{}", tensor.name)).collect();
    let mut tensors: Vec<Tensor> =
        model.tensors().zip(&names).map(|(tensor, name)| Tensor { name, ..tensor }).collect();
    tensors.push(Tensor { name: "module.layer1.0.bn1.num_batches_tracked", shape: &[], values: &[7.0] });
    let mut same = Model::from_tensors(&tensors).unwrap();
    assert!(predict(&same, &images, &options).is_err_and(|e| e.to_string().contains("Model::fit")));
    same.set_normalisation("identity").unwrap();
    let own = logits(&model, &images, &options).unwrap();
    assert_eq!((&logits(&same, &images, &options).unwrap(), own.len()), (&own, 24 * 2));
    let classes = own.chunks(2).map(|row| u32::from(row[1] > row[0]));
    assert_eq!(classes.collect::<Vec<_>>(), predict(&same, &images, &options).unwrap());

    assert!(same.set_normalisation("imagenet21k").is_err_and(|e| e.to_string().contains("imagenet21k")));
    tensors[0].values = &tensors[0].values[1..];
    let short = Model::from_tensors(&tensors).unwrap_err().to_string();
    assert!(short.starts_with("module.conv1.weight: 53 values for the shape [2, 3, 3, 3]"), "{short}");
    let overflow = Tensor { name: "x", shape: &[usize::MAX, 2], values: &[] };
    assert!(Model::from_tensors(&[overflow]).is_err());
    assert!(Model::from_tensors(&[]).is_err_and(|e| e.to_string().contains("none of the networks")));
}

/// Counts calls, and ends the run at the third.
struct Third(usize);

impl Observer for Third {
    fn progress(&mut self, _: usize, _: Phase, _: usize, _: usize, _: Option<f32>) -> pbe::Result<()> {
        self.0 += 1;
        if self.0 == 3 { Err(pbe::Error::run("enough")) } else { Ok(()) }
    }
}

#[test]
fn an_observer_ends_a_purification() {
    let mut observer = Third(0);
    let cause = purify(&model(), &images(), &options(), &mut observer).unwrap_err();
    assert_eq!((cause.to_string().as_str(), observer.0), ("round 0, initial set: enough", 3));
}

#[test]
fn what_is_wrong_is_an_error_of_one_line() {
    let (model, images) = (model(), images());
    let wrong = |pixels: usize, labels: &[u32], shape| {
        ImageSet::new(vec![0; pixels], labels.to_vec(), shape, 2).unwrap_err().to_string()
    };
    assert!(wrong(11, &[0], (2, 2, 3)).contains("11 bytes are not 1 images of 2x2x3"));
    assert!(wrong(8, &[0], (2, 2, 2)).contains("2 channels"));
    assert!(wrong(12, &[2], (2, 2, 3)).contains("label 2 of 2 classes"));
    assert!(wrong(0, &[], (2, 2, 3)).contains("0 bytes"));
    assert!(wrong(0, &[0], (usize::MAX, 2, 3)).contains("not 1 images"));

    let other = ImageSet::new(vec![0; 432], vec![0], (SIDE, SIDE, 3), 5).unwrap();
    let cause = predict(&model, &other, &options()).unwrap_err().to_string();
    assert!(cause.contains("2 classes") && cause.contains("5"), "{cause}");
    let grey = ImageSet::new(vec![0; 144], vec![0], (SIDE, SIDE, 1), 2).unwrap();
    assert!(predict(&model, &grey, &options()).unwrap_err().to_string().contains("channels"));
    let bf16 = Options { precision: Some(Precision::Bf16), ..options() };
    match pbe::device::cpu::matrix_unit() {
        Some(_) => assert!(predict(&model, &images, &bf16).is_ok()),
        None => {
            assert!(predict(&model, &images, &bf16).is_err_and(|e| e.to_string().contains("precision bf16")))
        }
    }
    let options = Options { settings: vec!["nonsense=1".into()], ..options() };
    assert!(
        purify(&model, &images, &options, &mut NoopObserver)
            .is_err_and(|e| e.to_string().contains("nonsense"))
    );
    assert!(attack(&model, &images, -1.0, &options).is_err_and(|e| e.to_string().contains("-1")));
    assert!(Model::from_bytes(b"<html>").is_err_and(|e| e.to_string().contains("HTML")));
    let mut weights = model.weights().clone();
    weights.normalisation = None;
    let unknown = Model::from_bytes(&to_bytes(&weights).unwrap()).unwrap();
    assert!(predict(&unknown, &images, &options).is_err_and(|e| e.to_string().contains("Model::fit")));
}
