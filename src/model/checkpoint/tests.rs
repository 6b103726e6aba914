//! Real checkpoints, and pickles that mean harm.

use super::*;
use crate::model::sets::TensorFile;
use crate::model::{Weights, load};
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A checkpoint with this pickle and one storage of eight bytes, `0`.
fn checkpoint(pickle: &[u8]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let mut zip = zip::ZipWriter::new(&mut bytes);
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in [("m/data.pkl", pickle), ("m/data/0", &[0, 0, 128, 63, 0, 0, 0, 64])] {
        zip.start_file(name, stored).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
    bytes.into_inner()
}

/// The tensors of the first dict.
fn first(bytes: &[u8]) -> Result<Vec<(Dtype, Vec<u8>)>, String> {
    let archive = Archive::open(bytes)?;
    let dict = archive.dicts().first().ok_or("no tensors")?;
    let all: Vec<usize> = (0..dict.tensors.len()).collect();
    let found = archive.elements(0, &all)?;
    Ok(found.into_iter().map(|(dtype, bytes)| (dtype, bytes.into_owned())).collect())
}

fn refusal(pickle: &[u8]) -> String {
    first(&checkpoint(pickle)).unwrap_err()
}

/// `{"w": tensor}` of the storage, from `offset`, as 2 elements with this stride.
fn one_tensor(offset: u8, stride: u8) -> Vec<u8> {
    let mut pickle = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    pickle.extend(
        b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ",
    );
    pickle.extend([b'K', offset, b'K', 2, 0x85, b'K', stride, 0x85, 0x89]);
    pickle.extend(b"ccollections\nOrderedDict\n)RtRs.");
    pickle
}

#[test]
fn what_torch_saves_is_read() {
    let expected: Weights = load(golden("one-class/model.safetensors")).unwrap();
    for name in [
        "plain.pt",
        "training.pth",
        "attack_result.pt",
        "beside.pth",
        "ema.pth",
        "averaged.pth",
        "legacy.pth",
        "packed.pth",
        "module.pth",
        "trainer.pth",
    ] {
        let read = load(golden("checkpoints").join(name)).unwrap();
        assert_eq!(read.architecture, expected.architecture, "{name}");
        assert_eq!(read.values, expected.values, "{name}");
    }
}

#[test]
fn a_checkpoint_cut_anywhere_is_an_error() {
    let bytes = std::fs::read(golden("checkpoints/plain.pt")).unwrap();
    for length in (4..bytes.len()).step_by(997) {
        assert!(Archive::open(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_legacy_checkpoint_cut_anywhere_is_an_error() {
    let bytes = std::fs::read(golden("checkpoints/legacy.pth")).unwrap();
    for length in (2..bytes.len()).step_by(997) {
        assert!(Legacy::open(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn one_tensor_is_cut_out_of_its_storage() {
    let tensors = first(&checkpoint(&one_tensor(0, 1))).unwrap();
    assert_eq!(tensors, [(Dtype::F32, vec![0, 0, 128, 63, 0, 0, 0, 64])]);
    for (offset, stride) in [(1, 1), (0, 2), (255, 255)] {
        assert!(
            refusal(&one_tensor(offset, stride)).contains("w: it reaches outside its storage of 8 bytes")
        );
    }
}

#[test]
fn nothing_is_executed() {
    for pickle in [
        &b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R."[..],
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93).",
        b"\x80\x02c__builtin__\nexec\n.",
        b"cos\nsystem\n(S'ls'\ntR.",
        b"(ios\nsystem\n.",
        b"(cos\nsystem\no.",
    ] {
        assert_eq!(refusal(pickle), "no tensors");
    }
}

#[test]
fn what_stands_beside_the_weights_is_inert() {
    // {"a": os.system("ls"), "w": tensor}
    let mut pickle = b"\x80\x02}(X\x01\x00\x00\x00acos\nsystem\nX\x02\x00\x00\x00ls\x85R".to_vec();
    let tensor = one_tensor(0, 1);
    pickle.extend(&tensor[3..tensor.len() - 2]);
    pickle.extend(b"u.");
    assert_eq!(first(&checkpoint(&pickle)).unwrap().len(), 1);
}

#[test]
fn pickles_that_make_no_sense() {
    for (pickle, says) in [
        (&b""[..], "cut off"),
        (b"\x80\x02", "cut off"),
        (b"\x80\x02X\xff\xff\xff\xffabc", "cut off"),
        (b"\x80\x02.", "takes more"),
        (b"\x80\x02(0.", "takes more"),
        (b"\x80\x02t.", "closes"),
        (b"\x80\x02h\x07.", "recalls"),
        (b"\x80\x02Nr\xff\xff\xff\xff.", "remembers"),
        (b"\x80\x02\xfe.", "0xfe"),
        (b"\x80\x02N.", "no tensors"),
        (b"\x80\x02}X\x01\x00\x00\x00aNs.", "no tensors"),
        // A dict that is its own `model`.
        (b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.", "no tensors"),
        (b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n)Rs.", "no tensors"),
        (b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_parameter\n)Rs.", "w: a parameter of nothing"),
    ] {
        let cause = refusal(pickle);
        assert!(cause.contains(says), "`{says}` is not in: {cause}");
    }
    assert!(Archive::open(b"PK\x03\x04 and no more").err().unwrap().contains("a damaged zip"));
}

proptest::proptest! {
    #[test]
    fn no_pickle_is_a_crash(bytes: Vec<u8>, cut in 0usize..60, byte: u8) {
        let _ = pickle::read(&bytes);
        let mut real = one_tensor(0, 1);
        let at = cut % real.len();
        real[at] = byte;
        let _ = first(&checkpoint(&real));
    }
}
