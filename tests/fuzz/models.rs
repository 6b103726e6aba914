//! Model files: safetensors, PyTorch checkpoints, trained triggers.

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use pbe::model::load;

use super::fuzz;
use super::mutate::{Random, mutated};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(golden(name)).unwrap()
}

/// A small file counts for as much as a large one, and is tried a hundred times as often.
const SMALL: usize = 200_000;

/// A safetensors file whose header is changed more often than its tensors.
pub fn safetensors(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (header, tensors) = bytes[8..].split_at(length);
    match random.below(4) {
        0 => mutated(random, bytes),
        1 => {
            let tensors = mutated(random, tensors);
            [&bytes[..8], header, &tensors].concat()
        }
        _ => {
            let header = mutated(random, header);
            [&(header.len() as u64).to_le_bytes()[..], &header, tensors].concat()
        }
    }
}

#[test]
fn model_files() {
    let names = ["one-class", "resnet18-small-stem", "dynamic", "many-classes"];
    let models: Vec<Vec<u8>> = names.iter().map(|name| read(&format!("{name}/model.safetensors"))).collect();
    let models: Vec<&Vec<u8>> = models.iter().filter(|bytes| bytes.len() < SMALL).collect();
    assert!(!models.is_empty());
    fuzz("model", |random, folder| {
        let path = folder.join("model.safetensors");
        let model = *random.pick(&models);
        std::fs::write(&path, safetensors(random, model)).unwrap();
        let _ = load(&path);
    });
}

#[test]
fn triggers() {
    let file = read("dynamic/dynamic.safetensors");
    let truth = r#"{"schema": 1, "attack": "dynamic", "label": {"mode": "all-to-one", "target": 0}, "rate": 0.5,
        "params": {"generators": "dynamic.safetensors"}, "train": {"images": 4, "order": "", "indices": [1]}}"#;
    fuzz("trigger", |random, folder| {
        std::fs::write(folder.join("dynamic.safetensors"), safetensors(random, &file)).unwrap();
        std::fs::write(folder.join("poison.json"), truth).unwrap();
        let _ = pbe::backdoor::PoisonFile::load(&folder.join("poison.json"));
    });
}

/// The files of a zip by name.
type Files = Vec<(String, Vec<u8>)>;

fn unzip(bytes: &[u8]) -> Files {
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let count = zip.len();
    let read = |index| {
        let mut file = zip.by_index(index).unwrap();
        let mut content = vec![];
        file.read_to_end(&mut content).unwrap();
        (file.name().to_string(), content)
    };
    (0..count).map(read).collect()
}

/// A zip with right checksums.
fn zipped(files: &Files) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(vec![]));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in files {
        if zip.start_file(name.as_str(), stored).is_ok() {
            zip.write_all(content).unwrap();
        }
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn checkpoints() {
    let names = ["plain.pt", "training.pth", "attack_result.pt", "vgg11-bn-small-head.pt"];
    let real: Vec<Vec<u8>> = names.iter().map(|name| read(&format!("checkpoints/{name}"))).collect();
    let real: Vec<&Vec<u8>> = real.iter().filter(|bytes| bytes.len() < SMALL).collect();
    let unpacked: Vec<Files> = real.iter().map(|bytes| unzip(bytes)).collect();
    fuzz("checkpoint", |random, folder| {
        let path = folder.join("model.pth");
        let bytes = match random.below(8) {
            0 => {
                let bytes = *random.pick(&real);
                mutated(random, bytes)
            }
            1..4 => {
                let mut files = random.pick(&unpacked).clone();
                let at = files.iter().position(|(name, _)| name.ends_with("data.pkl")).unwrap();
                let at = if random.one_in(8) { random.below(files.len()) } else { at };
                files[at].1 = mutated(random, &files[at].1);
                zipped(&files)
            }
            _ => {
                let files = [("m/data.pkl", pickle(random)), ("m/data/0", vec![1; 64]), ("m/data/1", vec![])];
                zipped(&files.map(|(name, content)| (name.to_string(), content)).to_vec())
            }
        };
        std::fs::write(&path, bytes).unwrap();
        let _ = load(&path);
    });
}

/// A pickle from a grammar: mostly a dict of tensors, any part of which may be something else.
fn pickle(random: &mut Random) -> Vec<u8> {
    let mut out = Pickle { bytes: vec![0x80, 2 + random.below(4) as u8], memo: 0 };
    out.dict(random, 3);
    out.bytes.push(b'.');
    if random.one_in(4) { mutated(random, &out.bytes) } else { out.bytes }
}

struct Pickle {
    bytes: Vec<u8>,
    /// Places of the memo that are taken.
    memo: u8,
}

const NAMES: [&str; 12] = [
    "conv1.weight",
    "bn1.weight",
    "linear.bias",
    "module.conv1.weight",
    "state_dict",
    "model",
    "net",
    "",
    "0",
    "storage",
    "cpu",
    "model_state_dict",
];

const GLOBALS: [&str; 12] = [
    "torch._utils\n_rebuild_tensor_v2",
    "torch._utils\n_rebuild_parameter",
    "torch._utils\n_rebuild_tensor",
    "collections\nOrderedDict",
    "torch\nFloatStorage",
    "torch\nDoubleStorage",
    "torch\nHalfStorage",
    "torch\nBoolStorage",
    "torch\nSize",
    "numpy\nndarray",
    "os\nsystem",
    "numpy.core.multiarray\n_reconstruct",
];

impl Pickle {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    fn text(&mut self, random: &mut Random, text: &str) {
        match random.one_in(2) {
            true => self.push(&[&[0x8c, text.len() as u8][..], text.as_bytes()].concat()),
            false => self.push(&[b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()),
        }
    }

    fn integer(&mut self, random: &mut Random) {
        let value = if random.one_in(3) { random.odd_number() } else { random.below(9) as u64 };
        match random.below(4) {
            0 => self.push(&[&[0x8a, 8][..], &value.to_le_bytes()].concat()),
            1 => self.push(&[b"J", &(value as u32).to_le_bytes()[..]].concat()),
            _ => self.push(&[b'K', value as u8]),
        }
    }

    fn global(&mut self, name: &str) {
        self.push(b"c");
        self.push(name.as_bytes());
        self.push(b"\n");
    }

    /// Anything, nested `depth` deep at most.
    fn any(&mut self, random: &mut Random, depth: usize) {
        match random.below(if depth == 0 { 7 } else { 12 }) {
            0 => self.push(b"N"),
            1 => self.integer(random),
            2 => {
                let name = *random.pick(&NAMES);
                self.text(random, name);
            }
            3 => self.global(GLOBALS[random.below(GLOBALS.len())]),
            4 => self.push(&[b'h', random.next() as u8 % self.memo.max(1)]),
            5 => self.push(&[0x88 + random.below(2) as u8]),
            6 => self.push(&[b'G', 0, 0, 0, 0, 0, 0, 0, 0]),
            7 => self.list(random, depth - 1),
            8 => self.dict(random, depth - 1),
            9 | 10 => self.tensor(random),
            _ => {
                self.any(random, depth - 1);
                self.any(random, depth - 1);
                self.push(random.pick(&[b"R", b"b", b"0", b"Q"]).as_slice());
            }
        }
        if self.memo < u8::MAX && random.one_in(4) {
            self.push(&[b'q', self.memo]);
            self.memo += 1;
        }
    }

    fn list(&mut self, random: &mut Random, depth: usize) {
        self.push(b"(");
        (0..random.below(5)).for_each(|_| self.any(random, depth));
        self.push(random.pick(&[b"t", b"l"]).as_slice());
    }

    fn dict(&mut self, random: &mut Random, depth: usize) {
        self.push(b"}");
        self.push(b"(");
        for _ in 0..random.below(6) {
            let name = *random.pick(&NAMES);
            if random.one_in(12) {
                self.any(random, 0)
            } else {
                self.text(random, name)
            }
            if random.one_in(3) { self.any(random, depth) } else { self.tensor(random) }
        }
        self.push(b"u");
    }

    /// A tensor of the storage `0` or `1`; one part in some is wrong.
    fn tensor(&mut self, random: &mut Random) {
        if random.one_in(6) {
            self.global("torch._utils\n_rebuild_parameter");
            self.push(b"(");
            self.tensor(random);
            self.push(b"\x88NtR");
            return;
        }
        let odd = |random: &mut Random| random.one_in(24);
        self.global(if odd(random) { GLOBALS[random.below(GLOBALS.len())] } else { GLOBALS[0] });
        self.push(b"((");
        self.text(random, "storage");
        self.global(GLOBALS[4 + random.below(4)]);
        let key = if random.one_in(6) { "1" } else { "0" };
        self.text(random, key);
        self.text(random, "cpu");
        self.integer(random);
        self.push(b"tQ");
        self.integer(random);
        for _ in 0..2 {
            if odd(random) { self.any(random, 1) } else { self.sizes(random) }
        }
        self.push(b"\x89NtR");
    }

    fn sizes(&mut self, random: &mut Random) {
        self.push(b"(");
        (0..random.below(5)).for_each(|_| self.integer(random));
        self.push(b"t");
    }
}
