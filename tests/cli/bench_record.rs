//! BackdoorBench's record of an attack as model, truth and triggered images.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use image::Rgb;
use pbe::model::container::read;
use safetensors::Dtype;

use super::inputs::{CLASSES, evaluated, picture, set, trained, usual};
use super::program::{assert_says, fails, run, text, word};

/// What a pickle is of.
enum Item {
    Text(String),
    Int(i32),
    List(Vec<Item>),
    Dict(Vec<(Item, Item)>),
    /// A storage of f32 and a shape.
    Tensor(String, Vec<usize>),
}

fn name(text: impl Into<String>) -> Item {
    Item::Text(text.into())
}

impl Item {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Item::Text(text) => {
                out.push(b'X');
                out.extend((text.len() as u32).to_le_bytes());
                out.extend(text.as_bytes());
            }
            Item::Int(value) => {
                out.push(b'J');
                out.extend(value.to_le_bytes());
            }
            Item::List(items) => {
                out.push(b'(');
                items.iter().for_each(|item| item.write(out));
                out.push(b'l');
            }
            Item::Dict(entries) => {
                out.extend(b"}(");
                entries.iter().for_each(|(key, value)| [key, value].iter().for_each(|item| item.write(out)));
                out.push(b'u');
            }
            Item::Tensor(storage, shape) => {
                let strides = (0..shape.len()).map(|at| shape[at + 1..].iter().product::<usize>());
                out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
                name("storage").write(out);
                out.extend(b"ctorch\nFloatStorage\n");
                name(storage).write(out);
                name("cpu").write(out);
                Item::Int(shape.iter().product::<usize>() as i32).write(out);
                out.extend(b"tQ");
                Item::Int(0).write(out);
                Item::List(shape.iter().map(|&size| Item::Int(size as i32)).collect()).write(out);
                Item::List(strides.map(|stride| Item::Int(stride as i32)).collect()).write(out);
                out.extend(b"tR");
            }
        }
    }
}

/// Writes an image of the set with a white corner, and its entry in the record; the path is another machine's.
fn poisoned(folder: &Path, part: &str, index: usize, label: usize, number: usize) -> (Item, Item) {
    let mut image = picture(label, number);
    (8..12).for_each(|y| (8..12).for_each(|x| image.put_pixel(x, y, Rgb([255; 3]))));
    let place = format!("{part}/{label}");
    fs::create_dir_all(folder.join(&place)).unwrap();
    image.save(folder.join(&place).join(format!("{index}.png"))).unwrap();
    let path = format!("/home/somebody/record/attack/{place}/{index}.png");
    let labels = Item::List(vec![Item::Int(0), Item::Int(label as i32)]);
    (Item::Int(index as i32), Item::Dict(vec![(name("path"), name(path)), (name("other_info"), labels)]))
}

/// A record: the model, every fourth training image of classes 1 to 11 and all test images of them, for label 0.
fn record(folder: &Path) -> PathBuf {
    let bytes = fs::read(trained("half")).unwrap();
    let (file, _) = read(&bytes).unwrap();
    let (mut model, mut storages) = (vec![], vec![]);
    for (key, tensor) in file.tensors().iter().filter(|(_, tensor)| tensor.dtype() == Dtype::F32) {
        model.push((name(key), Item::Tensor(storages.len().to_string(), tensor.shape().to_vec())));
        storages.push(tensor.data().to_vec());
    }
    let part = |part: &str, images: usize, step: usize| {
        let all =
            (1..CLASSES.len()).flat_map(|label| (0..images).step_by(step).map(move |number| (label, number)));
        let shown = if part == "bd_train_dataset" { 0 } else { 40 };
        let entry = |(label, number)| poisoned(folder, part, label * images + number, label, number + shown);
        let container = Item::Dict(vec![(name("data_dict"), Item::Dict(all.map(entry).collect()))]);
        Item::Dict(vec![(name("bd_data_container"), container)])
    };
    let root = Item::Dict(vec![
        (name("model_name"), name("preactresnet18")),
        (name("model"), Item::Dict(model)),
        (name("bd_train"), part("bd_train_dataset", 16, 4)),
        (name("bd_test"), part("bd_test_dataset", 4, 1)),
    ]);
    let mut pickle = b"\x80\x02".to_vec();
    root.write(&mut pickle);
    pickle.push(b'.');
    let path = folder.join("attack_result.pt");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let files = storages.iter().enumerate().map(|(key, bytes)| (format!("data/{key}"), bytes));
    for (file, bytes) in [("data.pkl".to_string(), &pickle)].into_iter().chain(files) {
        zip.start_file(format!("attack_result/{file}"), stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    path
}

#[test]
fn a_record_is_model_data_and_truth() {
    let (folder, data) = (tempfile::tempdir().unwrap(), set(["train", "test"], usual));
    let record = record(folder.path());
    let (result, said) = evaluated(&record, data.path(), &["--trigger", word(&record)]);
    assert!(result["after"]["asr"].is_number() && result["after"]["robust_accuracy"].is_number());
    assert_says(&said, &["weights `model`", "normalisation half (fitted)"]);

    let output = folder.path().join("run");
    let arguments = [
        &[
            "purify",
            "--model",
            word(&record),
            "--poison",
            word(&record),
            "--data",
            word(data.path()),
            "--set",
            "rounds=1",
        ][..],
        &["--set", "rounds.0.adversarial.epochs=1", "--set", "rounds.0.clean.epochs=1", "--set", "batch=16"],
        &super::program::NO_FILTERS,
        &["--output", word(&output), "--json"],
    ]
    .concat();
    let run = run(&arguments);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let result: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    // 11 classes, each with 4 of 16 images poisoned.
    let clean = result["rounds"][0]["trained_precision"].as_f64().unwrap();
    assert!(clean > 0.5 && clean < 1.0, "{clean}");
    assert!(result["after"]["asr"].is_number());
}

#[test]
fn a_record_of_other_data_is_refused() {
    let (folder, data) = (tempfile::tempdir().unwrap(), set(["train", "test"], usual));
    let record = record(folder.path());
    fs::remove_dir_all(data.path().join("train/05")).unwrap();
    fs::create_dir(data.path().join("train/05")).unwrap();
    let output = folder.path().join("run");
    let arguments =
        ["purify", "--model", word(&record), "--poison", word(&record), "--output", word(&output)];
    let message = fails(&[&arguments[..], &["--data", word(data.path())]].concat());
    assert_says(&message, &["attack_result.pt", "of label 5, but image 80 of the data has label 6"]);
    // The poisoned images alone are no data set.
    let message = fails(&[&arguments[..], &["--data", word(folder.path())]].concat());
    assert_says(&message, &["bd_train_dataset", "--poison"]);
}
