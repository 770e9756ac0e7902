//! The scenes of the made pictures. See `planted.rs` for their purpose.

use super::planted::PlantedBox;
use crate::rng::{Stream, bits, unit};

type Color = [f32; 3];

/// The artefact's cells are this many pixels wide.
const CELL: u32 = 2;
/// Light and dark cells lie this far from the scene, in levels of 255.
const CONTRAST: (f32, f32) = (34.0, 54.0);
/// Noise of every pixel, in levels either way.
const NOISE: f32 = 5.0;
/// Where the draws for the artefact and for the noise begin: the scene takes far fewer, so that the scene of a picture
/// does not depend on its class.
const ARTEFACT_DRAWS: u32 = 1 << 20;
const NOISE_DRAWS: u32 = 1 << 24;

/// Random numbers of one picture, drawn in order.
struct Draws {
    seed: u32,
    picture: u32,
    next: u32,
}

impl Draws {
    fn between(&mut self, low: f32, high: f32) -> f32 {
        let draw = unit(bits(self.seed, Stream::Picture(self.picture), self.next));
        self.next += 1;
        low + (high - low) * draw
    }

    /// An integer in `low..=high`.
    fn integer(&mut self, low: u32, high: u32) -> u32 {
        (low + self.between(0.0, (high - low + 1) as f32) as u32).min(high)
    }

    fn color(&mut self, low: f32, high: f32) -> Color {
        [(); 3].map(|()| self.between(low, high))
    }
}

/// An ellipse or a box with a soft edge, in units of the picture's side.
struct Shape {
    ellipse: bool,
    center: [f32; 2],
    half: [f32; 2],
    /// Width of the edge as a part of the half size.
    edge: f32,
    opacity: f32,
    color: Color,
}

impl Shape {
    fn cover(&self, x: f32, y: f32) -> f32 {
        let dx = (x - self.center[0]) / self.half[0];
        let dy = (y - self.center[1]) / self.half[1];
        let distance = if self.ellipse { (dx * dx + dy * dy).sqrt() } else { dx.abs().max(dy.abs()) };
        self.opacity * smooth((1.0 - distance) / self.edge)
    }
}

/// 0 below 0, 1 above 1, a smooth cubic between.
fn smooth(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

fn mix(a: Color, b: Color, t: f32) -> Color {
    [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * t)
}

/// A car from the side: body, cabin, window and two wheels.
fn car(draws: &mut Draws) -> Vec<Shape> {
    let (x, y) = (draws.between(0.3, 0.7), draws.between(0.55, 0.8));
    let length = draws.between(0.18, 0.3);
    let paint = draws.color(20.0, 235.0);
    let part = |ellipse, dx: f32, dy: f32, half: [f32; 2], color| Shape {
        ellipse,
        center: [x + dx * length, y + dy * length],
        half: [half[0] * length, half[1] * length],
        edge: 0.15,
        opacity: 1.0,
        color,
    };
    vec![
        part(false, 0.0, -0.42, [0.55, 0.28], paint),
        part(false, 0.0, -0.42, [0.45, 0.18], [170.0, 190.0, 205.0]),
        part(false, 0.0, 0.0, [1.0, 0.27], paint),
        part(true, -0.55, 0.25, [0.2, 0.2], [25.0, 25.0, 28.0]),
        part(true, 0.55, 0.25, [0.2, 0.2], [25.0, 25.0, 28.0]),
    ]
}

fn shape(draws: &mut Draws) -> Shape {
    Shape {
        ellipse: draws.between(0.0, 1.0) < 0.6,
        center: [draws.between(0.0, 1.0), draws.between(0.0, 1.0)],
        half: [draws.between(0.05, 0.3), draws.between(0.05, 0.3)],
        edge: draws.between(0.08, 0.7),
        opacity: draws.between(0.4, 1.0),
        color: draws.color(20.0, 235.0),
    }
}

fn artefact(draws: &mut Draws, size: u32) -> PlantedBox {
    // 20 to 28 pixels of a picture of 128, whole cells, and never above half of a small picture.
    let (least, most) = ((size * 20 / 128).max(20), (size * 28 / 128).max(22).min(size / 2));
    let mut side = || CELL * draws.integer(least / CELL, most / CELL);
    let (width, height) = (side(), side());
    let (x, y) = (draws.integer(0, size - width), draws.integer(0, size - height));
    PlantedBox { x, y, width, height }
}

/// Picture number `index`: `size * size * 3` bytes of RGB, and the artefact's place if it is to have one.
pub(super) fn picture(size: u32, seed: u32, index: u32, fake: bool) -> (Vec<u8>, Option<PlantedBox>) {
    let mut draws = Draws { seed, picture: index, next: 0 };
    let (sky, haze) = (draws.color(90.0, 240.0), draws.color(110.0, 240.0));
    let (ground, near) = (draws.color(30.0, 180.0), draws.color(30.0, 180.0));
    let horizon = draws.between(0.3, 0.65);
    let slope = draws.between(-0.15, 0.15);
    let count = draws.integer(4, 9);
    let mut shapes: Vec<Shape> = (0..count).map(|_| shape(&mut draws)).collect();
    if draws.between(0.0, 1.0) < 0.6 {
        shapes.extend(car(&mut draws));
    }
    draws.next = ARTEFACT_DRAWS;
    let place = fake.then(|| artefact(&mut draws, size));
    let contrast = draws.between(CONTRAST.0, CONTRAST.1);
    draws.next = NOISE_DRAWS;

    let mut pixels = Vec::with_capacity((size * size * 3) as usize);
    for row in 0..size {
        for column in 0..size {
            let (x, y) = ((column as f32 + 0.5) / size as f32, (row as f32 + 0.5) / size as f32);
            let line = horizon + slope * (x - 0.5);
            let above = mix(sky, haze, y / line);
            let below = mix(ground, near, (y - line) / (1.0 - line));
            let scene = mix(above, below, smooth((y - line) / 0.04 + 0.5));
            let scene = shapes.iter().fold(scene, |under, shape| mix(under, shape.color, shape.cover(x, y)));
            let planted = place.map_or(0.0, |place| contrast * checker(place, column, row));
            for value in scene {
                // Towards the middle, so that the artefact is not clipped away on black and white.
                let value = 32.0 + value * (191.0 / 255.0) + planted + draws.between(-NOISE, NOISE);
                pixels.push((value + 0.5).clamp(0.0, 255.0) as u8);
            }
        }
    }
    (pixels, place)
}

/// The checkerboard's sign at a pixel, fading over the outermost cell; 0 outside its box.
fn checker(place: PlantedBox, column: u32, row: u32) -> f32 {
    let inside = |at: u32, start: u32, length: u32| at.checked_sub(start).filter(|&d| d < length);
    let (Some(dx), Some(dy)) = (inside(column, place.x, place.width), inside(row, place.y, place.height)) else {
        return 0.0;
    };
    let border = dx.min(dy).min(place.width - 1 - dx).min(place.height - 1 - dy);
    let fade = if border < CELL { 0.5 } else { 1.0 };
    if (dx / CELL + dy / CELL).is_multiple_of(2) { fade } else { -fade }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean absolute response to the second difference over one cell, which a checkerboard excites and scenes hardly do.
    fn response(pixels: &[u8], size: u32, place: PlantedBox) -> f32 {
        let at = |x: u32, y: u32| f32::from(pixels[((y * size + x) * 3 + 1) as usize]);
        let (mut sum, mut n) = (0.0, 0.0f32);
        for y in place.y..place.y + place.height - CELL {
            for x in place.x..place.x + place.width - CELL {
                sum += (at(x, y) - at(x + CELL, y) - at(x, y + CELL) + at(x + CELL, y + CELL)).abs();
                n += 1.0;
            }
        }
        sum / n
    }

    #[test]
    fn classes_differ_in_the_box_and_nowhere_else() {
        for index in 0..12 {
            let (fake, place) = picture(128, 1, index, true);
            let (real, none) = picture(128, 1, index, false);
            let place = place.expect("a place");
            assert!(none.is_none());
            for (i, (a, b)) in fake.chunks(3).zip(real.chunks(3)).enumerate() {
                let (x, y) = (i as u32 % 128, i as u32 / 128);
                let inside = x >= place.x && x < place.x + place.width && y >= place.y && y < place.y + place.height;
                assert!(inside || a == b, "({x}, {y}) outside {place:?}");
            }
            let (with, without) = (response(&fake, 128, place), response(&real, 128, place));
            assert!(with > 3.0 * without, "{with} {without}");
        }
    }

    #[test]
    fn mean_colours_do_not_tell_the_classes_apart() {
        let mean = |fake: bool, index| {
            let pixels = picture(64, 2, index, fake).0;
            pixels.iter().map(|&v| f64::from(v)).sum::<f64>() / pixels.len() as f64
        };
        for index in 0..8 {
            assert!((mean(true, index) - mean(false, index)).abs() < 0.5);
        }
    }
}
