//! A roofline (Williams, Waterman and Patterson 2009): how fast each kernel runs, over how much it computes per byte, under the
//! lines that the device's peaks draw.

use image::{Rgb, RgbImage};

use super::canvas::{Align, Canvas, FAINT, INK, LINE, SOFT, Style, WHITE};
use super::text::{self, Weight};

/// One kernel.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// What the legend calls it.
    pub label: &'a str,
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes read and written.
    pub bytes: f64,
    /// How long both took.
    pub seconds: f64,
    /// Whether it multiplies f16.
    pub f16: bool,
}

/// The device's peaks.
#[derive(Clone, Copy, Debug)]
pub struct Roof {
    /// Floating-point operations per second.
    pub flops: f64,
    /// The same in products of f16, where there are any.
    pub products: Option<f64>,
    /// Bytes per second.
    pub bytes: f64,
}

impl Roof {
    /// Operations per second that the device allows this kernel.
    fn over(&self, point: &Point) -> f64 {
        self.products.filter(|_| point.f16).unwrap_or(self.flops)
    }

    /// The higher of its two peaks.
    fn highest(&self) -> f64 {
        self.products.map_or(self.flops, |products| products.max(self.flops))
    }
}

/// Okabe and Ito's blue and vermilion: told apart with any colour vision.
const COMPUTE: Rgb<u8> = Rgb([0, 114, 178]);
const MEMORY: Rgb<u8> = Rgb([213, 94, 0]);

/// The plot's own box and what surrounds it, in pixels.
const PLOT_WIDTH: f32 = 700.0;
const PLOT_HEIGHT: f32 = 520.0;
const LEFT: f32 = 84.0;
const TOP: f32 = 84.0;
const BOTTOM: f32 = 66.0;
const LEGEND: f32 = 540.0;
const ROW: f32 = 19.0;
const TITLE: Style = Style::new(17.0, INK).bold();
const NOTE: Style = Style::new(12.0, SOFT);
const TEXT: Style = Style::new(12.0, INK);
const NUMBER: Style = Style::new(11.0, INK).bold().align(Align::Middle);

/// A box that something already takes, as left, top, right, bottom.
type Taken = [f32; 4];

/// A logarithmic axis over whole decades.
struct Axis {
    low: i32,
    high: i32,
    from: f32,
    to: f32,
}

impl Axis {
    /// Encloses the positive ones of the values, at least two decades and at most 16.
    fn new(values: impl Iterator<Item = f64>, from: f32, to: f32) -> Self {
        let known = values.filter(|v| v.is_finite() && *v > 0.0).map(f64::log10);
        let (low, high) = known.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let high = high.ceil().clamp(-300.0, 300.0) as i32;
        let low = (low.floor().clamp(-300.0, 300.0) as i32).clamp(high - 16, high - 2);
        Self { low, high, from, to }
    }

    fn place(&self, value: f64) -> f32 {
        let share = (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        // The axis encloses everything but what lies more than 16 decades below the top.
        self.from + (self.to - self.from) * share.clamp(0.0, 1.0) as f32
    }

    /// Values of the grid lines, and whether one is a decade.
    fn lines(&self) -> impl Iterator<Item = (f64, bool)> {
        let minor = if self.high - self.low <= 8 { &[1.0, 2.0, 5.0][..] } else { &[1.0] };
        (self.low..=self.high).flat_map(move |d| minor.iter().map(move |&m| (m * 10f64.powi(d), m == 1.0)))
    }

    fn holds(&self, value: f64) -> bool {
        value <= 10f64.powi(self.high) * 1.001
    }
}

/// Draws the kernels; those first in the list are numbered first. A kernel without arithmetic has no place on logarithmic axes
/// and stands in the legend only.
pub fn chart(title: &str, note: &str, roof: &Roof, points: &[Point]) -> RgbImage {
    let plot_right = LEFT + PLOT_WIDTH;
    let height = TOP + (PLOT_HEIGHT + BOTTOM).max(ROW * points.len() as f32 + 60.0);
    let mut canvas = Canvas::new((plot_right + LEGEND) as u32, height as u32);
    canvas.text(title, LEFT, 32.0, TITLE);
    canvas.text(note, LEFT, 54.0, NOTE);

    let placed = |p: &Point| p.flops > 0.0 && p.bytes > 0.0 && p.seconds > 0.0;
    let intensities = points.iter().filter(|p| placed(p)).map(|p| p.flops / p.bytes);
    let ridge = |flops: f64| flops / roof.bytes;
    let x = Axis::new(intensities.chain([ridge(roof.flops) / 3.0, ridge(roof.highest()) * 3.0]), LEFT, plot_right);
    let rates = points.iter().filter(|p| placed(p)).map(|p| p.flops / p.seconds / 1e9);
    let peak = roof.highest() / 1e9;
    let y = Axis::new(rates.chain([peak * 1.3]), TOP + PLOT_HEIGHT, TOP);
    grid(&mut canvas, &x, &y);
    let mut taken = roof_lines(&mut canvas, &x, &y, roof);

    let total: f64 = points.iter().map(|p| p.seconds).sum();
    let share = |p: &Point| if total > 0.0 { p.seconds / total } else { 0.0 };
    let colour = |p: &Point| if p.flops > ridge(roof.over(p)) * p.bytes { COMPUTE } else { MEMORY };
    // Its area is its share of the time.
    let radius = |p: &Point| (26.0 * share(p).sqrt() as f32).clamp(3.5, 16.0);
    let marks: Vec<Option<(f32, f32)>> =
        points.iter().map(|p| placed(p).then(|| (x.place(p.flops / p.bytes), y.place(p.flops / p.seconds / 1e9)))).collect();
    // Large discs first, so that none hides a smaller one; a white rim parts those that touch.
    let mut by_size: Vec<usize> = (0..points.len()).collect();
    by_size.sort_by(|&a, &b| points[b].seconds.total_cmp(&points[a].seconds));
    for &i in &by_size {
        if let Some((cx, cy)) = marks[i] {
            let r = radius(&points[i]);
            canvas.stroke((cx, cy), (cx, cy), 2.0 * r + 2.0, WHITE);
            canvas.stroke((cx, cy), (cx, cy), 2.0 * r, colour(&points[i]));
            taken.push([cx - r, cy - r, cx + r, cy + r]);
        }
    }
    for &i in &by_size {
        if let Some(at) = marks[i] {
            number(&mut canvas, &mut taken, at, radius(&points[i]), &(i + 1).to_string());
        }
    }
    legend(&mut canvas, points, plot_right + 24.0, |p| (placed(p), colour(p), share(p)), roof);
    canvas.into_image()
}

fn grid(canvas: &mut Canvas, x: &Axis, y: &Axis) {
    let bottom = TOP + PLOT_HEIGHT;
    for (value, decade) in x.lines().filter(|l| x.holds(l.0)) {
        let at = x.place(value);
        canvas.fill(at.round() as i64, TOP as i64, 1, PLOT_HEIGHT as i64, if decade { LINE } else { FAINT });
        if decade {
            canvas.text(&plain(value), at, bottom + 20.0, NOTE.align(Align::Middle));
        }
    }
    for (value, decade) in y.lines().filter(|l| y.holds(l.0)) {
        let at = y.place(value);
        canvas.fill(LEFT as i64, at.round() as i64, PLOT_WIDTH as i64, 1, if decade { LINE } else { FAINT });
        if decade {
            canvas.text(&plain(value), LEFT - 10.0, at + NOTE.drop(), NOTE.align(Align::End));
        }
    }
    canvas.frame(LEFT as i64, TOP as i64, PLOT_WIDTH as i64 + 1, PLOT_HEIGHT as i64 + 1, 1, LINE);
    let axis = Style::new(13.0, INK).align(Align::Middle);
    canvas.text("operations per byte", LEFT + PLOT_WIDTH / 2.0, bottom + 46.0, axis);
    canvas.text_up("GFLOP/s", 24.0, TOP + PLOT_HEIGHT / 2.0, axis);
}

/// Returns where the words stand.
fn roof_lines(canvas: &mut Canvas, x: &Axis, y: &Axis, roof: &Roof) -> Vec<Taken> {
    let ridge = roof.highest() / roof.bytes;
    if !(ridge.is_finite() && ridge > 0.0) {
        return Vec::new();
    }
    let mut labels = Vec::new();
    let at = |intensity: f64, flops: f64| (x.place(intensity), y.place(flops / 1e9));
    // The slope enters where the later of the two axes begins.
    let start = 10f64.powi(x.low).max(10f64.powi(y.low) * 1e9 / roof.bytes);
    canvas.stroke(at(start, roof.bytes * start), at(ridge, roof.highest()), 2.5, INK);
    let second = roof.products.map(|products| (products, " in f16"));
    for (flops, of) in second.into_iter().chain([(roof.flops, if second.is_some() { " in f32" } else { "" })]) {
        let (right, top) = at(10f64.powi(x.high), flops);
        canvas.stroke(at(flops / roof.bytes, flops), (right, top), 2.5, INK);
        // Kernels stand below their roof; the lower one's words do too where the other roof is close.
        let apart = top - y.place(roof.highest() / 1e9);
        let drop = if apart > 0.0 && apart < 24.0 { 18.0 } else { -8.0 };
        labels.push((format!("{} GFLOP/s{of}", digits(flops / 1e9)), right - 8.0, top + drop));
    }
    let middle = (start * ridge).sqrt();
    let middle = at(middle, roof.bytes * middle);
    labels.push((format!("{} GB/s", digits(roof.bytes / 1e9)), middle.0 - 10.0, middle.1 - 8.0));
    let taken = labels.into_iter().map(|(words, right, baseline)| {
        canvas.text(&words, right, baseline, TEXT.align(Align::End));
        [right - text::width(&words, TEXT.size, TEXT.weight), baseline - TEXT.size, right, baseline + 3.0]
    });
    taken.collect()
}

/// Writes a point's number at the first of the places around it where nothing stands yet, with a line to it from further away.
fn number(canvas: &mut Canvas, taken: &mut Vec<Taken>, (cx, cy): (f32, f32), radius: f32, words: &str) {
    let half = (text::width(words, NUMBER.size, NUMBER.weight) / 2.0 + 1.0, 7.0);
    let around = (0..6).flat_map(|ring| (0..16).map(move |turn| (ring, turn)));
    let boxes = around.map(|(ring, turn)| {
        let (angle, distance) = (turn as f32 * std::f32::consts::TAU / 16.0, radius + 9.0 + 9.0 * ring as f32);
        let (x, y) = (cx + distance * angle.cos(), cy - distance * angle.sin());
        (ring, [x - half.0, y - half.1, x + half.0, y + half.1])
    });
    let inside = |b: &Taken| b[0] > LEFT && b[1] > TOP && b[2] < LEFT + PLOT_WIDTH && b[3] < TOP + PLOT_HEIGHT;
    let free = |b: &Taken| taken.iter().all(|t| b[2] < t[0] || b[0] > t[2] || b[3] < t[1] || b[1] > t[3]);
    let Some((ring, place)) = boxes.into_iter().find(|(_, b)| inside(b) && free(b)) else { return };
    let (x, y) = ((place[0] + place[2]) / 2.0, (place[1] + place[3]) / 2.0);
    if ring > 0 {
        let length = (x - cx).hypot(y - cy);
        let part = |d: f32| (cx + (x - cx) * d / length, cy + (y - cy) * d / length);
        canvas.stroke(part(radius), part(length - 7.0), 1.0, SOFT);
    }
    canvas.text(words, x, y + NUMBER.drop(), NUMBER);
    taken.push(place);
}

fn legend(canvas: &mut Canvas, points: &[Point], left: f32, look: impl Fn(&Point) -> (bool, Rgb<u8>, f64), roof: &Roof) {
    let right = left + LEGEND - 48.0;
    let columns = [right - 118.0, right - 58.0, right];
    let head = NOTE.align(Align::End);
    canvas.text("layer: kernel", left + 26.0, TOP + 4.0, NOTE);
    for (words, at) in ["ms", "share", "of roof"].into_iter().zip(columns) {
        canvas.text(words, at, TOP + 4.0, head);
    }
    for (i, point) in points.iter().enumerate() {
        let ((placed, colour, share), y) = (look(point), TOP + 4.0 + ROW * (i as f32 + 1.0));
        // What has no place in the plot has no number either.
        let mark = if placed { (i + 1).to_string() } else { "–".to_owned() };
        canvas.text(&mark, left + 18.0, y, Style { colour, ..NUMBER.align(Align::End) });
        let room = columns[0] - left - 26.0 - 52.0;
        let (label, size) = text::fit(point.label, TEXT.size, 9.0, Weight::Regular, room);
        canvas.text(&label, left + 26.0, y, Style { size, ..TEXT });
        let rate = |amount: f64, peak: f64| if point.seconds > 0.0 { amount / point.seconds / peak } else { 0.0 };
        let of_roof = rate(point.flops, roof.over(point)).max(rate(point.bytes, roof.bytes));
        let cells = [digits(1e3 * point.seconds), format!("{:.1} %", 100.0 * share), format!("{:.0} %", 100.0 * of_roof)];
        for (words, at) in cells.iter().zip(columns) {
            canvas.text(words, at, y, TEXT.align(Align::End));
        }
    }
    let y = TOP + ROW * points.len() as f32 + 34.0;
    let mut x = left + 26.0;
    for (colour, words) in [(COMPUTE, "bound by compute"), (MEMORY, "bound by memory")] {
        canvas.stroke((x + 6.0, y - 4.0), (x + 6.0, y - 4.0), 9.0, colour);
        canvas.text(words, x + 16.0, y, NOTE);
        x += 32.0 + text::width(words, NOTE.size, NOTE.weight);
    }
    if points.iter().any(|p| !look(p).0) {
        canvas.text("–  no arithmetic", x, y, NOTE);
    }
}

/// A power of ten as a reader writes it.
fn plain(value: f64) -> String {
    if (1e-4..1e6).contains(&value) {
        format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{value:.0e}")
    }
}

/// Three significant digits, and no more than three decimals.
pub fn digits(value: f64) -> String {
    let decimals = match value {
        v if v >= 99.95 || v <= 0.0 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOF: Roof = Roof { flops: 80e9, products: None, bytes: 8e9 };

    fn point(flops: f64, bytes: f64, seconds: f64) -> Point<'static> {
        Point { label: "conv2d_1: conv2d.forward", flops, bytes, seconds, f16: false }
    }

    fn inked(image: &RgbImage, colour: Rgb<u8>) -> usize {
        image.enumerate_pixels().filter(|(x, y, p)| (*x as f32) < LEFT + PLOT_WIDTH && *y as f32 > TOP && **p == colour).count()
    }

    #[test]
    fn zeros_and_giants_are_drawn_or_left_out_without_a_panic() {
        chart("", "", &ROOF, &[]);
        for (a, b, c) in [(0.0, 1e6, 1e-3), (1e6, 0.0, 1e-3), (1e6, 1e6, 0.0), (0.0, 0.0, 0.0), (1e300, 1e-300, 1e-9)] {
            chart("t", "n", &ROOF, &[point(a, b, c), point(1e9, 1e7, 0.1)]);
            chart("t", "n", &Roof { flops: 0.0, products: Some(0.0), bytes: 0.0 }, &[point(a, b, c)]);
        }
        let without = chart("t", "n", &ROOF, &[point(0.0, 1e6, 1e-3)]);
        assert_eq!(inked(&without, MEMORY) + inked(&without, COMPUTE), 0);
    }

    #[test]
    fn the_ridge_parts_memory_from_compute() {
        let colours = |p| {
            let image = chart("t", "n", &ROOF, &[p]);
            (inked(&image, COMPUTE) > 100, inked(&image, MEMORY) > 100)
        };
        assert_eq!(colours(point(20e9, 1e9, 1.0)), (true, false));
        assert_eq!(colours(point(5e9, 1e9, 1.0)), (false, true));
    }

    #[test]
    fn products_of_f16_have_a_roof_of_their_own() {
        for (products, compute) in [(800e9, false), (20e9, true), (80.1e9, true)] {
            let roof = Roof { products: Some(products), ..ROOF };
            let image = chart("t", "n", &roof, &[Point { f16: true, ..point(20e9, 1e9, 1.0) }]);
            assert_eq!((inked(&image, COMPUTE) > 100, inked(&image, MEMORY) > 100), (compute, !compute), "{products}");
            // Both are drawn: rows of the plot that a line of ink crosses to its right edge.
            let lines = |image: &RgbImage| {
                let ink = |y: &u32| (1..40).all(|x| image.get_pixel((LEFT + PLOT_WIDTH) as u32 - x, *y).0[0] < 128);
                (TOP as u32..(TOP + PLOT_HEIGHT) as u32).filter(ink).count()
            };
            let one = lines(&chart("t", "n", &ROOF, &[point(20e9, 1e9, 1.0)]));
            assert!(one > 0 && (lines(&image) > one || products == 80.1e9), "{products}: {one} and {}", lines(&image));
        }
    }

    #[test]
    fn ticks_and_numbers_are_plain() {
        assert_eq!([1e-3, 0.1, 1.0, 1e4, 1e7].map(plain), ["0.001", "0.1", "1", "10000", "1e7"]);
        assert_eq!([0.0, 0.0123, 1.234, 12.34, 99.96, 1234.5].map(digits), ["0", "0.012", "1.23", "12.3", "100", "1234"]);
    }
}
