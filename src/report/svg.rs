//! Figures as SVG: a matrix, points, lines, a heat map, a scatter plot. Text takes the colour of the page, so that a figure can be
//! read on a light and on a dark one.

mod heat_map;
mod scatter;

use std::fmt::Write;

pub use heat_map::heat_map;
pub use scatter::scatter;

/// Colours that people with any colour vision can distinguish (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
/// Dashes that distinguish lines without colour.
const DASHES: [&str; 3] = ["", "6 3", "2 3"];

/// Text as it may stand in XML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn open(width: f64, height: f64, title: &str) -> String {
    let title = escape(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"{title}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"currentColor\">\
         <title>{title}</title>\n"
    )
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = escape(words);
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

/// A word of at most `length` characters.
fn short(word: &str, length: usize) -> String {
    let cut: String = word.chars().take(length).collect();
    if cut.chars().count() < word.chars().count() { cut + "…" } else { cut }
}

/// A matrix of shares from 0 to 1: darker is more, with the per cent in each cell where there is room.
pub fn matrix(title: &str, across: &str, down: &str, names: &[String], rows: &[Vec<f64>]) -> String {
    let count = names.len().max(1) as f64;
    let cell = (560.0 / count).clamp(6.0, 44.0);
    let (left, top) = (110.0, 96.0);
    let (width, height) = (left + cell * count + 16.0, top + cell * count + 12.0);
    let mut svg = open(width, height, title);
    text(&mut svg, left + cell * count / 2.0, 16.0, "middle", across);
    let _ = writeln!(
        svg,
        "<text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        top + cell * count / 2.0,
        escape(down)
    );
    for (index, name) in names.iter().enumerate() {
        let middle = cell * (index as f64 + 0.5);
        // Names of many classes would lie upon each other.
        if cell >= 12.0 {
            text(&mut svg, left - 8.0, top + middle + 4.0, "end", &short(name, 12));
            let _ = writeln!(
                svg,
                "<text transform=\"translate({:.1} {:.1}) rotate(-50)\">{}</text>",
                left + middle,
                top - 8.0,
                escape(&short(name, 12))
            );
        }
    }
    for (down, row) in rows.iter().enumerate() {
        for (across, &share) in row.iter().enumerate() {
            let (x, y) = (left + cell * across as f64, top + cell * down as f64);
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#0072b2\" \
                 fill-opacity=\"{:.3}\"/>",
                cell - 1.0,
                cell - 1.0,
                0.06 + 0.94 * share
            );
            if cell >= 24.0 && share >= 0.005 {
                let colour = if share > 0.5 { " fill=\"#fff\"" } else { "" };
                let _ = writeln!(
                    svg,
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\"{colour}>{:.0}</text>",
                    x + (cell - 1.0) / 2.0,
                    y + cell / 2.0 + 4.0,
                    100.0 * share
                );
            }
        }
    }
    svg + "</svg>\n"
}

/// A named group of points.
pub struct PointSeries<'a> {
    pub name: &'a str,
    pub points: &'a [[f64; 2]],
}

/// Points without axes, each group in a colour and a shape of its own.
pub fn points(title: &str, groups: &[PointSeries]) -> String {
    let (width, height, top) = (620.0, 500.0, 34.0);
    let mut svg = open(width, height, title);
    let all = || groups.iter().flat_map(|group| group.points);
    let reach = all().flatten().fold(1e-9f64, |reach, value| reach.max(value.abs()));
    let scale = (height - top) / 2.0 / reach * 0.96;
    for (number, group) in groups.iter().enumerate() {
        let _ = writeln!(svg, "<g fill=\"{}\" fill-opacity=\"0.7\">", COLOURS[number % COLOURS.len()]);
        for [x, y] in group.points {
            mark(&mut svg, number, width / 2.0 + scale * x, top + (height - top) / 2.0 + scale * y);
        }
        svg.push_str("</g>\n");
    }
    legend(&mut svg, groups.iter().map(|group| group.name), true);
    svg + "</svg>\n"
}

fn mark(svg: &mut String, shape: usize, x: f64, y: f64) {
    let _ = match shape % 3 {
        0 => writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.2\"/>"),
        1 => writeln!(svg, "<path d=\"M{:.1} {:.1}l3.8 6.6h-7.6z\"/>", x, y - 4.4),
        _ => writeln!(svg, "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"5.6\" height=\"5.6\"/>", x - 2.8, y - 2.8),
    };
}

/// A named line.
pub struct LineSeries {
    pub name: String,
    pub points: Vec<[f64; 2]>,
}

/// Lines over two axes; `across` and `down` are the ranges.
pub fn lines(title: &str, across: (&str, [f64; 2]), down: (&str, [f64; 2]), lines: &[LineSeries]) -> String {
    let (width, height, left, top, bottom) = (620.0, 400.0, 62.0, 40.0, 50.0);
    let mut svg = open(width, height, title);
    let (right, low) = (width - 16.0, height - bottom);
    let place = |value: f64, [first, last]: [f64; 2], from: f64, to: f64| {
        from + (value - first) / (last - first).max(1e-9) * (to - from)
    };
    for step in 0..=steps(across.1) {
        let share = f64::from(step) / f64::from(steps(across.1));
        text(&mut svg, left + share * (right - left), low + 18.0, "middle", &tick(across.1, share));
    }
    for step in 0..=steps(down.1) {
        let share = f64::from(step) / f64::from(steps(down.1));
        let y = low + share * (top - low);
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {y:.1}H{right}\" stroke=\"currentColor\" stroke-opacity=\"0.2\"/>"
        );
        text(&mut svg, left - 8.0, y + 4.0, "end", &tick(down.1, share));
    }
    text(&mut svg, f64::midpoint(left, right), height - 10.0, "middle", across.0);
    let _ = writeln!(
        svg,
        "<text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        f64::midpoint(top, low),
        escape(down.0)
    );
    for (number, line) in lines.iter().enumerate() {
        let mut path = String::new();
        for (index, [x, y]) in line.points.iter().enumerate() {
            let (x, y) = (place(*x, across.1, left, right), place(*y, down.1, low, top));
            let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
        }
        let (colour, dash) = (COLOURS[number % COLOURS.len()], DASHES[number % DASHES.len()]);
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>"
        );
        if line.points.len() < 20 {
            let _ = writeln!(svg, "<g fill=\"{colour}\">");
            for [x, y] in &line.points {
                mark(&mut svg, number, place(*x, across.1, left, right), place(*y, down.1, low, top));
            }
            svg.push_str("</g>\n");
        }
    }
    legend(&mut svg, lines.iter().map(|line| line.name.as_str()), false);
    svg + "</svg>\n"
}

/// Steps of an axis: whole numbers where they are few, as rounds are.
fn steps([first, last]: [f64; 2]) -> u32 {
    let range = last - first;
    if range.fract() == 0.0 && (2.0..=8.0).contains(&range) { range as u32 } else { 4 }
}

fn tick([first, last]: [f64; 2], share: f64) -> String {
    let value = first + share * (last - first);
    let digits = match last - first {
        range if range > 4.0 => 1,
        range if range >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn legend<'a>(svg: &mut String, names: impl Iterator<Item = &'a str>, marks: bool) {
    let mut x = 24.0;
    for (number, name) in names.enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        if marks {
            let _ = writeln!(svg, "<g fill=\"{colour}\">");
            mark(svg, number, x, 16.0);
            svg.push_str("</g>\n");
        } else {
            let dash = DASHES[number % DASHES.len()];
            let _ = writeln!(
                svg,
                "<path d=\"M{:.1} 16h18\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>",
                x - 10.0
            );
        }
        text(svg, x + 14.0, 20.0, "start", name);
        x += 40.0 + 7.0 * name.chars().count() as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_cut() {
        let names = vec!["<a&b>".to_string(), "a very long class name".into()];
        let svg = matrix("\"t\"", "x", "y", &names, &[vec![1.0, 0.0], vec![0.25, 0.75]]);
        assert!(svg.contains("&lt;a&amp;b&gt;") && !svg.contains("<a&b>"));
        assert!(svg.contains("a very long …") && svg.contains("&quot;t&quot;"));
        assert_eq!(svg.matches("<rect").count(), 4);
    }

    #[test]
    fn ticks_have_no_idle_zeros() {
        assert_eq!([0.0, 0.5, 1.0].map(|share| tick([0.0, 1.0], share)), ["0", "0.5", "1"]);
        assert_eq!(tick([0.0, 100.0], 0.25), "25");
        assert_eq!(tick([0.0, 10.0], 1.0), "10");
        assert_eq!(tick([0.9, 1.0], 0.25), "0.925");
        assert_eq!([[0.0, 3.0], [0.0, 1.0], [0.0, 100.0], [0.5, 3.0]].map(steps), [3, 4, 4, 4]);
    }
}
