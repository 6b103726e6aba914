//! Many runs side by side: models, defences and seeds, as statistics, tables and one page.

mod render;
mod statistics;
mod tables;

use std::path::Path;

use serde::Serialize;
use serde_json::json;

pub use statistics::{Spread, Summary};
pub use tables::{ComparisonTable, TableCell};

use super::csv::write_rows;
use super::result::{COMMIT, RunResult, SCHEMA};
use crate::error::{Error, Result};
use crate::eval::Metrics;

/// One run of a comparison: a model, a defence, a seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedRun {
    pub model: String,
    /// What was planted into the model.
    pub attack: String,
    pub defence: String,
    pub seed: u64,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What is known of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Outcome {
    /// It ended.
    Done(Box<Figures>),
    /// It can't be done.
    Failed {
        /// In one line.
        cause: String,
    },
    /// Nobody has done it yet.
    Missing,
}

/// What a run measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// The model given.
    pub before: Metrics,
    /// The model made.
    pub after: Metrics,
    /// Defence effectiveness, in per cent.
    pub der: Option<f64>,
    /// Of the defence itself, over all processes that worked on the run.
    pub seconds: f64,
    /// The device that computed, in words.
    pub device: String,
    /// Of the program.
    pub commit: String,
}

impl Figures {
    /// Those of a `pbe purify`.
    pub fn new(result: &RunResult) -> Self {
        // `load` and `run` are of the process that ended the run, the others are of the defence's phases.
        let phases = result.seconds.iter().filter(|(phase, _)| *phase != "load" && *phase != "run");
        Self {
            before: result.before,
            after: result.after,
            der: result.der,
            seconds: phases.map(|(_, seconds)| seconds).sum(),
            device: result.device.clone(),
            commit: result.commit.clone(),
        }
    }
}

/// All runs of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What was compared, in a sentence.
    pub about: String,
    /// Every model with every defence and every seed, in this order.
    pub runs: Vec<ComparedRun>,
}

impl Comparison {
    /// The models and what was planted into each.
    pub fn models(&self) -> Vec<(&str, &str)> {
        distinct(self.runs.iter().map(|run| (run.model.as_str(), run.attack.as_str())))
    }

    /// The defences' names.
    pub fn defences(&self) -> Vec<&str> {
        distinct(self.runs.iter().map(|run| run.defence.as_str()))
    }

    /// What a model's runs with a defence say together; none where none has ended.
    pub fn summary(&self, model: &str, defence: &str) -> Option<Summary> {
        let runs = self.runs.iter().filter(|run| run.model == model && run.defence == defence);
        Summary::new(&runs.filter_map(ComparedRun::figures).collect::<Vec<_>>())
    }

    /// The model before any defence; none where no run of it has ended.
    pub fn before(&self, model: &str) -> Option<Metrics> {
        let mut runs = self.runs.iter().filter(|run| run.model == model);
        runs.find_map(ComparedRun::figures).map(|figures| figures.before)
    }

    /// What a reader of the tables has to know: runs that aren't there, and why others failed.
    pub fn remarks(&self) -> Vec<String> {
        let missing = self.runs.iter().filter(|run| run.outcome == Outcome::Missing).count();
        let mut remarks = vec![];
        if missing > 0 {
            remarks.push(format!("{missing} of {} runs are not done yet.", self.runs.len()));
        }
        remarks.extend(self.runs.iter().filter_map(|run| {
            let Outcome::Failed { cause } = &run.outcome else {
                return None;
            };
            let ComparedRun { model, defence, seed, .. } = run;
            Some(format!("{model}, {defence}, seed {seed} failed: {cause}"))
        }));
        remarks
    }

    /// Writes `compare.csv`: a row per run. An empty cell is a figure that was not measured.
    pub fn write_csv(&self, path: &Path) -> Result<()> {
        let header = [
            "model",
            "attack",
            "defence",
            "seed",
            "state",
            "clean_accuracy_before",
            "asr_before",
            "robust_accuracy_before",
            "clean_accuracy_after",
            "asr_after",
            "robust_accuracy_after",
            "der",
            "seconds",
            "device",
            "commit",
            "cause",
        ];
        let rows: Vec<Vec<String>> = self.runs.iter().map(ComparedRun::row).collect();
        write_rows(path, &header.map(String::from), &rows)
    }

    /// The object that `--json` prints: every run, and what each defence reaches over all models.
    pub fn to_json(&self) -> Result<String> {
        let defences: Vec<_> = self
            .defences()
            .into_iter()
            .map(|defence| {
                let ders = self.ders(defence);
                json!({"defence": defence, "models": ders.len(), "mean_der": Spread::of(&ders).map(|der| der.mean)})
            })
            .collect();
        let object = json!({
            "schema": SCHEMA,
            "command": "compare",
            "version": env!("CARGO_PKG_VERSION"),
            "commit": COMMIT,
            "runs": self.runs,
            "defences": defences,
        });
        let text = serde_json::to_string_pretty(&object)
            .map_err(|cause| Error::run(format!("comparison as JSON: {cause}")))?;
        Ok(text + "\n")
    }

    /// A defence's mean DER on each model on which it has one.
    fn ders(&self, defence: &str) -> Vec<f64> {
        let models = self.models().into_iter();
        models.filter_map(|(model, _)| Some(self.summary(model, defence)?.der?.mean)).collect()
    }
}

impl ComparedRun {
    fn figures(&self) -> Option<&Figures> {
        match &self.outcome {
            Outcome::Done(figures) => Some(figures),
            _ => None,
        }
    }

    fn row(&self) -> Vec<String> {
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:?}"));
        let of = |metrics: &Metrics| {
            [metrics.clean_accuracy, metrics.asr, metrics.robust_accuracy].map(number).to_vec()
        };
        let (state, figures, cause) = match &self.outcome {
            Outcome::Done(figures) => ("done", Some(figures), ""),
            Outcome::Failed { cause } => ("failed", None, cause.as_str()),
            Outcome::Missing => ("missing", None, ""),
        };
        let mut row =
            vec![self.model.clone(), self.attack.clone(), self.defence.clone(), self.seed.to_string()];
        row.push(state.into());
        row.extend(figures.map_or_else(|| of(&Metrics::default()), |figures| of(&figures.before)));
        row.extend(figures.map_or_else(|| of(&Metrics::default()), |figures| of(&figures.after)));
        row.push(number(figures.and_then(|figures| figures.der)));
        row.push(number(figures.map(|figures| figures.seconds)));
        row.extend(figures.map_or_else(Default::default, |it| [it.device.clone(), it.commit.clone()]));
        row.push(cause.into());
        row
    }
}

/// Each value once, in the order of its first place.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.fold(vec![], |mut seen, value| {
        if !seen.contains(&value) {
            seen.push(value);
        }
        seen
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A run that ended with this ACC and ASR; 80 and 100 before.
    pub fn done(model: &str, defence: &str, seed: u64, acc: f64, asr: f64) -> ComparedRun {
        let of = |acc, asr| Metrics {
            clean_accuracy: Some(acc),
            asr: Some(asr),
            robust_accuracy: Some(50.0),
            ..Metrics::default()
        };
        let mut result = RunResult::new("purify", "cpu", seed);
        result.judge(of(80.0, 100.0), of(acc, asr));
        result.seconds = [("clean".into(), 2.0), ("load".into(), 100.0), ("run".into(), 100.0)].into();
        let outcome = Outcome::Done(Box::new(Figures::new(&result)));
        ComparedRun { model: model.into(), attack: "badnets".into(), defence: defence.into(), seed, outcome }
    }

    /// Two models; of `ft` one run is missing and one failed, and its names have what each format escapes.
    pub fn comparison() -> Comparison {
        let lost = |model: &str, outcome| ComparedRun { outcome, ..done(model, "f|t_<1>", 1, 0.0, 0.0) };
        let cause = "c.toml: no_image & none".to_string();
        let runs = vec![
            done("m_1", "pbe", 0, 79.0, 4.0),
            done("m_1", "pbe", 1, 81.0, 2.0),
            done("m_1", "f|t_<1>", 0, 82.0, 50.0),
            lost("m_1", Outcome::Missing),
            done("m2", "pbe", 0, 70.0, 0.0),
            done("m2", "pbe", 1, 70.0, 0.0),
            lost("m2", Outcome::Failed { cause }),
        ];
        Comparison { about: "A test.".into(), runs }
    }

    #[test]
    fn models_and_defences_keep_their_order() {
        let all = comparison();
        assert_eq!(all.models(), [("m_1", "badnets"), ("m2", "badnets")]);
        assert_eq!(all.defences(), ["pbe", "f|t_<1>"]);
        assert_eq!((all.before("m2").and_then(|it| it.asr), all.before("m3")), (Some(100.0), None));
        assert_eq!(
            all.remarks(),
            ["1 of 7 runs are not done yet.", "m2, f|t_<1>, seed 1 failed: c.toml: no_image & none"]
        );
    }

    #[test]
    fn a_row_per_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("compare.csv");
        comparison().write_csv(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 8);
        let first = format!("m_1,badnets,pbe,0,done,80.0,100.0,50.0,79.0,4.0,50.0,97.5,2.0,cpu,{COMMIT},");
        assert_eq!(lines[1], first);
        assert_eq!(lines[4], "m_1,badnets,f|t_<1>,1,missing,,,,,,,,,,,");
        assert_eq!(lines[7], "m2,badnets,f|t_<1>,1,failed,,,,,,,,,,,c.toml: no_image & none");
    }

    #[test]
    fn the_object_has_every_run_and_every_defence() {
        let text = comparison().to_json().unwrap();
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["runs"].as_array().map(Vec::len), Some(7));
        assert_eq!((&object["runs"][0]["state"], &object["runs"][0]["der"]), (&"done".into(), &97.5.into()));
        assert_eq!(object["runs"][6]["cause"], "c.toml: no_image & none");
        assert_eq!(
            (&object["defences"][0]["models"], &object["defences"][1]["models"]),
            (&2.into(), &1.into())
        );
    }
}
