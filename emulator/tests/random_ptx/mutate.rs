//! Real kernels with a few tokens deleted, swapped, doubled or replaced.

use std::path::Path;
use std::sync::OnceLock;

/// The repository's kernels, and those of these tests.
fn files() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = Vec::new();
    for folder in ["tests/kernels", "../kernels/ptx"] {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "ptx"));
        paths.sort();
        texts.extend(paths.iter().map(|path| std::fs::read_to_string(path).unwrap()));
    }
    assert!(!texts.is_empty());
    texts
}

/// Each kernel by itself, with what stands before the first one of its file.
fn kernels() -> &'static [(String, String)] {
    static KERNELS: OnceLock<Vec<(String, String)>> = OnceLock::new();
    KERNELS.get_or_init(|| {
        let mut all = Vec::new();
        for text in files() {
            let mut parts = text.split("\n.visible .entry ");
            let head = parts.next().unwrap_or_default().to_owned();
            all.extend(parts.map(|part| (head.clone(), format!("\n.visible .entry {part}"))));
        }
        // Long ones take long, and hold nothing that short ones don't.
        all.retain(|(head, kernel)| head.len() + kernel.len() < 12_000);
        assert!(all.len() > 20, "{}", all.len());
        all
    })
}

/// Words, numbers and single marks; blanks stay with what they follow.
fn tokens(text: &str) -> Vec<&str> {
    let word = |letter: char| letter.is_ascii_alphanumeric() || "._%$:".contains(letter);
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let body = if word(first) { rest.find(|c| !word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let blanks = rest[body..].find(|c: char| !c.is_whitespace()).unwrap_or(rest.len() - body);
        let (token, later) = rest.split_at(body + blanks);
        tokens.push(token);
        rest = later;
    }
    tokens
}

/// A small random generator: the cases are drawn by their seed alone.
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Draw {
        Draw(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ x >> 31) % count as u64) as usize
    }

    pub fn of<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

const NUMBERS: [&str; 12] = [
    "0",
    "1",
    "-1",
    "3",
    "31",
    "32",
    "64",
    "255",
    "65536",
    "2147483647",
    "4294967295",
    "9223372036854775807",
];

/// Lines deleted, swapped or doubled: these often still are PTX.
fn other_lines(draw: &mut Draw, kernel: &str) -> String {
    let mut lines: Vec<&str> = kernel.split_inclusive('\n').collect();
    for _ in 0..1 + draw.below(3) {
        let (at, to) = (draw.below(lines.len()), draw.below(lines.len()));
        match draw.below(3) {
            0 if lines.len() > 1 => drop(lines.remove(at)),
            1 => lines.swap(at, to),
            _ => lines.insert(at, lines[to]),
        }
    }
    lines.concat()
}

/// A kernel with up to four changes.
pub fn kernel(seed: u64) -> String {
    let mut draw = Draw::new(seed);
    let all = kernels();
    let (head, kernel) = &all[draw.below(all.len())];
    if draw.below(2) == 0 {
        return format!("{head}{}", other_lines(&mut draw, kernel));
    }
    let other = tokens(&all[draw.below(all.len())].1);
    let mut tokens: Vec<String> = tokens(kernel).into_iter().map(str::to_owned).collect();
    for _ in 0..1 + draw.below(4) {
        let (at, to) = (draw.below(tokens.len()), draw.below(tokens.len()));
        match draw.below(6) {
            0 => drop(tokens.remove(at)),
            1 => tokens.swap(at, to),
            2 => tokens.insert(at, tokens[at].clone()),
            3 => tokens[at] = format!("{} ", other[draw.below(other.len())]),
            4 => {
                // Another opcode or register of the same kernel.
                let same = |token: &String| token.starts_with('%') == tokens[at].starts_with('%');
                if let Some(found) = tokens[to..].iter().find(|token| same(token)).cloned() {
                    tokens[at] = found;
                }
            }
            _ => {
                let numbers: Vec<usize> = (0..tokens.len())
                    .filter(|&i| tokens[i].starts_with(|c: char| c.is_ascii_digit()))
                    .collect();
                if !numbers.is_empty() {
                    tokens[numbers[draw.below(numbers.len())]] = format!("{} ", draw.of(&NUMBERS));
                }
            }
        }
        if tokens.is_empty() {
            break;
        }
    }
    format!("{head}{}", tokens.concat())
}
