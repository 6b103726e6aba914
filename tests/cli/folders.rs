//! Data folders as people have them: every kind of image, parts under any usual name, files that are no images.

use std::fs;
use std::path::Path;

use image::ImageFormat;

use super::inputs::{CLASSES, evaluated, part, picture, set, trained, usual};
use super::program::{assert_says, fails, succeeds, word};

/// Writes every image of a folder again, as another format under another ending.
fn rewrite(folder: &Path, format: ImageFormat, ending: &str) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rewrite(&path, format, ending);
        } else {
            let image = image::open(&path).unwrap();
            fs::remove_file(&path).unwrap();
            image.save_with_format(path.with_extension(ending), format).unwrap();
        }
    }
}

#[test]
fn every_type_of_image_is_read() {
    let model = trained("half");
    let expected = evaluated(&model, set(["train", "test"], usual).path(), &[]).0["after"].clone();
    for (format, ending) in [
        (ImageFormat::WebP, "webp"),
        (ImageFormat::Bmp, "BMP"),
        (ImageFormat::Tiff, "tif"),
        (ImageFormat::Tiff, "tiff"),
        (ImageFormat::Pnm, "ppm"),
        (ImageFormat::Png, ""),
        (ImageFormat::Png, "thumbnail"),
        (ImageFormat::Jpeg, "jfif"),
        (ImageFormat::Gif, "gif"),
    ] {
        let data = set(["train", "test"], usual);
        rewrite(&data.path().join("test"), format, ending);
        let (result, said) = evaluated(&model, data.path(), &[]);
        assert_says(&said, &["48 test images"]);
        if !matches!(format, ImageFormat::Jpeg | ImageFormat::Gif) {
            assert_eq!(result["after"], expected, "{ending}");
        }
    }
}

#[test]
fn images_lie_at_any_depth() {
    let data = set(["train", "test"], usual);
    let class = data.path().join("train/03");
    for (number, entry) in fs::read_dir(&class).unwrap().collect::<Vec<_>>().into_iter().enumerate() {
        let path = entry.unwrap().path();
        let deep = class.join(["a", "a/b", "c/d/e"][number % 3]);
        fs::create_dir_all(&deep).unwrap();
        fs::rename(&path, deep.join(path.file_name().unwrap())).unwrap();
    }
    let (result, _) = evaluated(&trained("half"), data.path(), &[]);
    assert_eq!(result["inputs"]["data"]["train"]["images"], 192);
}

#[test]
fn what_is_not_read_is_counted_or_stops() {
    let data = set(["train", "test"], usual);
    let train = data.path().join("train");
    fs::write(train.join("00/notes.txt"), "of no interest").unwrap();
    fs::write(train.join("01/boxes.csv"), "a,b").unwrap();
    fs::write(train.join("01/README"), "of no interest").unwrap();
    fs::copy(train.join("00/00.png"), train.join("stray.png")).unwrap();
    let (result, said) = evaluated(&trained("half"), data.path(), &[]);
    let told = "files left out: 1 .csv, 1 .png outside the class folders, 1 .txt, 1 no ending";
    assert_says(&said, &["192 training images", told]);
    assert_eq!(result["inputs"]["data"]["left_out"][".txt"], 1);

    fs::write(train.join("02/a.heic"), b"\0\0\0\x18ftypheic\0\0\0\0").unwrap();
    fs::write(train.join("02/b.heic"), b"\0\0\0\x18ftypheic\0\0\0\0").unwrap();
    let model = trained("half");
    let arguments = ["evaluate", "--model", word(&model), "--data", word(data.path())];
    assert_says(&fails(&arguments), &["02/", ".heic: no image that is read", "1 more", "--skip-bad"]);
    let (_, said) = evaluated(&model, data.path(), &["--skip-bad"]);
    assert_says(&said, &["192 training images", "2 .heic"]);
}

#[test]
fn parts_have_many_names() {
    let model = trained("half");
    for parts in [
        ["Train", "Test"],
        ["training", "validation"],
        ["TRAIN", "VAL"],
        ["seg_train/seg_train", "seg_test/seg_test"],
        ["archive/train", "archive/test"],
        ["train_set", "test-set"],
    ] {
        let data = set(parts, usual);
        let (result, said) = evaluated(&model, data.path(), &[]);
        assert_says(&said, &["192 training images in ", "48 test images in ", &format!("{}/", parts[0])]);
        assert_eq!(result["inputs"]["data"]["test"]["folder"], parts[1]);
    }
}

#[test]
fn folders_that_are_no_classes_are_refused() {
    let model = trained("half");
    let arguments =
        |data: &Path| ["evaluate", "--model", word(&model), "--data", word(data)].map(String::from);
    let refusal = |data: &Path| fails(&arguments(data).each_ref().map(String::as_str));
    let odd = set(["images1", "images2"], usual);
    assert_says(
        &refusal(odd.path()),
        &["`images1` and `images2` hold the same folders (`00`, `01`)", "train/ and test/"],
    );
    let flat = tempfile::tempdir().unwrap();
    for name in ["train", "test"] {
        fs::create_dir(flat.path().join(name)).unwrap();
        picture(0, 0).save(flat.path().join(name).join("0.png")).unwrap();
    }
    assert_says(&refusal(flat.path()), &["its parts have no class folders"]);
    // A class may be called `train`.
    let vehicles = tempfile::tempdir().unwrap();
    for (class, name) in ["bus", "car", "train"].iter().enumerate() {
        fs::create_dir(vehicles.path().join(name)).unwrap();
        picture(class, 0).save(vehicles.path().join(name).join("0.png")).unwrap();
    }
    assert_says(&refusal(vehicles.path()), &["12 classes", "has 3"]);
}

/// Tiny-ImageNet as BackdoorBench's script leaves it: `val/` sorted into classes, `test/` as published, the annotations
/// gone or left.
#[test]
fn a_part_is_looked_at_before_it_is_chosen() {
    let model = trained("half");
    for (annotated, published) in [(false, true), (true, true), (true, false)] {
        let data = tempfile::tempdir().unwrap();
        part(&data.path().join("train"), 16, usual);
        part(&data.path().join("val"), 4, usual);
        if annotated {
            let rows: String =
                (0..12).map(|class| format!("val_{class}.JPEG\t{}\t0\t0\n", CLASSES[class])).collect();
            fs::write(data.path().join("val/val_annotations.txt"), rows).unwrap();
        }
        if published {
            fs::create_dir_all(data.path().join("test/images")).unwrap();
            picture(0, 0).save(data.path().join("test/images/test_0.png")).unwrap();
        }
        let (_, said) = evaluated(&model, data.path(), &[]);
        assert_says(&said, &["48 test images in val/"]);
    }
    // As it is published, with a mark at the start of the table.
    let data = tempfile::tempdir().unwrap();
    part(&data.path().join("train"), 16, usual);
    fs::create_dir_all(data.path().join("val/images")).unwrap();
    let row = |class: usize| {
        picture(class, 20).save(data.path().join(format!("val/images/val_{class}.png"))).unwrap();
        format!("val_{class}.png\t{}\t0\t0\n", CLASSES[class])
    };
    let rows: String = (0..12).map(row).collect();
    fs::write(data.path().join("val/val_annotations.txt"), "\u{feff}".to_string() + &rows).unwrap();
    let (_, said) = evaluated(&model, data.path(), &[]);
    assert_says(&said, &["12 test images in val/"]);
}

#[test]
fn an_inspection_needs_images_alone() {
    let (model, folder) = (trained("half"), tempfile::tempdir().unwrap());
    for place in ["flat", "one/unknown"] {
        let images = folder.path().join(place);
        fs::create_dir_all(&images).unwrap();
        (0..24)
            .for_each(|index| picture(index % 12, index).save(images.join(format!("{index}.png"))).unwrap());
        let data = folder.path().join(place.split('/').next().unwrap());
        let arguments = ["inspect", "--model", word(&model), "--data", word(&data)];
        assert_says(&succeeds(&arguments), &["index", "threshold"]);
        let message = fails(&["evaluate", "--model", word(&model), "--data", word(&data)]);
        assert_says(
            &message,
            &[word(&data), if place == "flat" { "one folder per class" } else { "one class" }],
        );
    }
}
