//! The German traffic signs (GTSRB) as they are published: where the images are, and their classes.
//!
//! | layout | training | test |
//! |---|---|---|
//! | of BackdoorBench | `Train/000cc/*.ppm`, `GT-000cc.csv` in each | `Test/*.ppm`, `Test/GT-final_test.csv` |
//! | of the archives | `GTSRB/Final_Training/Images/000cc/*.ppm` | `GTSRB/Final_Test/Images/*.ppm`, `GT-final_test.csv` |
//! | of torchvision | `GTSRB/Training/000cc/*.ppm` | as of the archives |
//! | of tables | `Train.csv` with `Path` and `ClassId` | `Test.csv`, the same |
//!
//! The tables of the first three have `;` between `Filename` and seven more columns, the last of
//! which is `ClassId`. Classes are named by five digits in all layouts. Boxes are not cut out.

use super::listing::{self, Listing};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Signs in the set.
const CLASSES: u32 = 43;

/// The classes of the test images.
const FINAL_TEST: &str = "GT-final_test.csv";

/// A table of images and classes.
struct LabelTable {
    path: PathBuf,
    /// Where the names in the table start from.
    folder: PathBuf,
    separator: u8,
    /// The column of the file names.
    names: &'static str,
}

/// The training images of a layout.
enum Training {
    /// In folders named by class.
    Folders(PathBuf),
    Table(LabelTable),
}

/// Whether `dir` is in one of the layouts.
pub(super) fn find(dir: &Path) -> bool {
    training(dir).is_some()
}

/// The files of both splits; the test split where there is one and it is asked for.
pub(super) fn list(dir: &Path, with_test: bool) -> Result<(Listing, Option<Listing>)> {
    let train = match training(dir) {
        Some(Training::Folders(folder)) => listing::list(dir, &folder)?,
        Some(Training::Table(table)) => table.list(dir)?,
        None => {
            return Err(Error::file(
                dir,
                "no layout of GTSRB: looked for Train/ with its GT-*.csv, GTSRB/Training/, \
                 GTSRB/Final_Training/Images/ and Train.csv",
            ));
        }
    };
    let test = if with_test { test(dir)? } else { None };
    Ok((train, test.map(|table| table.list(dir)).transpose()?))
}

fn training(dir: &Path) -> Option<Training> {
    let table = dir.join("Train.csv");
    if table.is_file() {
        return Some(Training::Table(LabelTable::of_paths(dir, table)));
    }
    let tabled =
        dir.join("Train/00000/GT-00000.csv").is_file() || dir.join("Test").join(FINAL_TEST).is_file();
    let candidates = [
        dir.join("Train"),
        dir.join("GTSRB/Training"),
        dir.join("GTSRB/Final_Training/Images"),
        dir.join("Final_Training/Images"),
    ];
    let skipped = usize::from(!tabled);
    candidates.into_iter().skip(skipped).find(|folder| folder.is_dir()).map(Training::Folders)
}

/// The table of the test split, which lies among its images or further up.
fn test(dir: &Path) -> Result<Option<LabelTable>> {
    let table = dir.join("Test.csv");
    if table.is_file() {
        return Ok(Some(LabelTable::of_paths(dir, table)));
    }
    let folders = ["Test", "GTSRB/Final_Test/Images", "Final_Test/Images"].map(|name| dir.join(name));
    let Some(folder) = folders.into_iter().find(|folder| folder.is_dir()) else {
        return Ok(None);
    };
    let places = [folder.as_path(), dir, &dir.join("GTSRB")].map(|place| place.join(FINAL_TEST));
    match places.into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(Some(LabelTable { path, folder, separator: b';', names: "Filename" })),
        None => {
            Err(Error::file(folder, format!("no {FINAL_TEST} in it or beside it: the classes are unknown")))
        }
    }
}

impl LabelTable {
    fn of_paths(dir: &Path, path: PathBuf) -> Self {
        Self { path, folder: dir.to_path_buf(), separator: b',', names: "Path" }
    }

    fn list(&self, root: &Path) -> Result<Listing> {
        let wrong = |cause: String| Error::file(&self.path, cause);
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(self.separator)
            .from_path(&self.path)
            .map_err(|cause| wrong(cause.to_string()))?;
        let header = reader.headers().map_err(|cause| wrong(cause.to_string()))?.clone();
        let column = |name: &str| {
            header
                .iter()
                .position(|title| title.trim().eq_ignore_ascii_case(name))
                .ok_or_else(|| wrong(format!("no column `{name}`")))
        };
        let (names, classes) = (column(self.names)?, column("ClassId")?);
        let mut files = Vec::new();
        for (row, record) in reader.records().enumerate() {
            let record = record.map_err(|cause| wrong(cause.to_string()))?;
            let (name, class) = (record.get(names).unwrap_or("").trim(), record.get(classes).unwrap_or(""));
            let class = class.trim().parse().ok().filter(|&class: &u32| class < CLASSES);
            let (false, Some(class)) = (name.is_empty(), class) else {
                return Err(wrong(format!("line {}: no file and class below {CLASSES}", row + 2)));
            };
            files.push((format!("{class:05}"), self.folder.join(name)));
        }
        if files.is_empty() {
            return Err(wrong("no image in it".into()));
        }
        listing::list_labelled(root, files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Format, LoadOptions, load};
    use std::fs;
    use tempfile::TempDir;

    const HEADER: &str = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\r\n";

    fn ppm(path: &Path, side: u32, shade: u8) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(side, side, image::Rgb([shade; 3])).save(path).unwrap();
    }

    /// Two classes of two images of different sizes each, in folders under `train`; three test images,
    /// whose table is at `table`.
    fn published(train: &str, test: &str, table: &str) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (class, shade) in [("00000", 10), ("00014", 20)] {
            let folder = dir.path().join(train).join(class);
            ppm(&folder.join("00000_00000.ppm"), 40, shade);
            ppm(&folder.join("00000_00001.ppm"), 17, shade + 1);
            fs::write(folder.join(format!("GT-{class}.csv")), HEADER).unwrap();
        }
        let mut text = HEADER.to_string();
        for (index, class) in [14, 0, 14].into_iter().enumerate() {
            let name = format!("0000{index}.ppm");
            ppm(&dir.path().join(test).join(&name), 20, 100 + index as u8);
            text += &format!("{name};20;20;1;1;18;18;{class}\r\n");
        }
        fs::write(dir.path().join(table), text).unwrap();
        dir
    }

    fn read(dir: &Path) -> crate::Result<Dataset> {
        load(dir, &LoadOptions::default(), &|_, _| ())
    }

    fn assert_is_the_set(dir: &TempDir) {
        let set = read(dir.path()).unwrap();
        assert_eq!(set.format, Format::Gtsrb);
        assert!(!set.allows_flip());
        assert_eq!(*set.train.classes, ["00000", "00014"]);
        assert_eq!((set.train.height, set.train.width), (32, 32));
        assert_eq!((&**set.train.labels, set.train.image(3)[0]), (&[0, 0, 1, 1][..], 21));
        let test = set.test.unwrap();
        assert_eq!(**test.labels, [0, 1, 1]);
        assert_eq!([0, 1, 2].map(|index| test.image(index)[0]), [101, 100, 102]);
    }

    #[test]
    fn every_published_layout() {
        assert_is_the_set(&published("Train", "Test", "Test/GT-final_test.csv"));
        let images = "GTSRB/Final_Test/Images";
        assert_is_the_set(&published("GTSRB/Training", images, "GT-final_test.csv"));
        assert_is_the_set(&published("GTSRB/Final_Training/Images", images, "GTSRB/GT-final_test.csv"));
    }

    #[test]
    fn tables_of_paths() {
        let dir = published("Train", "Test", "unused.csv");
        let row = |path: &str, class: u32| format!("40,40,1,1,38,38,{class},{path}\n");
        let header = "Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path\n";
        let train = [
            row("Train/00014/00000_00001.ppm", 14),
            row("Train/00014/00000_00000.ppm", 14),
            row("Train/00000/00000_00000.ppm", 0),
            row("Train/00000/00000_00001.ppm", 0),
        ];
        let test = [row("Test/00000.ppm", 14), row("Test/00001.ppm", 0), row("Test/00002.ppm", 14)];
        fs::write(dir.path().join("Train.csv"), header.to_string() + &train.concat()).unwrap();
        fs::write(dir.path().join("Test.csv"), header.to_string() + &test.concat()).unwrap();
        assert_is_the_set(&dir);
    }

    #[test]
    fn damaged_tables_are_named() {
        let dir = published("Train", "Test", "Test/GT-final_test.csv");
        let table = dir.path().join("Test/GT-final_test.csv");
        let says = |text: &str, parts: [&str; 2]| {
            fs::write(&table, text).unwrap();
            let error = read(dir.path()).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            for part in parts {
                assert!(error.to_string().contains(part), "`{part}` is not in: {error}");
            }
        };
        says("Filename;Width\n00000.ppm;20\n", ["GT-final_test.csv", "no column `ClassId`"]);
        says("Filename;ClassId\n00000.ppm;43\n", ["GT-final_test.csv", "line 2"]);
        says("Filename;ClassId\n00000.ppm;0;1\n", ["GT-final_test.csv", "2 fields"]);
        says("Filename;ClassId\n", ["GT-final_test.csv", "no image in it"]);
        says("Filename;ClassId\nabsent.ppm;0\n", ["Test/absent.ppm", "No such file"]);
        says("Filename;ClassId\n00000.ppm;5\n", ["Test/00000.ppm", "no class `00005`"]);
        fs::remove_file(&table).unwrap();
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("no GT-final_test.csv"), "{error}");
    }
}
