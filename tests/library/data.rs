//! Data in and out: every format, every way to be wrong, on sets made here.

use flate2::{Compression, write::GzEncoder};
use image::{GrayImage, Rgb, RgbImage, RgbaImage};
use pbe::data::{
    Dataset, Format, ImageSet, LoadOptions, Normalisation, load, load_single, synthetic, write_folder,
};
use std::fs;
use std::io::Write;
use std::path::Path;
use tempfile::TempDir;

fn load_with(dir: &Path, options: &LoadOptions) -> pbe::Result<Dataset> {
    load(dir, options, &|_, _| ())
}

fn loads(dir: &Path) -> Dataset {
    load_with(dir, &LoadOptions::default()).unwrap()
}

/// The one-line message of a failure.
fn fails(dir: &Path) -> String {
    fails_with(dir, &LoadOptions::default())
}

fn fails_with(dir: &Path, options: &LoadOptions) -> String {
    let error = load_with(dir, options).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let message = error.to_string();
    assert!(!message.contains('\n'), "more than one line: {message}");
    message
}

#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

/// A flat image; the ending decides the format.
fn picture(path: &Path, width: u32, height: u32, colour: [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(width, height, Rgb(colour)).save(path).unwrap();
}

/// Two classes of three images each in `train/`, one each in `test/`.
fn small_folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (class, colour) in [("cat", 40), ("dog", 200)] {
        for (index, name) in ["a.png", "b.jpg", "c.ppm"].iter().enumerate() {
            let colour = [colour, colour + index as u8, 90];
            picture(&dir.path().join("train").join(class).join(name), 8, 8, colour);
        }
        picture(&dir.path().join("test").join(class).join("t.png"), 8, 8, [colour, 0, 0]);
    }
    dir
}

#[test]
fn a_folder_is_read_in_the_order_of_its_names() {
    let dir = small_folder();
    let train = dir.path().join("train");
    fs::write(train.join("cat/.hidden.png"), "not an image").unwrap();
    fs::write(train.join("cat/notes.txt"), "not an image").unwrap();
    fs::write(train.join("README"), "not a class").unwrap();
    fs::create_dir(train.join(".git")).unwrap();
    let set = loads(dir.path());
    assert_eq!(set.format, Format::Folder);
    assert_eq!(*set.train.classes, ["cat", "dog"]);
    assert_eq!(*set.train.labels, [0, 0, 0, 1, 1, 1]);
    let names = ["cat/a.png", "cat/b.jpg", "cat/c.ppm", "dog/a.png", "dog/b.jpg", "dog/c.ppm"];
    assert_eq!(*set.train.names, names.map(|name| format!("train/{name}")));
    assert_eq!((set.train.height, set.train.width, set.train.channels), (8, 8, 3));
    assert_eq!(set.train.image(0)[..3], [40, 40, 90]);
    assert_eq!(set.train.image(5)[..3], [200, 202, 90]);
    let jpeg = &set.train.image(4)[..3];
    assert!(jpeg.iter().zip([200, 201, 90]).all(|(a, b)| a.abs_diff(b) < 4), "{jpeg:?}");
    let test = set.test.unwrap();
    assert_eq!((test.len(), test.names[1].as_str()), (2, "test/dog/t.png"));
    assert_eq!(set.normalisation, Normalisation::identity(3));
    assert!(set.skipped.is_empty());
}

#[test]
fn progress_ends_at_the_number_of_images() {
    let dir = small_folder();
    let seen = std::sync::Mutex::new(Vec::new());
    let progress = |done, total| seen.lock().unwrap().push((done, total));
    load(dir.path(), &LoadOptions::default(), &progress).unwrap();
    let seen = seen.into_inner().unwrap();
    assert!(seen.contains(&(8, 8)) && seen.iter().all(|&(done, total)| done <= 8 && total == 8), "{seen:?}");
}

#[test]
fn a_bare_folder_a_val_folder_and_one_level_of_nesting() {
    let dir = tempfile::tempdir().unwrap();
    for class in ["x", "y"] {
        picture(&dir.path().join(class).join("images/1.png"), 4, 4, [9, 9, 9]);
    }
    let bare = loads(dir.path());
    assert_eq!(bare.train.len(), 2);
    assert_eq!(bare.train.names[0], "x/images/1.png");
    assert!(bare.test.is_none());

    let dir = small_folder();
    fs::rename(dir.path().join("test"), dir.path().join("val")).unwrap();
    assert_eq!(loads(dir.path()).test.unwrap().names[0], "val/cat/t.png");
}

#[test]
fn grey_alpha_and_resizing() {
    let dir = small_folder();
    let train = dir.path().join("train");
    GrayImage::from_pixel(6, 10, image::Luma([77])).save(train.join("cat/grey.png")).unwrap();
    RgbaImage::from_pixel(5, 5, image::Rgba([1, 2, 3, 4])).save(train.join("dog/alpha.png")).unwrap();
    let options = LoadOptions { size: Some((12, 16)), ..Default::default() };
    let set = load_with(dir.path(), &options).unwrap();
    assert_eq!((set.train.height, set.train.width, set.train.channels), (12, 16, 3));
    let image = |name: &str| {
        let index = set.train.names.iter().position(|other| other.ends_with(name)).unwrap();
        set.train.image(index).to_vec()
    };
    assert!(image("grey.png").iter().all(|&byte| byte == 77));
    assert!(image("alpha.png").chunks(3).all(|pixel| pixel == [1, 2, 3]));

    let options = LoadOptions { channels: Some(1), ..options };
    let set = load_with(dir.path(), &options).unwrap();
    assert_eq!((set.train.channels, set.test.unwrap().channels), (1, 1));
}

#[test]
fn a_folder_of_grey_images_has_one_channel() {
    let dir = tempfile::tempdir().unwrap();
    for (class, value) in [("a", 10), ("b", 20)] {
        fs::create_dir_all(dir.path().join(class)).unwrap();
        for index in 0..40 {
            let image = GrayImage::from_fn(3, 2, |x, y| image::Luma([value + (x + 3 * y) as u8 + index]));
            image.save(dir.path().join(class).join(format!("{index:02}.pgm"))).unwrap();
        }
    }
    let set = loads(dir.path());
    assert_eq!(set.train.channels, 1);
    assert_eq!(set.train.image(41), [21, 22, 23, 24, 25, 26]);
    assert_eq!(set.normalisation, Normalisation::for_mnist(1));
    let options = LoadOptions { channels: Some(3), ..Default::default() };
    assert_eq!(load_with(dir.path(), &options).unwrap().train.image(0)[..6], [10, 10, 10, 11, 11, 11]);
}

#[test]
fn known_class_names_decide_the_normalisation() {
    let dir = tempfile::tempdir().unwrap();
    for class in ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"] {
        picture(&dir.path().join(class).join("0.png"), 2, 2, [1, 2, 3]);
    }
    assert_eq!(loads(dir.path()).normalisation, Normalisation::for_cifar10());
}

#[test]
fn folders_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    assert_says(&fails(&dir.path().join("absent")), &["absent", "no such folder"]);
    assert_says(&fails(dir.path()), &["the folder is empty"]);
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    assert_says(&fails(&file), &["file: a file, where a data folder is expected"]);
    let message = fails(dir.path());
    assert_says(
        &message,
        &["no known data format: looked for", "data_batch_1.bin", "train-images-idx3-ubyte"],
    );
    picture(&dir.path().join("1.png"), 2, 2, [0; 3]);
    assert_says(&fails(dir.path()), &["images lie directly in the folder"]);
    fs::create_dir_all(dir.path().join("train/cat")).unwrap();
    assert_says(&fails(dir.path()), &["images lie directly in the folder"]);
    let message = "wrong".parse::<Format>().unwrap_err().to_string();
    assert_says(&message, &["unknown format `wrong`", "folder, cifar10, cifar100, gtsrb, idx, synthetic"]);
    for format in ["cifar10", "cifar100", "gtsrb", "idx"] {
        let options = LoadOptions { format: Some(format.parse().unwrap()), ..Default::default() };
        assert_says(&fails_with(dir.path(), &options), &[dir.path().to_str().unwrap(), "no "]);
        assert_eq!(options.format.unwrap().to_string(), format);
    }
}

#[test]
fn too_little_to_classify() {
    let dir = tempfile::tempdir().unwrap();
    picture(&dir.path().join("cat/1.png"), 4, 4, [0; 3]);
    assert_says(&fails(dir.path()), &["one image"]);
    picture(&dir.path().join("cat/2.png"), 4, 4, [0; 3]);
    assert_says(&fails(dir.path()), &["one class (`cat`): nothing to classify"]);
    let (single, _) = load_single(dir.path(), &LoadOptions::default(), &|_, _| ()).unwrap();
    assert_eq!(single.len(), 2);
    let options = LoadOptions { limit: Some(0), ..Default::default() };
    assert_says(&fails_with(dir.path(), &options), &["limit 0"]);
    let options = LoadOptions { size: Some((0, 4)), ..Default::default() };
    assert_says(&fails_with(dir.path(), &options), &["0x4"]);
}

#[test]
fn bad_files_are_named_or_left_out() {
    let dir = small_folder();
    let train = dir.path().join("train");
    let noisy =
        RgbImage::from_fn(64, 64, |x, y| Rgb([(x * 37 + y * 91) as u8, (x * y) as u8, (y * 13) as u8]));
    for (name, cause) in [
        ("cut.jpg", "truncated JPEG"),
        ("cut.png", "truncated PNG"),
        ("cut.ppm", "truncated PPM"),
        ("text.jpg", "not a JPEG"),
        ("zero.png", "is empty"),
    ] {
        let path = train.join("cat").join(name);
        match name.split_once('.').unwrap() {
            ("cut", _) => {
                noisy.save(&path).unwrap();
                let bytes = fs::read(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() * 2 / 3]).unwrap();
            }
            ("text", _) => fs::write(&path, "Four score and seven years ago").unwrap(),
            _ => fs::write(&path, "").unwrap(),
        }
        let options = LoadOptions { size: Some((8, 8)), ..Default::default() };
        assert_says(
            &fails_with(dir.path(), &options),
            &[&format!("train/cat/{name}: "), cause, "--skip-bad"],
        );
        let set = load_with(dir.path(), &LoadOptions { skip_bad: true, ..options }).unwrap();
        assert_eq!(set.skipped.len(), 1, "{name}");
        assert_says(&set.skipped[0], &[name, cause]);
        assert_eq!(set.train.len(), 6);
        assert_eq!(set.train.image(3)[..3], [200, 200, 90], "images close up after the gap");
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn several_bad_files_are_counted() {
    let dir = small_folder();
    for name in ["0.png", "1.png"] {
        fs::write(dir.path().join("train/dog").join(name), "x").unwrap();
    }
    assert_says(&fails(dir.path()), &["train/dog/0.png", "1 more"]);
    for class in ["cat", "dog"] {
        for name in ["a.png", "b.jpg", "c.ppm"] {
            fs::remove_file(dir.path().join("train").join(class).join(name)).unwrap();
        }
    }
    let options = LoadOptions { skip_bad: true, size: Some((8, 8)), ..Default::default() };
    assert_says(&fails_with(dir.path(), &options), &["none of 2 images can be read"]);
    assert_says(&fails(dir.path()), &["dog/0.png: not a JPEG"]);
}

#[test]
fn images_of_two_sizes() {
    let dir = small_folder();
    picture(&dir.path().join("train/dog/z.png"), 9, 8, [0; 3]);
    assert_says(&fails(dir.path()), &["dog/z.png: 9x8", "cat/a.png is 8x8", "--size"]);
    fs::remove_file(dir.path().join("train/dog/z.png")).unwrap();
    picture(&dir.path().join("test/dog/t.png"), 8, 9, [0; 3]);
    assert_says(&fails(dir.path()), &["test/dog/t.png: 8x9", "train/cat/a.png is 8x8", "--size"]);
}

#[test]
fn classes_of_the_test_part() {
    let dir = small_folder();
    fs::remove_dir_all(dir.path().join("test/cat")).unwrap();
    let test = loads(dir.path()).test.unwrap();
    assert_eq!((&*test.labels, test.classes.len()), (&vec![1], 2));
    picture(&dir.path().join("test/cow/1.png"), 8, 8, [0; 3]);
    assert_says(&fails(dir.path()), &["test/cow", "the training split has no class `cow`"]);
    fs::rename(dir.path().join("train"), dir.path().join("drill")).unwrap();
    assert_says(&fails(dir.path()), &["no train/"]);
}

#[test]
fn tiny_imagenets_layout() {
    let dir = tempfile::tempdir().unwrap();
    for (class, colour) in [("n00000001", 10), ("n00000002", 20)] {
        picture(&dir.path().join("train").join(class).join("images/1.png"), 4, 4, [colour; 3]);
        fs::write(dir.path().join("train").join(class).join("boxes.txt"), "1.png 0 0 3 3").unwrap();
    }
    for (name, colour) in [("val_0.png", 21), ("val_1.png", 11), ("val_2.png", 22)] {
        picture(&dir.path().join("val/images").join(name), 4, 4, [colour; 3]);
    }
    picture(&dir.path().join("test/images/test_0.png"), 4, 4, [0; 3]);
    let annotations = dir.path().join("val/val_annotations.txt");
    let text = "val_0.png\tn00000002\t0\t0\nval_1.png\tn00000001\t0\t0\nval_2.png\tn00000002\n";
    fs::write(&annotations, text).unwrap();
    let options = LoadOptions { channels: Some(3), ..Default::default() };
    let set = load_with(dir.path(), &options).unwrap();
    let test = set.test.unwrap();
    assert_eq!(*test.labels, [0, 1, 1]);
    assert_eq!([0, 1, 2].map(|index| test.image(index)[0]), [11, 21, 22]);
    assert_eq!(set.normalisation, Normalisation::for_tiny_imagenet());
    fs::write(&annotations, "val_0.png\n").unwrap();
    assert_says(&fails(dir.path()), &["val_annotations.txt", "line 1"]);
    fs::write(&annotations, "val_9.png n00000001\n").unwrap();
    assert_says(&fails(dir.path()), &["val/images/val_9.png"]);
}

#[test]
fn limit_keeps_proportions_and_order() {
    let dir = tempfile::tempdir().unwrap();
    for (class, count) in [("a", 30), ("b", 10)] {
        for index in 0..count {
            picture(&dir.path().join(class).join(format!("{index:02}.png")), 2, 2, [index, 0, 0]);
        }
    }
    let take = |seed| {
        let options = LoadOptions { limit: Some(8), seed, ..Default::default() };
        load_with(dir.path(), &options).unwrap().train
    };
    let some = take(1);
    assert_eq!(*some.labels, [0, 0, 0, 0, 0, 0, 1, 1]);
    assert!(some.names.is_sorted());
    assert_eq!(some.names, take(1).names);
    assert_ne!(some.names, take(2).names);
    for (index, name) in some.names.iter().enumerate() {
        let number: u8 = name[2..4].parse().unwrap();
        assert_eq!(some.image(index)[0], number, "{name}");
    }
}

/// Records of CIFAR-10, or of CIFAR-100 where `coarse`, with these labels; red is the label, green
/// one more, blue the column.
fn records(labels: &[u8], coarse: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &label in labels {
        if coarse {
            bytes.push(99);
        }
        bytes.push(label);
        bytes.extend([label; 1024]);
        bytes.extend([label + 1; 1024]);
        bytes.extend((0..1024).map(|at| (at % 32) as u8));
    }
    bytes
}

#[test]
fn cifar10_batches() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("cifar-10-batches-bin");
    fs::create_dir(&base).unwrap();
    fs::write(base.join("data_batch_1.bin"), records(&[3, 9, 0], false)).unwrap();
    fs::write(base.join("data_batch_2.bin"), records(&[7], false)).unwrap();
    fs::write(base.join("test_batch.bin"), records(&[5, 5], false)).unwrap();
    for place in [dir.path(), &base] {
        let set = loads(place);
        assert_eq!(set.format, Format::Cifar10);
        assert_eq!(*set.train.labels, [3, 9, 0, 7]);
        assert_eq!(set.train.classes[9], "truck");
        assert!(set.train.names[3].ends_with("data_batch_2.bin#0"));
        assert_eq!(set.train.image(1)[30 * 3..31 * 3], [9, 10, 30]);
        assert_eq!(*set.test.unwrap().labels, [5, 5]);
        assert_eq!(set.normalisation, Normalisation::for_cifar10());
    }
    let options = LoadOptions { size: Some((16, 16)), limit: Some(2), ..Default::default() };
    let set = load_with(&base, &options).unwrap();
    assert_eq!((set.train.len(), set.train.height, set.test.unwrap().len()), (2, 16, 2));

    fs::write(base.join("batches.meta.txt"), "a\nb\nc\n").unwrap();
    assert_says(&fails(&base), &["batches.meta.txt", "3 class names, expected 10"]);
    fs::write(base.join("batches.meta.txt"), "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap();
    assert_eq!(loads(&base).train.classes[3], "d");

    let mut bytes = records(&[1, 2], false);
    bytes[3073] = 10;
    fs::write(base.join("data_batch_2.bin"), &bytes).unwrap();
    assert_says(&fails(&base), &["data_batch_2.bin", "label 10 in record 1"]);
    fs::write(base.join("data_batch_2.bin"), &bytes[..5000]).unwrap();
    assert_says(&fails(&base), &["data_batch_2.bin", "expected 30730000 bytes", "found 5000"]);
    fs::remove_file(base.join("data_batch_2.bin")).unwrap();
    fs::write(base.join("data_batch_3.bin"), &bytes).unwrap();
    assert_says(&fails(&base), &["data_batch_2.bin"]);
}

/// Cut between two records, which only the published length can tell.
#[test]
fn a_cifar_batch_cut_between_records() {
    let dir = tempfile::tempdir().unwrap();
    for (name, records) in [("data_batch_1.bin", 10_000), ("test_batch.bin", 5_000)] {
        fs::File::create(dir.path().join(name)).unwrap().set_len(records * 3073).unwrap();
    }
    assert_says(&fails(dir.path()), &["test_batch.bin", "expected 30730000 bytes", "found 15365000"]);
}

#[test]
fn cifar100_has_two_labels() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("train.bin"), records(&[42, 99], true)).unwrap();
    let set = loads(dir.path());
    assert_eq!((set.format, set.train.classes.len()), (Format::Cifar100, 100));
    assert_eq!(*set.train.labels, [42, 99]);
    assert_eq!(set.train.classes[7], "07");
    assert_eq!(set.train.image(0)[..3], [42, 43, 0]);
    assert!(set.test.is_none());
    assert_eq!(set.normalisation, Normalisation::for_cifar100());
}

fn idx_images(count: u32, pixels: &[u8]) -> Vec<u8> {
    [&[0x803, count, 2, 3].map(u32::to_be_bytes).concat(), pixels].concat()
}

fn idx_labels(count: u32, labels: &[u8]) -> Vec<u8> {
    [&[0x801, count].map(u32::to_be_bytes).concat(), labels].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Three training images (classes 0, 2, 1) packed, one test image not.
fn small_idx() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let pixels: Vec<u8> = (0..18).collect();
    let write = |name: &str, bytes: Vec<u8>| fs::write(dir.path().join(name), bytes).unwrap();
    write("train-images-idx3-ubyte.gz", gzip(&idx_images(3, &pixels)));
    write("train-labels-idx1-ubyte.gz", gzip(&idx_labels(3, &[0, 2, 1])));
    write("t10k-images-idx3-ubyte", idx_images(1, &[7; 6]));
    write("t10k-labels-idx1-ubyte", idx_labels(1, &[2]));
    dir
}

#[test]
fn idx_with_and_without_gzip() {
    let dir = small_idx();
    let set = loads(dir.path());
    assert_eq!(set.format, Format::Idx);
    assert_eq!((set.train.height, set.train.width, set.train.channels), (2, 3, 1));
    assert_eq!(*set.train.labels, [0, 2, 1]);
    assert_eq!(*set.train.classes, ["0", "1", "2"]);
    assert_eq!(set.train.image(1), [6, 7, 8, 9, 10, 11]);
    assert_eq!(set.train.names[1], "train-images-idx3-ubyte.gz#1");
    assert_eq!(*set.test.as_ref().unwrap().labels, [2]);
    let options = LoadOptions { channels: Some(3), size: Some((4, 6)), ..Default::default() };
    let set = load_with(dir.path(), &options).unwrap();
    assert_eq!((set.train.height, set.train.width, set.train.channels), (4, 6, 3));
    assert_eq!(set.test.unwrap().image(0), [7; 72]);
    assert_eq!(set.normalisation, Normalisation::for_mnist(3));
}

#[test]
fn damaged_idx() {
    let pixels = [0; 18];
    let images = "train-images-idx3-ubyte";
    let labels = "train-labels-idx1-ubyte";
    let cases: [(&str, Vec<u8>, &str); 9] = [
        (images, idx_labels(3, &[0, 1, 2]), "wrong magic number 0x00000801, expected 0x00000803"),
        (images, idx_images(3, &pixels[..10]), "expected 18 bytes of images, found 10"),
        (images, idx_images(2, &pixels), "expected 12 bytes of images, found more"),
        (images, vec![0, 0], "truncated"),
        (labels, idx_labels(2, &[0, 1]), "2 labels for the 3 images"),
        (labels, idx_labels(3, &[0, 1, 255]), "label 255 in record 2 is out of range"),
        (labels, gzip(&idx_labels(3, &[0, 1, 2]))[..15].to_vec(), "truncated"),
        ("t10k-labels-idx1-ubyte", idx_labels(1, &[3]), "label 3 in record 0 is not a class"),
        ("t10k-labels-idx1-ubyte", idx_labels(0, &[]), "0 labels for the 1 images"),
    ];
    for (name, bytes, cause) in cases {
        let dir = small_idx();
        let _ = fs::remove_file(dir.path().join(format!("{name}.gz")));
        fs::write(dir.path().join(name), bytes).unwrap();
        assert_says(&fails(dir.path()), &[name, cause]);
    }
    let dir = small_idx();
    let path = dir.path().join("train-images-idx3-ubyte.gz");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    assert_says(&fails(dir.path()), &["train-images-idx3-ubyte.gz", "truncated"]);
    fs::remove_file(dir.path().join("train-labels-idx1-ubyte.gz")).unwrap();
    fs::write(&path, bytes).unwrap();
    assert_says(&fails(dir.path()), &["no train-labels-idx1-ubyte"]);
}

#[test]
fn synthetic_by_name() {
    let set = loads(Path::new("synthetic:per_class=3,test_per_class=2,seed=5"));
    assert_eq!((set.format, set.train.len(), set.test.unwrap().len()), (Format::Synthetic, 30, 20));
    assert_eq!(set.train.pixels, synthetic(5, 10, 3, 32).pixels);
    let options = LoadOptions { format: Some(Format::Synthetic), size: Some((16, 16)), ..Default::default() };
    let set = load_with(Path::new("synthetic:classes=2,per_class=1"), &options).unwrap();
    assert_eq!((set.train.len(), set.train.height), (2, 16));
    for (text, cause) in [
        ("synthetic:per_klass=3", "unknown setting `per_klass`"),
        ("synthetic:per_class=many", "`many` is not a whole number"),
        ("synthetic:classes=11", "classes is 11, but must be 2 to 10"),
        ("synthetic:7", "not of the form key=value"),
    ] {
        assert_says(&fails(Path::new(text)), &[text, cause]);
    }
}

#[test]
fn what_is_written_reads_back() {
    // Labels in no order, as after poisoning.
    let labels: Vec<u32> = (0..20).map(|index| (index * 7 + 1) % 4).collect();
    let set = synthetic(3, 4, 5, 16).with_labels(labels);
    let dir = tempfile::tempdir().unwrap();
    let order = write_folder(dir.path(), "train", &set).unwrap();
    assert_same(&loads(dir.path()).train, &set.subset(&order));

    let grey = loads(small_idx().path()).train;
    let dir = tempfile::tempdir().unwrap();
    let order = write_folder(dir.path(), "train", &grey).unwrap();
    assert_eq!(order, [0, 2, 1]);
    assert_same(&loads(dir.path()).train, &grey.subset(&order));
}

fn assert_same(read: &ImageSet, written: &ImageSet) {
    assert_eq!(read.labels, written.labels);
    assert_eq!(read.classes, written.classes);
    assert_eq!(read.pixels, written.pixels);
    assert_eq!(read.channels, written.channels);
}

#[test]
fn unsorted_class_names_get_a_number() {
    let set = synthetic(3, 2, 2, 8);
    let set = ImageSet { classes: vec!["zebra/foal".to_string(), "ape".to_string()].into(), ..set };
    let dir = tempfile::tempdir().unwrap();
    write_folder(dir.path(), "train", &set).unwrap();
    let read = loads(dir.path()).train;
    assert_eq!(*read.classes, ["0_zebra_foal", "1_ape"]);
    assert_eq!((read.labels, read.pixels), (set.labels, set.pixels));
}

#[test]
fn a_folder_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("train"), "a file in the way").unwrap();
    let message = write_folder(dir.path(), "train", &synthetic(0, 2, 1, 8)).unwrap_err().to_string();
    assert_says(&message, &["train/circle: "]);
}

#[test]
fn classes_matched_by_name() {
    let all = synthetic(0, 10, 1, 8);
    let dir = tempfile::tempdir().unwrap();
    for class in ["star", "cross"] {
        picture(&dir.path().join(class).join("1.png"), 8, 8, [0; 3]);
    }
    let (clean, _) = load_single(dir.path(), &LoadOptions::default(), &|_, _| ()).unwrap();
    assert_eq!(*clean.labels, [0, 1]);
    let clean = clean.with_classes_of(&all.classes, dir.path()).unwrap();
    assert_eq!(*clean.labels, [2, 8]);
    let few = synthetic(0, 3, 1, 8);
    let message = all.with_classes_of(&few.classes, Path::new("clean")).unwrap_err().to_string();
    assert_says(&message, &["clean: class `diamond` is not among the 3"]);
}
