//! CSV files, one writer each. Numbers are printed so that reading them gives the same bits; an
//! empty cell is a figure that was not measured.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::result::RoundResult;
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::eval::{CurvePoint, Suspects, predictions, ranked};
use crate::fs::write_atomic_with;

type Writer<'a> = csv::Writer<&'a mut BufWriter<File>>;

/// Writes `metrics.csv`: a row per round, with a `seconds_…` column for every phase of any round.
pub fn write_metrics(path: &Path, rounds: &[RoundResult]) -> Result<()> {
    let mut phases: Vec<&String> = rounds.iter().flat_map(|round| round.seconds.keys()).collect();
    phases.sort();
    phases.dedup();
    let figures = [
        "round",
        "dropped",
        "trained",
        "trained_precision",
        "attack_loss",
        "adversarial_loss",
        "clean_loss",
        "clean_accuracy",
        "asr",
        "selected",
        "selected_share",
        "selected_precision",
        "average_precision",
    ];
    let header = figures.into_iter().map(String::from);
    let header = header.chain(phases.iter().map(|phase| format!("seconds_{phase}")));
    write(path, |csv| {
        csv.write_record(header)?;
        for round in rounds {
            let seconds = phases.iter().map(|phase| cell(round.seconds.get(*phase).copied()));
            csv.write_record(round_cells(round).into_iter().chain(seconds))?;
        }
        Ok(())
    })
}

fn round_cells(round: &RoundResult) -> [String; 13] {
    [
        round.round.to_string(),
        cell(round.dropped),
        cell(round.trained),
        cell(round.trained_precision),
        cell(round.attack_loss),
        cell(round.adversarial_loss),
        cell(round.clean_loss),
        cell(round.clean_accuracy),
        cell(round.asr),
        cell(round.selected),
        cell(round.selected_share),
        cell(round.selected_precision),
        cell(round.average_precision),
    ]
}

/// One epoch of a training run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// From 0.
    pub epoch: u32,
    /// Mean training loss.
    pub loss: Option<f64>,
    /// At the epoch's first batch.
    pub learning_rate: f32,
    /// Accuracy after the epoch, per cent.
    pub clean_accuracy: Option<f64>,
    /// Attack success rate after the epoch, per cent.
    pub asr: Option<f64>,
    /// Seconds of training.
    pub seconds: f64,
}

/// Writes the `metrics.csv` of a training run: a row per epoch.
pub fn write_epochs(path: &Path, epochs: &[EpochMetrics]) -> Result<()> {
    write(path, |csv| {
        csv.write_record(["epoch", "loss", "learning_rate", "clean_accuracy", "asr", "seconds"])?;
        for epoch in epochs {
            csv.write_record([
                epoch.epoch.to_string(),
                cell(epoch.loss),
                cell(Some(epoch.learning_rate)),
                cell(epoch.clean_accuracy),
                cell(epoch.asr),
                cell(Some(epoch.seconds)),
            ])?;
        }
        Ok(())
    })
}

/// Writes predictions: index, file, label, predicted, and every logit (images × classes of them).
///
/// Errors: a logit that is not finite; a file that can't be written.
pub fn write_predictions(path: &Path, images: &ImageSet, logits: &[f32], classes: usize) -> Result<()> {
    let predicted = predictions(logits, classes)?;
    check_count(path, images, predicted.len())?;
    write(path, |csv| {
        let header = ["index", "file", "label", "predicted"].into_iter().map(String::from);
        csv.write_record(header.chain((0..classes).map(|class| format!("logit_{class}"))))?;
        for (index, row) in logits.chunks_exact(classes.max(1)).enumerate() {
            csv.write_field(index.to_string())?;
            csv.write_field(&images.names[index])?;
            csv.write_field(images.labels[index].to_string())?;
            csv.write_field(predicted[index].to_string())?;
            csv.write_record(row.iter().map(|logit| format!("{logit:?}")))?;
        }
        Ok(())
    })
}

/// Writes a ranking, the most clean image first: index, file, label, score.
pub fn write_ranking(path: &Path, images: &ImageSet, scores: &[f32]) -> Result<()> {
    check_count(path, images, scores.len())?;
    write(path, |csv| {
        csv.write_record(["index", "file", "label", "score"])?;
        for index in ranked(scores) {
            let place = index as usize;
            csv.write_record([
                &index.to_string(),
                &images.names[place],
                &images.labels[place].to_string(),
                &format!("{:?}", scores[place]),
            ])?;
        }
        Ok(())
    })
}

/// Writes the suspected images, the most suspicious first: index, file, label, deviation. Image i of `images` has the
/// index `taken[i]`.
pub fn write_suspects(path: &Path, images: &ImageSet, taken: &[u32], suspects: &Suspects) -> Result<()> {
    check_count(path, images, taken.len())?;
    write(path, |csv| {
        csv.write_record(["index", "file", "label", "deviation"])?;
        for &place in &suspects.images {
            let place = place as usize;
            csv.write_record([
                &taken[place].to_string(),
                &images.names[place],
                &images.classes[images.labels[place] as usize],
                &format!("{:?}", suspects.deviation[place]),
            ])?;
        }
        Ok(())
    })
}

/// Writes a precision–recall curve: recall, precision.
pub fn write_precision_recall(path: &Path, curve: &[CurvePoint]) -> Result<()> {
    write(path, |csv| {
        csv.write_record(["recall", "precision"])?;
        for point in curve {
            csv.write_record([format!("{:?}", point.recall), format!("{:?}", point.precision)])?;
        }
        Ok(())
    })
}

/// Writes rows of cells under a header.
pub fn write_rows(path: &Path, header: &[String], rows: &[Vec<String>]) -> Result<()> {
    write(path, |csv| {
        csv.write_record(header)?;
        rows.iter().try_for_each(|row| csv.write_record(row))
    })
}

fn write(path: &Path, rows: impl FnOnce(&mut Writer) -> csv::Result<()>) -> Result<()> {
    write_atomic_with(path, |file| {
        let mut writer = csv::Writer::from_writer(file);
        rows(&mut writer)?;
        io::Write::flush(&mut writer.into_inner().map_err(|e| e.into_error())?)
    })
}

fn check_count(path: &Path, images: &ImageSet, rows: usize) -> Result<()> {
    if rows == images.len() {
        return Ok(());
    }
    Err(Error::file(path, format!("{rows} rows for {} images", images.len())))
}

/// A number so that it reads back to the same bits.
fn cell(value: Option<impl Debug>) -> String {
    value.map_or_else(String::new, |value| format!("{value:?}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Seconds;
    use super::*;

    fn images() -> ImageSet {
        ImageSet {
            pixels: Arc::new(vec![0; 3]),
            labels: Arc::new(vec![1, 0, 2]),
            names: Arc::new(["a/1.png", "a, \"b\"/2.png", "c/3.png"].map(String::from).to_vec()),
            classes: Arc::new(["x", "y", "z"].map(String::from).to_vec()),
            height: 1,
            width: 1,
            channels: 1,
        }
    }

    fn written(write: impl FnOnce(&Path) -> Result<()>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        write(&path).unwrap();
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn metrics_have_a_row_per_round_and_a_column_per_phase() {
        let seconds = |phases: &[(&str, f64)]| -> Seconds {
            phases.iter().map(|&(phase, seconds)| (phase.to_string(), seconds)).collect()
        };
        let first = RoundResult {
            attack_loss: Some(2.5),
            clean_accuracy: Some(0.1 + 0.2),
            selected: Some(35_000),
            seconds: seconds(&[("rank", 1.5)]),
            ..RoundResult::default()
        };
        let second = RoundResult { round: 1, seconds: seconds(&[("attack", 2.0)]), ..RoundResult::default() };
        let text = written(|path| write_metrics(path, &[first, second]));
        let expected = "round,dropped,trained,trained_precision,attack_loss,adversarial_loss,clean_loss,clean_accuracy,asr,selected,selected_share,\
            selected_precision,average_precision,seconds_attack,seconds_rank\n\
            0,,,,2.5,,,0.30000000000000004,,35000,,,,,1.5\n1,,,,,,,,,,,,,2.0,\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn epochs_have_a_row_each() {
        let epoch = EpochMetrics {
            epoch: 1,
            loss: Some(0.5),
            learning_rate: 0.1,
            clean_accuracy: Some(9.0),
            ..EpochMetrics::default()
        };
        let expected = "epoch,loss,learning_rate,clean_accuracy,asr,seconds\n1,0.5,0.1,9.0,,0.0\n";
        assert_eq!(written(|path| write_epochs(path, &[epoch])), expected);
    }

    #[test]
    fn predictions_read_back_to_the_same_bits() {
        let logits = [0.1f32, -1.5e-20, 1.0 / 3.0, f32::MAX, 0.0, -0.0, 1.0, 2.0, f32::MIN_POSITIVE];
        let text = written(|path| write_predictions(path, &images(), &logits, 3));
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header: Vec<String> = reader.headers().unwrap().iter().map(String::from).collect();
        assert_eq!(header, ["index", "file", "label", "predicted", "logit_0", "logit_1", "logit_2"]);
        for (index, record) in reader.records().enumerate() {
            let record = record.unwrap();
            assert_eq!(record[0], index.to_string());
            assert_eq!(record[1], images().names[index]);
            assert_eq!(record[2], images().labels[index].to_string());
            assert_eq!(&record[3], ["2", "0", "1"][index]);
            for class in 0..3 {
                let read: f32 = record[4 + class].parse().unwrap();
                assert_eq!(read.to_bits(), logits[index * 3 + class].to_bits());
            }
        }
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn a_ranking_begins_with_the_highest_score() {
        let text = written(|path| write_ranking(path, &images(), &[0.25, 1.0, 0.5]));
        assert_eq!(
            text,
            "index,file,label,score\n1,\"a, \"\"b\"\"/2.png\",0,1.0\n2,c/3.png,2,0.5\n0,a/1.png,1,0.25\n"
        );
    }

    #[test]
    fn a_curve_is_two_columns() {
        let curve = [CurvePoint { recall: 0.5, precision: 1.0 }];
        assert_eq!(written(|path| write_precision_recall(path, &curve)), "recall,precision\n0.5,1.0\n");
    }

    #[test]
    fn rows_that_do_not_fit_the_images_and_broken_logits_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        assert!(write_ranking(&path, &images(), &[0.5]).is_err());
        assert!(write_predictions(&path, &images(), &[0.0; 6], 3).is_err());
        assert!(write_predictions(&path, &images(), &[f32::INFINITY; 9], 3).is_err());
        assert!(!path.exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let message = write_ranking(Path::new("/dev/full"), &images(), &[0.5; 3]).unwrap_err().to_string();
        assert!(message.starts_with("/dev/full: can't be written"), "{message}");
    }
}
