//! Points over two axes.

use std::fmt::Write;

use super::{COLOURS, PointSeries, escape, mark, open, steps, text, tick};

/// Groups of points over two axes, each with a name and a range; every group has a colour and a shape of its own. Their names
/// stand beside, so that there may be many.
pub fn scatter(
    title: &str,
    across: (&str, [f64; 2]),
    down: (&str, [f64; 2]),
    groups: &[PointSeries],
) -> String {
    let (left, top, right, low) = (62.0, 16.0, 482.0, 396.0f64);
    let height = (low + 50.0).max(top + 20.0 * groups.len() as f64 + 10.0);
    let mut svg = open(640.0, height, title);
    let place = |value: f64, [first, last]: [f64; 2], from: f64, to: f64| {
        from + ((value - first) / (last - first).max(1e-9)).clamp(0.0, 1.0) * (to - from)
    };
    for step in 0..=steps(across.1) {
        let share = f64::from(step) / f64::from(steps(across.1));
        let x = left + share * (right - left);
        let _ =
            writeln!(svg, "<path d=\"M{x:.1} {top}V{low}\" stroke=\"currentColor\" stroke-opacity=\"0.2\"/>");
        text(&mut svg, x, low + 18.0, "middle", &tick(across.1, share));
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
    text(&mut svg, f64::midpoint(left, right), low + 40.0, "middle", across.0);
    let (middle, name) = (f64::midpoint(top, low), escape(down.0));
    let _ = writeln!(
        svg,
        "<text transform=\"translate(14 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{name}</text>"
    );
    for (number, group) in groups.iter().enumerate() {
        // Where the colours begin again, the shapes are other ones.
        let shape = number + number / COLOURS.len();
        let _ = writeln!(svg, "<g fill=\"{}\" fill-opacity=\"0.8\">", COLOURS[number % COLOURS.len()]);
        for [x, y] in group.points {
            mark(&mut svg, shape, place(*x, across.1, left, right), place(*y, down.1, low, top));
        }
        let y = top + 20.0 * number as f64 + 8.0;
        mark(&mut svg, shape, right + 20.0, y);
        svg.push_str("</g>\n");
        text(&mut svg, right + 32.0, y + 4.0, "start", group.name);
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_between_the_axes_and_groups_differ() {
        let names: Vec<String> = (0..12).map(|group| format!("<{group}>")).collect();
        let groups: Vec<PointSeries> =
            names.iter().map(|name| PointSeries { name, points: &[[0.0, 100.0], [200.0, 50.0]] }).collect();
        let svg = scatter("t", ("ASR", [0.0, 100.0]), ("ACC", [50.0, 100.0]), &groups);
        // The first group: its best point is top left, the other one is kept inside.
        assert!(
            svg.contains("<circle cx=\"62.0\" cy=\"16.0\"")
                && svg.contains("<circle cx=\"482.0\" cy=\"396.0\"")
        );
        assert!(svg.contains("&lt;11&gt;") && !svg.contains("<11>"));
        let looks = |group: usize| (group % COLOURS.len(), (group + group / COLOURS.len()) % 3);
        let different = (0..12).all(|one| (0..one).all(|other| looks(one) != looks(other)));
        assert!(different);
    }
}
