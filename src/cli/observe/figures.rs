//! The figures: made once, then written as SVG, as CSV, and together on the page.

use std::path::Path;

use pbe::analysis::{Observation, tsne};
use pbe::backdoor::LabelMode;
use pbe::data::ImageSet;
use pbe::error::{Error, Result};
use pbe::fs::write_atomic;
use pbe::inputs::Inputs;
use pbe::report::csv::write_rows;
use pbe::report::page::Page;
use pbe::report::svg::{self, LineSeries, PointSeries};
use pbe::report::{RunResult, two_decimals};
use serde_json::{Value, json};

use super::runs::{RoundPoint, Runs};

/// The page's name in the folder.
pub const PAGE: &str = "observe.html";
/// Most points of a curve: more can't be told apart on the page.
const POINTS: usize = 400;
/// The kinds of images whose features are shown.
const KINDS: [&str; 3] = ["clean", "adversarial", "triggered"];

const INFECTED: &str = "Where adversarial examples of the infected model land";
const BENIGN: &str = "Where those of the benign model land";

/// The models' observations and the images they were made on.
pub struct Observations<'a> {
    pub infected: Observation,
    pub benign: Option<Observation>,
    pub clean: &'a ImageSet,
    pub triggered: &'a ImageSet,
    pub mode: LabelMode,
    pub epsilon: f32,
}

/// One figure.
struct Figure {
    /// Of its files, without extension.
    name: &'static str,
    heading: &'static str,
    caption: String,
    svg: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// All figures of a run.
pub struct FigureSet<'a> {
    seen: &'a Observations<'a>,
    figures: Vec<Figure>,
    distances: Vec<Vec<String>>,
}

impl<'a> FigureSet<'a> {
    pub fn new(seen: &'a Observations<'a>, runs: &Runs, seed: u64) -> Self {
        let mut figures = vec![confusion(seen, &seen.infected, "confusion", INFECTED)];
        figures.extend(seen.benign.as_ref().map(|it| confusion(seen, it, "confusion-benign", BENIGN)));
        figures.push(embedding(seen, seed));
        figures.extend(ranking(runs));
        figures.extend(rounds(runs));
        Self { seen, figures, distances: distances(seen) }
    }

    /// The files of the folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        for figure in &self.figures {
            write_atomic(folder.join(format!("{}.svg", figure.name)), figure.svg.as_bytes())?;
            write_rows(&folder.join(format!("{}.csv", figure.name)), &figure.header, &figure.rows)?;
        }
        write_rows(&folder.join("distances.csv"), &self.distances[0], &self.distances[1..])?;
        write_atomic(folder.join(PAGE), self.page()?.as_bytes())
    }

    /// The main result, as one line.
    pub fn summary(&self) -> String {
        let per_cent =
            |seen: &Observation| two_decimals(seen.target_share(self.seen.mode).map(|share| 100.0 * share));
        let whose = match self.seen.mode {
            LabelMode::AllToOne { target } => format!("“{}”", self.seen.clean.classes[target as usize]),
            LabelMode::AllToAll => "the label after their own".into(),
        };
        let benign = self.seen.benign.as_ref().map_or_else(String::new, |benign| {
            format!(", {} % of those of the benign model", per_cent(benign))
        });
        format!(
            "{} % of the infected model's untargeted adversarial examples land on {whose}, the attacker's choice{benign}.",
            per_cent(&self.seen.infected)
        )
    }

    /// result.json, which `--json` prints.
    pub fn result(&self, device: &str, seed: u64, seconds: f64, inputs: Inputs) -> Result<String> {
        let mut result = RunResult::new("observe", device, seed);
        result.inputs = Some(inputs);
        result.seconds = [("observe".into(), seconds)].into();
        let fault = |error| Error::run(format!("result: {error}"));
        let mut value = serde_json::to_value(&result).map_err(fault)?;
        value["observation"] = self.data();
        Ok(serde_json::to_string_pretty(&value).map_err(fault)? + "\n")
    }

    fn data(&self) -> Value {
        let table = |header: &[String], rows: &[Vec<String>]| json!({"columns": header, "rows": rows});
        let target_share = |seen: &Observation| seen.target_share(self.seen.mode);
        let mut data = json!({
            "epsilon": self.seen.epsilon,
            "images": self.seen.clean.len(),
            "target_share": target_share(&self.seen.infected),
            "target_share_benign": self.seen.benign.as_ref().and_then(target_share),
            "distances": table(&self.distances[0], &self.distances[1..]),
        });
        for figure in &self.figures {
            data[figure.name] = table(&figure.header, &figure.rows);
        }
        data
    }

    fn page(&self) -> Result<String> {
        let mut page = Page::new("Adversarial examples beside a backdoor", &self.summary());
        for figure in &self.figures {
            if figure.name == "tsne" {
                self.pictures(&mut page)?;
            }
            page.heading(figure.heading);
            page.figure(&figure.svg, &figure.caption);
        }
        Ok(page.finish(&self.data().to_string()))
    }

    fn pictures(&self, page: &mut Page) -> Result<()> {
        let seen = self.seen;
        let eight: Vec<u32> = (0..8).map(|place| (place * seen.clean.len() / 8) as u32).collect();
        let [clean, triggered, adversarial] =
            [seen.clean, seen.triggered, &seen.infected.adversarial].map(|images| images.subset(&eight));
        page.heading("The images");
        page.pictures(
            &[("clean", &clean), ("triggered", &triggered), ("adversarial", &adversarial)],
            "The same images as they are, with the trigger, and attacked without knowing the trigger (the paper's Fig. 3).",
        )?;
        page.heading("Distances between features");
        page.table(
            &self.distances,
            "Mean Euclidean distance between the features of an image's adversarial example and of the image with \
             the trigger: D_infected and D_benign of the paper's Table 5, where it is smaller in the infected model. \
             The last column says how far the trigger moves an image by itself.",
        );
        Ok(())
    }
}

fn confusion(seen: &Observations, of: &Observation, name: &'static str, heading: &'static str) -> Figure {
    let classes = &seen.clean.classes;
    let share = |row: &Vec<u64>| {
        let all = row.iter().sum::<u64>().max(1) as f64;
        row.iter().map(|&count| count as f64 / all).collect::<Vec<f64>>()
    };
    let shares: Vec<Vec<f64>> = of.confusion.rows().iter().map(share).collect();
    let cells = |(class, row): (&String, &Vec<u64>)| {
        std::iter::once(class.clone()).chain(row.iter().map(u64::to_string)).collect()
    };
    Figure {
        name,
        heading,
        caption: format!(
            "Where untargeted adversarial examples land (L∞, ε {}/255): the row is the true label, the column the \
             predicted one, in per cent of the row (the paper's Fig. 1 and 4). A full column is the mark of an \
             all-to-one backdoor, a full diagonal beside the main one that of all-to-all.",
            seen.epsilon
        ),
        svg: svg::matrix(heading, "predicted label", "true label", classes, &shares),
        header: std::iter::once("label".into()).chain(classes.iter().cloned()).collect(),
        rows: classes.iter().zip(of.confusion.rows()).map(cells).collect(),
    }
}

fn distances(seen: &Observations) -> Vec<Vec<String>> {
    let header = ["model", "adversarial to triggered", "clean to triggered"].map(String::from);
    let row = |name: &str, of: &Observation| {
        vec![
            name.to_string(),
            two_decimals(of.adversarial_to_triggered()),
            two_decimals(of.clean_to_triggered()),
        ]
    };
    let mut rows = vec![header.to_vec(), row("infected", &seen.infected)];
    rows.extend(seen.benign.as_ref().map(|benign| row("benign", benign)));
    rows
}

fn embedding(seen: &Observations, seed: u64) -> Figure {
    let of = &seen.infected;
    let features = [of.clean_features.as_slice(), &of.adversarial_features, &of.triggered_features];
    let places = tsne(&features.concat(), of.width, seed);
    let parts: Vec<&[[f64; 2]]> = places.chunks(seen.clean.len()).collect();
    let groups: Vec<PointSeries> =
        KINDS.iter().zip(&parts).map(|(name, points)| PointSeries { name, points }).collect();
    let rows = KINDS.iter().zip(&parts).flat_map(|(kind, points)| {
        points.iter().enumerate().map(|(image, [x, y])| {
            let label = &seen.clean.classes[seen.clean.labels[image] as usize];
            vec![
                kind.to_string(),
                seen.clean.names[image].clone(),
                label.clone(),
                format!("{x:?}"),
                format!("{y:?}"),
            ]
        })
    });
    Figure {
        name: "tsne",
        heading: "Features in a plane",
        caption: "t-SNE of the infected model's features (the paper's Fig. 5). Where adversarial examples lie among \
                  triggered images, an attack that doesn't know the trigger finds what the trigger does."
            .into(),
        svg: svg::points("t-SNE of clean, adversarial and triggered features", &groups),
        header: ["kind", "image", "label", "x", "y"].map(String::from).to_vec(),
        rows: rows.collect(),
    }
}

fn ranking(runs: &Runs) -> Option<Figure> {
    let thin = |points: &Vec<[f64; 2]>| -> Vec<[f64; 2]> {
        let step = points.len().div_ceil(POINTS).max(1);
        let last = points.last().filter(|_| !(points.len() - 1).is_multiple_of(step));
        points.iter().step_by(step).chain(last).copied().collect()
    };
    let lines: Vec<LineSeries> = runs
        .curves
        .iter()
        .map(|(name, points)| LineSeries { name: name.clone(), points: thin(points) })
        .collect();
    let rows = lines.iter().flat_map(|line| {
        line.points.iter().map(|[x, y]| vec![line.name.clone(), format!("{x:?}"), format!("{y:?}")])
    });
    let least = lines.iter().flat_map(|line| &line.points).map(|[_, y]| *y).fold(1.0, f64::min);
    let down = ("precision", [(10.0 * least).floor() / 10.0 - if least == 1.0 { 0.1 } else { 0.0 }, 1.0]);
    (!lines.is_empty()).then(|| Figure {
        name: "ranking",
        heading: "Ranking the training images",
        caption: "Precision and recall of clean images down the ranking, by round (the paper's Fig. 6)."
            .into(),
        svg: svg::lines("Precision and recall of clean images", ("recall", [0.0, 1.0]), down, &lines),
        header: ["curve", "recall", "precision"].map(String::from).to_vec(),
        rows: rows.collect(),
    })
}

fn rounds(runs: &Runs) -> Option<Figure> {
    let cell = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:?}"));
    let mut lines = Vec::new();
    let mut rows = Vec::new();
    let mut last: f64 = 2.0;
    for (name, rounds) in &runs.rounds {
        let points = |value: fn(&RoundPoint) -> Option<f64>| {
            rounds.iter().filter_map(|round| Some([round.round, value(round)?])).collect()
        };
        lines.push(LineSeries { name: format!("{name}, ACC"), points: points(|round| round.clean_accuracy) });
        lines.push(LineSeries { name: format!("{name}, ASR"), points: points(|round| round.asr) });
        for round in rounds {
            last = last.max(round.round);
            let figures = [round.clean_accuracy, round.asr, round.average_precision].map(cell);
            rows.push([name.clone(), round.round.to_string()].into_iter().chain(figures).collect());
        }
    }
    let caption = "Accuracy and attack success before a purification (0) and after each of its rounds (the \
                   paper's Fig. 7).";
    let (across, down) = (("round", [0.0, last]), ("per cent", [0.0, 100.0]));
    (!lines.is_empty()).then(|| Figure {
        name: "rounds",
        heading: "Round by round",
        caption: caption.into(),
        svg: svg::lines("ACC and ASR by round", across, down, &lines),
        header: ["run", "round", "clean_accuracy", "asr", "average_precision"].map(String::from).to_vec(),
        rows,
    })
}
