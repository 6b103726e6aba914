//! A comparison as Markdown, LaTeX and one HTML page.

use std::fmt::Write;

use super::{Comparison, ComparisonTable, TableCell, distinct};
use crate::error::Result;
use crate::report::page::Page;
use crate::report::svg::{PointSeries, heat_map, scatter};

/// What the columns are.
const LEGEND: &str = "Per cent; mean over the seeds, from two on ± the sample standard deviation. ACC: accuracy on clean test \
                      images. ASR: triggered test images that get the attacker's label. R-ACC: those that get their true one. \
                      DER: (max(0, drop of ASR) − max(0, drop of ACC) + 100) / 2. Seconds: of the defence, without loading and \
                      measuring. Bold: the best defence by the mean. A dash: not done or not measured.";

impl Comparison {
    /// `compare.md`.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("# Comparison of defences\n\n{}\n\n{LEGEND}\n", markdown(&self.about));
        for remark in self.remarks() {
            let _ = write!(text, "\n- {}", markdown(&remark));
        }
        if !self.remarks().is_empty() {
            text.push('\n');
        }
        for ComparisonTable { title, rows, caption } in self.tables() {
            let _ = write!(text, "\n## {}\n\n", markdown(&title));
            for (number, row) in rows.iter().enumerate() {
                let cells: Vec<String> =
                    row.iter().map(|cell| bold(&markdown(&cell.text), cell.best, "**", "**")).collect();
                let _ = writeln!(text, "| {} |", cells.join(" | "));
                if number == 0 {
                    let _ = writeln!(text, "|---|{}", "--:|".repeat(row.len().saturating_sub(1)));
                }
            }
            if !caption.is_empty() {
                let _ = write!(text, "\n{}\n", markdown(&caption));
            }
        }
        text
    }

    /// `compare.tex`: plain tabulars that need no package.
    pub fn to_latex(&self) -> String {
        let mut text = format!("% {}\n% {LEGEND}\n", self.about);
        for remark in self.remarks() {
            let _ = writeln!(text, "% {remark}");
        }
        for ComparisonTable { title, rows, .. } in self.tables() {
            let columns = rows.first().map_or(1, Vec::len);
            let _ = writeln!(text, "\n\\begin{{tabular}}{{l{}}}\n\\hline", "r".repeat(columns - 1));
            let _ = writeln!(text, "\\multicolumn{{{columns}}}{{l}}{{{}}} \\\\\n\\hline", latex(&title));
            for (number, row) in rows.iter().enumerate() {
                let cells: Vec<String> =
                    row.iter().map(|cell| bold(&latex(&cell.text), cell.best, "\\textbf{", "}")).collect();
                let line = if number == 0 { "\n\\hline" } else { "" };
                let _ = writeln!(text, "{} \\\\{line}", cells.join(" & "));
            }
            text.push_str("\\hline\n\\end{tabular}\n");
        }
        text
    }

    /// `compare.html`, which needs no other file.
    pub fn to_page(&self) -> Result<String> {
        let mut page = Page::new("Comparison of defences", &self.about);
        page.list(&self.remarks());
        let (models, defences) = (self.models(), self.defences());
        let row = |(model, _): &(&str, &str)| -> Vec<Option<f64>> {
            defences.iter().map(|defence| Some(self.summary(model, defence)?.der?.mean)).collect()
        };
        let ders: Vec<_> = models.iter().map(row).collect();
        let names: Vec<&str> = models.iter().map(|(model, _)| *model).collect();
        page.heading("DER");
        page.figure(
            &heat_map("DER of each defence on each model", &names, &defences, &ders, [50.0, 100.0]),
            "Defence effectiveness in per cent, mean over the seeds: 100 where the backdoor is gone and no accuracy is lost, \
             50 where nothing has changed, less where accuracy is lost for nothing.",
        );
        page.heading("Accuracy and attack success");
        let points = self.points();
        let groups: Vec<PointSeries> =
            points.iter().map(|(name, points)| PointSeries { name, points }).collect();
        page.figure(
            &scatter("ACC over ASR", ("ASR", [0.0, 100.0]), ("ACC", range(&groups)), &groups),
            "A point for each model, mean over the seeds. The top left corner is best.",
        );
        for (number, ComparisonTable { title, rows, caption }) in self.tables().iter().enumerate() {
            page.heading(title);
            let caption = if number == 0 { LEGEND } else { caption };
            let marked: Vec<Vec<(&str, bool)>> =
                rows.iter().map(|row| row.iter().map(cell).collect()).collect();
            page.marked_table(&marked, caption);
        }
        Ok(page.finish(&self.to_json()?))
    }

    /// ASR and ACC of every model: before, and after each defence.
    fn points(&self) -> Vec<(&str, Vec<[f64; 2]>)> {
        let models = distinct(self.models().into_iter().map(|(model, _)| model));
        let before = models.iter().filter_map(|model| {
            let before = self.before(model)?;
            Some([before.asr?, before.clean_accuracy?])
        });
        let mut series = vec![("before", before.collect())];
        for defence in self.defences() {
            let after = models.iter().filter_map(|model| {
                let summary = self.summary(model, defence)?;
                Some([summary.asr?.mean, summary.clean_accuracy?.mean])
            });
            series.push((defence, after.collect()));
        }
        series
    }
}

fn cell(cell: &TableCell) -> (&str, bool) {
    (&cell.text, cell.best)
}

/// The accuracies that occur, between ends whose quarters are multiples of five.
fn range(groups: &[PointSeries]) -> [f64; 2] {
    let all = || groups.iter().flat_map(|group| group.points).map(|[_, acc]| *acc);
    let tens = |acc: f64| (acc / 10.0).floor() * 10.0;
    let least = all().reduce(f64::min).map_or(0.0, tens).clamp(0.0, 90.0);
    let most = all().reduce(f64::max).map_or(100.0, |acc| tens(acc) + 10.0).clamp(least + 10.0, 100.0);
    let odd = if (most - least) % 20.0 == 0.0 { 0.0 } else { 10.0 };
    if least > 0.0 { [least - odd, most] } else { [least, most + odd] }
}

fn bold(text: &str, best: bool, open: &str, close: &str) -> String {
    if best { format!("{open}{text}{close}") } else { text.into() }
}

/// Text that no character of is Markdown.
fn markdown(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        if "\\`*_[]<>|#~".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
        escaped
    })
}

/// Text that no character of is LaTeX.
fn latex(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', c]),
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '<' | '>' | '|' | '−' | '±' => {
                let sign = match c {
                    '±' => "\\pm",
                    '|' => "\\vert",
                    '−' => "-",
                    '<' => "<",
                    _ => ">",
                };
                let _ = write!(escaped, "${sign}$");
            }
            '—' => escaped.push_str("---"),
            _ => escaped.push(c),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::comparison;
    use super::*;

    #[test]
    fn markdown_has_the_tables_and_what_is_missing() {
        let text = comparison().to_markdown();
        for part in [
            "\n- 1 of 7 runs are not done yet.\n- m2, f\\|t\\_\\<1\\>, seed 1 failed: c.toml: no\\_image & none\n",
            "\n## m\\_1 (badnets)\n\n| defence | runs | ACC |",
            "\n|---|--:|--:|--:|--:|--:|--:|\n| before |  | 80.00 | 100.00 | 50.00 |  |  |\n",
            "| pbe | 2 | 80.00 ± 1.41 | **3.00 ± 1.41** |",
            "\n| f\\|t\\_\\<1\\> | 0 | — | — | — | — | — |\n",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(text.contains("none\n\n## "), "a table would go on with the list:\n{text}");
    }

    #[test]
    fn latex_escapes_names_and_signs() {
        let text = comparison().to_latex();
        for part in [
            "\\multicolumn{7}{l}{m\\_1 (badnets)} \\\\",
            "pbe & 2 & 80.00 $\\pm$ 1.41 & \\textbf{3.00 $\\pm$ 1.41} &",
            "f$\\vert$t\\_$<$1$>$ & 0 & --- &",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert_eq!(text.matches("\\begin{tabular}").count(), 3);
        assert_eq!(latex("a\\b{c}^~%"), "a\\textbackslash{}b\\{c\\}\\textasciicircum{}\\textasciitilde{}\\%");
    }

    #[test]
    fn the_page_is_whole_and_escaped() {
        let page = comparison().to_page().unwrap();
        assert_eq!((page.matches("<svg").count(), page.matches("<table").count()), (2, 3));
        assert!(page.contains("<b>98.25 ± 1.06</b>") && page.contains("f|t_&lt;1&gt;"));
        let body = page.split("<script").next().unwrap();
        assert!(!body.contains("<1>") && !page.contains("src=\"http"));
    }

    #[test]
    fn the_axis_of_the_accuracy_has_round_ends() {
        let of = |points: &[[f64; 2]]| range(&[PointSeries { name: "", points }]);
        assert_eq!(of(&[[0.0, 71.5], [0.0, 83.0]]), [70.0, 90.0]);
        assert_eq!((of(&[[0.0, 100.0]]), of(&[])), ([80.0, 100.0], [0.0, 100.0]));
        assert_eq!((of(&[[0.0, 0.0]]), of(&[[0.0, 65.0]])), ([0.0, 20.0], [50.0, 70.0]));
    }
}
