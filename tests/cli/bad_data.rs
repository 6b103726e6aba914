//! Data that can't be used: the file is named, exit code 2.

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use tempfile::TempDir;

use super::program::{SMALL, assert_says, fails, run, text, word};

/// `images` JPEG files for each class.
fn folder(classes: &[&str], images: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (number, class) in classes.iter().enumerate() {
        let class = folder.path().join("train").join(class);
        fs::create_dir_all(&class).unwrap();
        for index in 0..images {
            let shade = (60 * number as u32 + 10 * index) as u8;
            let image = RgbImage::from_fn(8, 8, |x, y| Rgb([shade, 20 * x as u8, 20 * y as u8]));
            image.save(class.join(format!("{index}.jpg"))).unwrap();
        }
    }
    folder
}

fn infection<'a>(data: &'a Path, output: &'a Path) -> Vec<&'a str> {
    let mut arguments = vec!["infect", "--attack", "badnets", "--epochs", "1"];
    arguments.extend(["--data", word(data), "--output", word(output)]);
    arguments.extend(SMALL);
    arguments
}

/// The error of training on the data; no run folder may be left.
#[track_caller]
fn refusal(data: &Path) -> String {
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("run");
    let message = fails(&infection(data, &output));
    assert!(!output.exists(), "a run folder is left");
    assert_says(&message, &[word(data)]);
    message
}

#[test]
fn an_empty_folder() {
    let folder = tempfile::tempdir().unwrap();
    assert_says(&refusal(folder.path()), &["empty"]);
    assert_says(&refusal(&folder.path().join("absent")), &["no such folder"]);
}

#[test]
fn one_class() {
    assert_says(&refusal(folder(&["a"], 4).path()), &["one class (`a`)"]);
}

#[test]
fn one_image() {
    assert_says(&refusal(folder(&["a"], 1).path()), &["one image"]);
}

#[test]
fn a_corrupt_image_among_good_ones() {
    let data = folder(&["a", "b"], 9);
    let bad = data.path().join("train/b/7.jpg");
    let bytes = fs::read(&bad).unwrap();
    fs::write(&bad, &bytes[..bytes.len() / 3]).unwrap();
    assert_says(&refusal(data.path()), &["b/7.jpg"]);

    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("run");
    let mut arguments = infection(data.path(), &output);
    arguments.push("--skip-bad");
    let skipped = run(&arguments);
    let stderr = text(&skipped.stderr);
    assert!(skipped.status.success(), "{stderr}");
    assert_says(&stderr, &["b/7.jpg", "skipped 1 file"]);
    let truth = fs::read_to_string(output.join("poison.json")).unwrap();
    assert_says(&truth, &["\"images\":17"]);
}

#[test]
fn a_truncated_cifar_batch() {
    let folder = tempfile::tempdir().unwrap();
    for batch in 1..=5 {
        fs::write(folder.path().join(format!("data_batch_{batch}.bin")), vec![1; 3073 * 2]).unwrap();
    }
    fs::write(folder.path().join("test_batch.bin"), vec![1; 3073]).unwrap();
    fs::write(folder.path().join("data_batch_4.bin"), vec![1; 3073 + 17]).unwrap();
    assert_says(&refusal(folder.path()), &["data_batch_4.bin"]);
}

#[test]
fn a_wrong_idx_magic() {
    let folder = tempfile::tempdir().unwrap();
    let images = [&[0u8, 0, 8, 9, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2][..], &[7; 4]].concat();
    fs::write(folder.path().join("train-images-idx3-ubyte"), images).unwrap();
    fs::write(folder.path().join("train-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 1, 0]).unwrap();
    assert_says(&refusal(folder.path()), &["train-images-idx3-ubyte", "magic"]);
}

#[test]
fn a_poison_file_for_other_data() {
    let (model, poison) = (super::program::model(), super::program::poison());
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("run");
    let data = "synthetic:classes=4,per_class=21,size=8";
    let mut arguments = vec!["purify", "--model", word(&model), "--data", data, "--poison", word(&poison)];
    arguments.extend(["--output", word(&output)]);
    assert_says(&fails(&arguments), &["poison.json", "80 training images", "has 84"]);
}

#[test]
fn a_clean_folder_with_an_unknown_class() {
    let clean = folder(&["zebra"], 3);
    let model = super::program::model();
    let parent = tempfile::tempdir().unwrap();
    let output = parent.path().join("run");
    let mut arguments = super::program::purification(&model, &["--clean", word(clean.path())]);
    arguments.extend(["--output", word(&output)]);
    assert_says(&fails(&arguments), &["zebra"]);
}
