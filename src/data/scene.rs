//! One synthetic image: a textured shape on a textured background.
//!
//! Lengths are in half the image's side, with y pointing down; colours are in 0..1. Only arithmetic
//! that IEEE 754 rounds the same way everywhere is used, so images are the same on every machine.

use super::synthetic::Draws;

/// Whether a point of the shape's own square, -1..1 both ways, belongs to it.
type Shape = fn(f32, f32) -> bool;

/// The shapes by class. Sorted, so that an image folder written from the set reads back with the same labels.
pub(super) const SHAPES: [(&str, Shape); 10] = [
    ("circle", |x, y| x * x + y * y < 0.75),
    ("crescent", |x, y| x * x + y * y < 0.95 && (x - 0.5) * (x - 0.5) + y * y > 0.55),
    ("cross", |x, y| x.abs().min(y.abs()) < 0.27 && x.abs().max(y.abs()) < 0.95),
    ("diamond", |x, y| x.abs() / 0.62 + y.abs() < 1.0),
    ("heart", heart),
    ("ring", |x, y| (0.3..0.92).contains(&(x * x + y * y))),
    ("saltire", |x, y| (x - y).abs().min((x + y).abs()) < 0.38 && x.abs().max(y.abs()) < 0.85),
    ("square", |x, y| x.abs().max(y.abs()) < 0.78),
    ("star", star),
    ("triangle", |x, y| y < 0.75 && y > 2.0 * x.abs() - 0.95),
];

/// y points down.
fn heart(x: f32, y: f32) -> bool {
    let (x, y) = (1.2 * x, 0.15 - 1.2 * y);
    let base = x * x + y * y - 1.0;
    base * base * base < x * x * y * y * y
}

/// Five points: inside at least four of the five lines of a pentagram.
fn star(x: f32, y: f32) -> bool {
    // Unit normals of the lines, 72 degrees apart.
    const NORMALS: [(f32, f32); 5] = [
        (0.0, 1.0),
        (0.951_056_5, 0.309_017),
        (0.587_785_25, -0.809_017),
        (-0.587_785_25, -0.809_017),
        (-0.951_056_5, 0.309_017),
    ];
    NORMALS.iter().filter(|(nx, ny)| nx * x + ny * y < 0.33).count() >= 4
}

/// A surface of two colours.
#[derive(Clone, Copy)]
struct Texture {
    kind: u32,
    colours: [[f32; 3]; 2],
    /// Direction of stripes and gradients, a unit vector.
    direction: (f32, f32),
    /// Periods per unit of length.
    frequency: f32,
    phase: f32,
}

const PLAIN: u32 = 0;
const GRADIENT: u32 = 1;
const STRIPES: u32 = 2;
const CHECKS: u32 = 3;
const DOTS: u32 = 4;

impl Texture {
    /// Around `base`: the second colour is `spread` away at most.
    fn draw(draws: &mut Draws, base: [f32; 3], spread: f32) -> Self {
        let second = base.map(|value| (value + draws.between(-spread, spread)).clamp(0.0, 1.0));
        Self {
            kind: draws.one_of(5),
            colours: [base, second],
            direction: rotation(draws.between(-1.0, 1.0)),
            frequency: draws.between(1.5, 4.0),
            phase: draws.between(0.0, 1.0),
        }
    }

    /// The colour at (x, y), both about −1..1.
    fn at(&self, x: f32, y: f32) -> [f32; 3] {
        let along = self.direction.0 * x + self.direction.1 * y;
        let across = self.direction.0 * y - self.direction.1 * x;
        let wave = |t: f32| {
            let t = t * self.frequency + self.phase;
            t - t.floor()
        };
        let share = match self.kind {
            PLAIN => 0.0,
            GRADIENT => (0.5 + 0.5 * along).clamp(0.0, 1.0),
            STRIPES => f32::from(wave(along) < 0.5),
            CHECKS => f32::from((wave(along) < 0.5) != (wave(across) < 0.5)),
            DOTS => {
                let (a, b) = (wave(along) - 0.5, wave(across) - 0.5);
                f32::from(a * a + b * b < 0.09)
            }
            _ => 0.0,
        };
        mix(self.colours[0], self.colours[1], share)
    }
}

/// Everything about an image but its noise.
pub(super) struct Scene {
    shape: Shape,
    centre: (f32, f32),
    scale: f32,
    stretch: f32,
    tilt: (f32, f32),
    front: Texture,
    back: Texture,
    /// Small discs behind the shape: centre, radius, colour.
    clutter: [((f32, f32), f32, [f32; 3]); 3],
    light: (f32, f32),
    noise: f32,
}

impl Scene {
    pub fn draw(draws: &mut Draws, shape: Shape) -> Self {
        let back = draws.colour();
        let front = contrasting(draws, back);
        let scale = draws.between(0.42, 0.8);
        let room = 0.95 - scale;
        Self {
            shape,
            centre: (draws.between(-room, room), draws.between(-room, room)),
            scale,
            stretch: draws.between(0.85, 1.18),
            // A quarter turn is 1: about 18 degrees each way.
            tilt: rotation(draws.between(-0.16, 0.16)),
            front: Texture::draw(draws, front, 0.3),
            back: Texture::draw(draws, back, 0.3),
            clutter: [(); 3].map(|()| {
                let centre = (draws.between(-1.0, 1.0), draws.between(-1.0, 1.0));
                (centre, draws.between(0.05, 0.2), draws.colour())
            }),
            light: (draws.between(0.75, 1.1), draws.between(-0.08, 0.08)),
            noise: draws.between(0.01, 0.07),
        }
    }

    /// Paints a square image `size` pixels wide, with 3x3 samples per pixel, then noise.
    pub fn paint(&self, size: usize, draws: &mut Draws, out: &mut [u8]) {
        const SAMPLES: usize = 3;
        let step = 2.0 / (size * SAMPLES) as f32;
        let place = |sample: usize| (sample as f32 + 0.5) * step - 1.0;
        for (at, pixel) in out.chunks_exact_mut(3).enumerate() {
            let (row, column) = (at / size, at % size);
            let mut sum = [0.0; 3];
            for sample in 0..SAMPLES * SAMPLES {
                let x = place(column * SAMPLES + sample % SAMPLES);
                let y = place(row * SAMPLES + sample / SAMPLES);
                let colour = self.at(x, y);
                sum = [0, 1, 2].map(|channel| sum[channel] + colour[channel]);
            }
            for (value, sum) in pixel.iter_mut().zip(sum) {
                let mean = sum / (SAMPLES * SAMPLES) as f32;
                // The sum of two uniform numbers is bell-shaped enough.
                let noise = draws.between(-1.0, 1.0) + draws.between(-1.0, 1.0);
                let lit = mean * self.light.0 + self.light.1 + noise * self.noise;
                *value = (lit.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
            }
        }
    }

    fn at(&self, x: f32, y: f32) -> [f32; 3] {
        let (dx, dy) = ((x - self.centre.0) / self.scale, (y - self.centre.1) / self.scale);
        let (u, v) = (self.tilt.0 * dx + self.tilt.1 * dy, self.tilt.0 * dy - self.tilt.1 * dx);
        if (self.shape)(u * self.stretch, v / self.stretch) {
            return self.front.at(u, v);
        }
        for ((cx, cy), radius, colour) in self.clutter {
            if (x - cx) * (x - cx) + (y - cy) * (y - cy) < radius * radius {
                return colour;
            }
        }
        self.back.at(x, y)
    }
}

/// A colour far enough from `other` to be seen on it.
fn contrasting(draws: &mut Draws, other: [f32; 3]) -> [f32; 3] {
    let mut best = ([0.0; 3], 0.0);
    for _ in 0..3 {
        let colour = draws.colour();
        let distance: f32 = colour.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum();
        if distance >= best.1 {
            best = (colour, distance);
        }
    }
    best.0
}

fn mix(a: [f32; 3], b: [f32; 3], share: f32) -> [f32; 3] {
    [0, 1, 2].map(|channel| a[channel] + (b[channel] - a[channel]) * share)
}

/// Cosine and sine of the angle whose half has this tangent: −1..1 covers half a turn.
fn rotation(tangent: f32) -> (f32, f32) {
    let scale = 1.0 / (1.0 + tangent * tangent);
    ((1.0 - tangent * tangent) * scale, 2.0 * tangent * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every shape covers a fair part of its square and differs from every other in a tenth of it.
    #[test]
    fn shapes_differ() {
        let place = |at: usize| (at as f32 + 0.5) / 50.0 - 1.0;
        let masks: Vec<Vec<bool>> = SHAPES
            .iter()
            .map(|(_, shape)| (0..10_000).map(|at| shape(place(at % 100), place(at / 100))).collect())
            .collect();
        for (a, mask) in masks.iter().enumerate() {
            let area = mask.iter().filter(|&&inside| inside).count();
            assert!((2000..8000).contains(&area), "{}: {area}", SHAPES[a].0);
            for (b, other) in masks.iter().enumerate().skip(a + 1) {
                let differing = mask.iter().zip(other).filter(|(a, b)| a != b).count();
                assert!(differing > 1000, "{} and {}: {differing}", SHAPES[a].0, SHAPES[b].0);
            }
        }
    }
}
