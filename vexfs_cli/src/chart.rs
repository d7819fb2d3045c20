//! A chart of codecs, bytes a vector against recall, as SVG.
//!
//! It has one point a codec and search, and some lines: written by hand it is shorter than what a library would ask for.

use std::fmt::Write;

use vexfs_search::analysis::{Candidate, Figures};

/// Of the picture, and of the plot in it: left, top, right, bottom.
const SIZE: (f64, f64) = (760.0, 460.0);
const PLOT: [f64; 4] = [80.0, 60.0, 730.0, 395.0];
/// Colours that those who see no red or green tell apart (Okabe and Ito).
const DIRECT: &str = "#0072b2";
const RERANKED: &str = "#d55e00";

/// Draws the figures. The title may hold any characters.
pub(crate) fn render(
    title: &str,
    figures: &[Figures],
    k: usize,
    recall_min: f64,
    recommended: Option<Candidate>,
) -> String {
    let axes = Axes::new(figures, recall_min);
    let mut svg = String::new();
    head(&mut svg, title);
    axes.draw(&mut svg, k);
    let [left, _, right, _] = PLOT;
    let y = axes.y(recall_min);
    let label = format!("enough: {recall_min}");
    line(&mut svg, (left, y), (right, y), "stroke=\"#999\" stroke-dasharray=\"2 4\"");
    text(&mut svg, (right - 4.0, y - 5.0), "text-anchor=\"end\" fill=\"#666\"", &label);
    series(&mut svg, &axes, figures, RERANKED, |figures| figures.recall_reranked);
    series(&mut svg, &axes, figures, DIRECT, |figures| figures.recall);
    for figures in figures {
        let (x, y) = (axes.x(figures.stride_bytes), axes.y(figures.recall));
        let chosen = recommended == Some(figures.codec);
        let weight = if chosen { "bold" } else { "normal" };
        let (anchor, x) = if x > right - 120.0 { ("end", x - 8.0) } else { ("start", x + 8.0) };
        let style = format!("text-anchor=\"{anchor}\" font-weight=\"{weight}\"");
        text(&mut svg, (x, y + 16.0), &style, &figures.codec.label());
        if chosen {
            // Below: beside it the next codec's name may stand.
            text(&mut svg, (x, y + 32.0), &style, "recommended");
        }
    }
    legend(&mut svg);
    svg.push_str("</svg>\n");
    svg
}

/// From bytes (by their logarithm) and recall to places in the picture.
struct Axes {
    bytes: (f64, f64),
    recall_min: f64,
}

impl Axes {
    fn new(figures: &[Figures], recall_min: f64) -> Self {
        let bytes = figures.iter().map(|figures| figures.stride_bytes.max(1) as f64);
        let (low, high) = bytes.fold((f64::MAX, 1.0_f64), |(low, high), b| (low.min(b), high.max(b)));
        let low = low.min(high);
        // Whole tenths below the least recall, and all powers of two around the bytes.
        let least = figures.iter().fold(recall_min, |least, figures| least.min(figures.recall));
        let recall_min = ((least * 10.0 - 0.2).floor() / 10.0).clamp(0.0, 0.9);
        Self { bytes: (low.log2().floor(), (high.log2() + 0.01).ceil()), recall_min }
    }

    fn x(&self, bytes: usize) -> f64 {
        let [left, _, right, _] = PLOT;
        let share = ((bytes.max(1) as f64).log2() - self.bytes.0) / (self.bytes.1 - self.bytes.0).max(1.0);
        left + 20.0 + share * (right - left - 40.0)
    }

    fn y(&self, recall: f64) -> f64 {
        let [_, top, _, bottom] = PLOT;
        bottom - (recall - self.recall_min) / (1.0 - self.recall_min) * (bottom - top)
    }

    fn draw(&self, svg: &mut String, k: usize) {
        let [left, top, right, bottom] = PLOT;
        line(svg, (left, bottom), (right, bottom), "stroke=\"#333\"");
        line(svg, (left, top), (left, bottom), "stroke=\"#333\"");
        for power in self.bytes.0 as i32..=self.bytes.1 as i32 {
            let bytes = 2_f64.powi(power) as usize;
            let x = self.x(bytes);
            line(svg, (x, bottom), (x, bottom + 5.0), "stroke=\"#333\"");
            text(svg, (x, bottom + 20.0), "text-anchor=\"middle\"", &bytes.to_string());
        }
        let tenths = (self.recall_min * 10.0).round() as i32;
        for tenth in tenths..=10 {
            let recall = f64::from(tenth) / 10.0;
            let y = self.y(recall);
            line(svg, (left, y), (right, y), "stroke=\"#ddd\"");
            text(svg, (left - 8.0, y + 4.0), "text-anchor=\"end\"", &format!("{recall:.1}"));
        }
        let middle = (left + right) / 2.0;
        text(svg, (middle, bottom + 45.0), "text-anchor=\"middle\"", "bytes a vector on disk (logarithmic)");
        let (x, y) = (28.0, (top + bottom) / 2.0);
        let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 {x} {y})\"");
        text(svg, (x, y), &turned, &format!("recall@{k}"));
    }
}

fn head(svg: &mut String, title: &str) {
    let (width, height) = SIZE;
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">"
    );
    let _ = writeln!(svg, "<title>{}</title>", escape(title));
    let _ = writeln!(svg, "<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>");
    text(svg, (PLOT[0], 24.0), "", title);
}

fn legend(svg: &mut String) {
    let words =
        [(DIRECT, "search over the coded rows"), (RERANKED, "4 k of them, reranked by the original vectors")];
    for (index, (colour, words)) in words.into_iter().enumerate() {
        let x = PLOT[0] + 8.0 + 210.0 * index as f64;
        circle(svg, (x, 44.0), colour);
        text(svg, (x + 10.0, 48.0), "", words);
    }
}

fn series(svg: &mut String, axes: &Axes, figures: &[Figures], colour: &str, recall: fn(&Figures) -> f64) {
    let mut places: Vec<(f64, f64)> =
        figures.iter().map(|figures| (axes.x(figures.stride_bytes), axes.y(recall(figures)))).collect();
    places.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let list: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\"/>", list.join(" "));
    places.into_iter().for_each(|place| circle(svg, place, colour));
}

fn circle(svg: &mut String, (x, y): (f64, f64), colour: &str) {
    let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>");
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), style: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>");
}

fn text(svg: &mut String, (x, y): (f64, f64), style: &str, words: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>", escape(words));
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use vexfs_search::codec::Codec;

    use super::*;

    fn figures(codec: Codec, stride_bytes: usize, recall: f64) -> Figures {
        Figures {
            codec: Candidate::Plain(codec),
            row_bytes: stride_bytes,
            stride_bytes,
            error_l2: 0.0,
            error_cosine: 0.0,
            recall,
            recall_reranked: 1.0,
            encode_speed: 1.0,
            decode_speed: 1.0,
        }
    }

    #[test]
    fn points_lie_within_the_plot() {
        let all =
            [figures(Codec::None, 1536, 1.0), figures(Codec::Sq8, 384, 0.9), figures(Codec::Binary, 64, 0.0)];
        let axes = Axes::new(&all, 0.95);
        let [left, top, right, bottom] = PLOT;
        for figures in &all {
            let (x, y) = (axes.x(figures.stride_bytes), axes.y(figures.recall));
            assert!((left..=right).contains(&x) && (top..=bottom).contains(&y), "{x} {y}");
        }
        assert!(axes.x(64) < axes.x(384) && axes.y(1.0) < axes.y(0.9));
    }

    #[test]
    fn words_are_escaped_and_nothing_is_needed() {
        let svg = render("a < b & \"c\"", &[], 10, 0.95, None);
        assert!(svg.contains("<title>a &lt; b &amp; &quot;c&quot;</title>") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        let svg = render("x", &[figures(Codec::Sq8, 64, 0.99)], 10, 0.95, Some(Candidate::Plain(Codec::Sq8)));
        assert!(svg.contains(">sq8<") && svg.contains(">recommended<") && svg.contains("recall@10"));
    }
}
