//! A table of numbers as colours.

use std::fmt::Write;

use super::{escape, open, short, text};

const CELL: [f64; 2] = [58.0, 30.0];

/// Numbers in rows and columns with a name each: darker is more, from the first of `range` to the last. None is an empty cell
/// with a dash.
pub fn heat_map(
    title: &str,
    rows: &[&str],
    columns: &[&str],
    values: &[Vec<Option<f64>>],
    range: [f64; 2],
) -> String {
    let ([wide, high], left, top) = (CELL, 190.0, 90.0);
    let (width, height) = (left + wide * columns.len() as f64 + 60.0, top + high * rows.len() as f64 + 8.0);
    let mut svg = open(width, height, title);
    for (index, name) in columns.iter().enumerate() {
        let x = left + wide * (index as f64 + 0.5);
        let name = escape(&short(name, 14));
        let _ =
            writeln!(svg, "<text transform=\"translate({x:.1} {:.1}) rotate(-40)\">{name}</text>", top - 8.0);
    }
    for (down, (name, row)) in rows.iter().zip(values).enumerate() {
        let y = top + high * down as f64;
        text(&mut svg, left - 10.0, y + high / 2.0 + 4.0, "end", &short(name, 26));
        for (across, value) in row.iter().enumerate() {
            cell(&mut svg, left + wide * across as f64, y, *value, range);
        }
    }
    svg + "</svg>\n"
}

fn cell(svg: &mut String, x: f64, y: f64, value: Option<f64>, [first, last]: [f64; 2]) {
    let [wide, high] = CELL;
    let share = value.map(|value| ((value - first) / (last - first).max(1e-9)).clamp(0.0, 1.0));
    if let Some(share) = share {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#0072b2\" fill-opacity=\"{:.3}\"/>",
            wide - 1.0,
            high - 1.0,
            0.06 + 0.94 * share
        );
    }
    let colour = if share.is_some_and(|share| share > 0.5) { " fill=\"#fff\"" } else { "" };
    let words = value.map_or_else(|| "—".into(), |value| format!("{value:.1}"));
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\"{colour}>{words}</text>",
        x + (wide - 1.0) / 2.0,
        y + high / 2.0 + 4.0
    );
}

#[cfg(test)]
mod tests {
    use super::heat_map;

    #[test]
    fn every_number_has_its_colour_and_none_has_a_dash() {
        let svg = heat_map(
            "t",
            &["<m>", "n"],
            &["a", "b&c"],
            &[vec![Some(50.0), None], vec![Some(100.0); 2]],
            [50.0, 100.0],
        );
        assert_eq!((svg.matches("<rect").count(), svg.matches('—').count()), (3, 1));
        assert!(svg.contains("&lt;m&gt;") && svg.contains("b&amp;c"));
        assert!(svg.contains("fill-opacity=\"0.060\"") && svg.contains("fill-opacity=\"1.000\""));
    }
}
