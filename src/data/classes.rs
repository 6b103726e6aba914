//! In which order class names are counted: labels are places in it, and nothing in a folder says which one.

use super::Dataset;
use crate::error::{Error, Result};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// An order of the class names, and where it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassOrder {
    /// In words: `text order`, `number order`, a file.
    pub from: String,
    /// The names by label.
    pub classes: Vec<String>,
}

/// CIFAR-10's classes as people write them, by label.
const CIFAR10_NAMES: [&[&str]; 10] = [
    &["airplane", "aeroplane", "plane"],
    &["automobile", "car", "auto"],
    &["bird"],
    &["cat"],
    &["deer"],
    &["dog"],
    &["frog"],
    &["horse"],
    &["ship", "boat"],
    &["truck"],
];

/// The label of a CIFAR-10 class.
pub(super) fn cifar10_label(class: &str) -> Option<usize> {
    let class = class.to_lowercase();
    CIFAR10_NAMES.iter().position(|names| names.contains(&class.as_str()))
}

/// The orders that programs count `classes` in, which are in text order (as torchvision's `ImageFolder`), that first.
/// `folder` is the data's.
pub(super) fn known_orders(folder: &Path, classes: &[String]) -> Vec<ClassOrder> {
    let mut orders = vec![ClassOrder { from: "text order".into(), classes: classes.to_vec() }];
    let mut add = |from: &str, classes: Vec<String>| {
        if orders.iter().all(|order| order.classes != classes) {
            orders.push(ClassOrder { from: from.into(), classes });
        }
    };
    let mut by_number = classes.to_vec();
    by_number.sort_by_cached_key(|class| (number_key(class), class.clone()));
    add("number order", by_number);
    let labels: Option<Vec<usize>> = classes.iter().map(|class| cifar10_label(class)).collect();
    if let Some(labels) = labels.filter(|_| classes.len() == CIFAR10_NAMES.len()) {
        let mut named: Vec<(usize, &String)> = labels.into_iter().zip(classes).collect();
        named.sort();
        if named.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            add("CIFAR-10's order", named.into_iter().map(|(_, class)| class.clone()).collect());
        }
    }
    if let Ok(listed) = read_list(&folder.join("wnids.txt"))
        && is_permutation(&listed, classes)
    {
        add("wnids.txt", listed);
    }
    orders
}

/// Text with the numbers in it as numbers, as timm sorts class folders.
fn number_key(text: &str) -> Vec<(Option<u128>, String)> {
    let mut key: Vec<(Option<u128>, String)> = vec![];
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        key.push(match part.parse() {
            Ok(number) if digits => (Some(number), String::new()),
            _ => (None, part.to_lowercase()),
        });
        rest = after;
    }
    key
}

fn is_permutation(listed: &[String], classes: &[String]) -> bool {
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    sorted(listed) == sorted(classes)
}

/// The names in a file: one a line, a JSON list, or a JSON object of names and labels. A path that is a JSON list itself
/// has the names, as a run's config.toml gives them.
fn read_list(path: &Path) -> Result<Vec<String>> {
    let inline = path.to_str().filter(|text| text.starts_with('[')).map(|text| Ok(text.to_string()));
    let text =
        inline.unwrap_or_else(|| fs::read_to_string(path)).map_err(|cause| Error::file(path, cause))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if let Ok(names) = serde_json::from_str::<Vec<String>>(text) {
        return Ok(names);
    }
    if let Ok(labels) = serde_json::from_str::<std::collections::BTreeMap<String, usize>>(text) {
        let mut named: Vec<(usize, String)> = labels.into_iter().map(|(name, label)| (label, name)).collect();
        named.sort();
        return match named.iter().enumerate().find(|(place, (label, _))| place != label) {
            None => Ok(named.into_iter().map(|(_, name)| name).collect()),
            Some((place, _)) => Err(Error::file(path, format!("no class has label {place}"))),
        };
    }
    Ok(text.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect())
}

impl ClassOrder {
    /// The order that a file of class names gives to `classes`.
    ///
    /// # Errors
    /// The file can't be read, or its names are not those of the data.
    pub fn read(path: &Path, classes: &[String]) -> Result<Self> {
        Self::listed(path, read_list(path)?, classes)
    }

    /// The order that names listed in `from` give to `classes`.
    ///
    /// # Errors
    /// The names are not those of the data.
    pub fn listed(from: &Path, listed: Vec<String>, classes: &[String]) -> Result<Self> {
        if let Some(class) = classes.iter().find(|class| !listed.contains(class)) {
            return Err(Error::file(from, format!("has no class `{class}`, which the data has")));
        }
        if let Some(class) = listed.iter().find(|class| !classes.contains(class)) {
            let cause = format!("class `{class}` is not among the {} of the data", classes.len());
            return Err(Error::file(from, cause));
        }
        if listed.len() != classes.len() {
            return Err(Error::file(from, "a class is listed twice"));
        }
        Ok(Self { from: from.display().to_string(), classes: listed })
    }
}

impl Dataset {
    /// Counts the labels of all parts in this order, which is then the only one.
    pub fn set_order(&mut self, order: ClassOrder) {
        let classes = Arc::new(order.classes.clone());
        let place = |class: &String| classes.iter().position(|other| other == class).unwrap_or(0) as u32;
        let labels: Vec<u32> = self.train.classes.iter().map(place).collect();
        for part in [Some(&mut self.train), self.test.as_mut()].into_iter().flatten() {
            if part.classes != classes {
                part.labels = Arc::new(part.labels.iter().map(|&label| labels[label as usize]).collect());
                part.classes = Arc::clone(&classes);
            }
        }
        self.orders = vec![order];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(classes: &[&str]) -> Vec<(String, String)> {
        let classes: Vec<String> = classes.iter().map(ToString::to_string).collect();
        let found = known_orders(Path::new("nowhere"), &classes);
        found.into_iter().map(|order| (order.from, order.classes.join(" "))).collect()
    }

    #[test]
    fn numbers_count_as_numbers() {
        for classes in [["0", "1", "10", "2"], ["class_0", "class_1", "class_10", "class_2"]] {
            let found = orders(&classes);
            assert_eq!(found[0], ("text order".into(), classes.join(" ")));
            let [a, b, c, d] = classes;
            assert_eq!(found[1], ("number order".into(), [a, b, d, c].join(" ")));
        }
        assert_eq!(orders(&["00", "01", "02", "10"]).len(), 1);
    }

    #[test]
    fn cifar10_by_other_names() {
        let names = ["bird", "car", "cat", "deer", "dog", "frog", "horse", "plane", "ship", "truck"];
        let found = orders(&names);
        assert_eq!(
            found[1],
            ("CIFAR-10's order".into(), "plane car bird cat deer dog frog horse ship truck".into())
        );
    }

    #[test]
    fn files_of_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names");
        let classes: Vec<String> = ["a", "b", "c"].map(String::from).into();
        for text in ["\u{feff}c\na\r\n\nb\n", r#"["c", "a", "b"]"#, r#"{"a": 1, "b": 2, "c": 0}"#] {
            fs::write(&path, text).unwrap();
            assert_eq!(ClassOrder::read(&path, &classes).unwrap().classes, ["c", "a", "b"], "{text}");
        }
        for (text, says) in [
            ("a\nb\n", "no class `c`"),
            ("a\nb\nc\nd\n", "`d` is not among the 3"),
            ("a\nb\nc\na\n", "twice"),
            (r#"{"a": 1, "b": 2, "c": 3}"#, "label 0"),
        ] {
            fs::write(&path, text).unwrap();
            let message = ClassOrder::read(&path, &classes).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
    }
}
