//! Line charts as SVG: text that every browser shows, with numbers along both axes and a legend.

use std::fmt::Write;

/// Size of the picture in pixels, and what is left beside the chart for numbers and legend.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 220.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Colours that people who see few colours tell apart (Okabe and Ito's, without yellow).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];

/// A line of a chart: points (x, y), where x is a whole number from 0.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(usize, f64)>,
}

/// A chart of lines over whole numbers. The vertical axis begins at 0.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x_title: &'static str,
    pub(crate) y_title: &'static str,
    pub(crate) series: Vec<Series>,
}

impl Chart {
    /// The picture. Values that are not finite have no point.
    pub(crate) fn to_svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points).filter(|(_, y)| y.is_finite());
        let most_x = points().map(|&(x, _)| x).max().unwrap_or(0).max(1);
        let step_y = step(points().map(|&(_, y)| y).fold(0.0, f64::max));
        let n_steps = (points().map(|&(_, y)| y).fold(0.0, f64::max) / step_y).ceil().max(1.0);
        let at_x = |x: usize| LEFT + (WIDTH - LEFT - RIGHT) * x as f64 / most_x as f64;
        let at_y = |y: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / (n_steps * step_y);

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        );
        let mut text = |x: f64, y: f64, anchor: &str, more: &str, text: &str| {
            // A write to a String does not fail.
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{more}>{}</text>",
                escaped(text)
            );
        };
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        text(middle, 22.0, "middle", " font-size=\"15\"", &self.title);
        text(middle, HEIGHT - 12.0, "middle", "", self.x_title);
        let turned = format!(" transform=\"rotate(-90 16 {:.1})\"", HEIGHT / 2.0);
        text(16.0, HEIGHT / 2.0, "middle", &turned, self.y_title);
        for i in 0..=n_steps as usize {
            let y = i as f64 * step_y;
            text(LEFT - 8.0, at_y(y) + 4.0, "end", "", &number(y, step_y));
        }
        let step_x = most_x.div_ceil(16);
        for x in (0..=most_x).step_by(step_x) {
            text(at_x(x), HEIGHT - BOTTOM + 18.0, "middle", "", &x.to_string());
        }
        for (i, series) in self.series.iter().enumerate() {
            text(WIDTH - RIGHT + 44.0, TOP + 18.0 * i as f64 + 4.0, "start", "", &series.name);
        }
        for i in 0..=n_steps as usize {
            let (y, end) = (at_y(i as f64 * step_y), WIDTH - RIGHT);
            let _ = writeln!(svg, "<path d=\"M{LEFT} {y:.1}H{end}\" stroke=\"#cccccc\"/>");
        }
        for (i, series) in self.series.iter().enumerate() {
            // More lines than colours are told apart by dashes.
            let colour = COLOURS[i % COLOURS.len()];
            let dash = if i < COLOURS.len() { "" } else { " stroke-dasharray=\"5 3\"" };
            let places = series.points.iter().filter(|(_, y)| y.is_finite()).map(|&(x, y)| (at_x(x), at_y(y)));
            let line: Vec<String> = places.clone().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let line = line.join(" ");
            let _ = writeln!(
                svg,
                "<polyline points=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>"
            );
            for (x, y) in places {
                let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
            }
            let (x, y) = (WIDTH - RIGHT + 14.0, TOP + 18.0 * i as f64);
            let _ = writeln!(svg, "<path d=\"M{x} {y}h24\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>");
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// 1, 2 or 5 times a power of ten, so that four to ten steps reach `most`.
fn step(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf((most / 10.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|times| times * power)
        .into_iter()
        .find(|step| most / step <= 10.0)
        .unwrap_or(10.0 * power)
}

/// A number with as many digits as its step needs.
fn number(x: f64, step: f64) -> String {
    let n_digits = (-step.log10().floor()).max(0.0) as usize;
    format!("{x:.n_digits$}")
}

/// A text as XML has it. What XML has no place for becomes U+FFFD.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '&' => "&amp;".into(),
        '"' => "&quot;".into(),
        c if c.is_control() => "\u{fffd}".into(),
        c => String::from(c),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        for (most, expected) in [(0.03, 0.005), (1.0, 0.1), (1.01, 0.2), (7.0, 1.0), (40.0, 5.0), (0.0, 1.0)] {
            assert!((step(most) - expected).abs() < 1e-12, "{most}: {}", step(most));
        }
        assert_eq!([number(0.015, 0.005), number(3.0, 1.0), number(20.0, 5.0)], ["0.015", "3", "20"]);
    }

    /// The largest value lies on the axis' end, 0 at its beginning: 0.1 · 1 · 390 pixels above each other.
    #[test]
    fn points_lie_where_their_numbers_say() {
        let series = |name: &str, points: &[(usize, f64)]| Series { name: name.into(), points: points.to_vec() };
        let chart = Chart {
            title: "<a & \"b\">\u{1b}".into(),
            x_title: "layer",
            y_title: "error",
            series: vec![series("one", &[(0, 0.0), (4, 1.0)]), series("two", &[(2, f64::INFINITY), (2, 0.5)])],
        };
        let svg = chart.to_svg();
        assert!(svg.contains("points=\"70.0,430.0 680.0,40.0\""), "{svg}");
        assert!(svg.contains("points=\"375.0,235.0\""), "{svg}");
        assert!(svg.contains("&lt;a &amp; &quot;b&quot;&gt;\u{fffd}"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
