//! The safetensors container: an 8-byte length, a JSON header, the tensors' bytes.
//!
//! Reading leaves the work to the `safetensors` crate and adds causes a user can act on. Writing is done
//! here, because the crate writes metadata in the order of a randomly seeded hash map and the same model
//! must give the same bytes.

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const LENGTH: usize = 8;

/// Metadata: short texts by key.
pub type Metadata = BTreeMap<String, String>;

/// A tensor to be written.
pub struct Entry<'a> {
    /// Key.
    pub name: &'a str,
    /// Element type.
    pub dtype: Dtype,
    /// Outermost dimension first.
    pub shape: &'a [usize],
    /// Little-endian elements.
    pub bytes: &'a [u8],
}

/// The file's bytes. Tensors stay in the given order; put wide types first to keep them aligned.
pub fn write(metadata: &Metadata, entries: &[Entry]) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!(metadata));
    let mut end = 0;
    for entry in entries {
        let offsets = [end, end + entry.bytes.len()];
        end = offsets[1];
        let description =
            json!({ "dtype": entry.dtype.to_string(), "shape": entry.shape, "data_offsets": offsets });
        header.insert(entry.name.into(), description);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(LENGTH), b' ');
    let mut bytes = Vec::with_capacity(LENGTH + header.len() + end);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header);
    for entry in entries {
        bytes.extend(entry.bytes);
    }
    bytes
}

/// The tensors and the metadata of a file, or why it has none.
pub fn read(bytes: &[u8]) -> Result<(SafeTensors<'_>, Metadata), String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| cause(&error, bytes))?;
    let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| cause(&error, bytes))?;
    Ok((tensors, metadata))
}

/// What is wrong with the file, in words that name its own sizes.
fn cause(error: &SafeTensorError, bytes: &[u8]) -> String {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        return format!("not a safetensors file: only {} bytes long", bytes.len());
    };
    let length = u64::from_le_bytes(*length);
    match error {
        SafeTensorError::HeaderTooLarge => {
            format!("not a safetensors file: it claims a header of {length} bytes, over the limit of 100 MB")
        }
        SafeTensorError::InvalidHeaderLength => format!(
            "truncated, or not a safetensors file: it claims a header of {length} bytes and has {} after \
             the length",
            rest.len()
        ),
        SafeTensorError::InvalidHeader(_) | SafeTensorError::InvalidHeaderDeserialization(_) => {
            format!("not a safetensors file, or a damaged one: {error}")
        }
        SafeTensorError::MetadataIncompleteBuffer => incomplete(&rest[..length as usize], rest.len()),
        _ => format!("a damaged safetensors file: {error}"),
    }
}

/// The data's size is not what the header describes.
fn incomplete(header: &[u8], rest: usize) -> String {
    let tensors: Map<String, Value> = serde_json::from_slice(header).unwrap_or_default();
    let described =
        tensors.values().filter_map(|tensor| tensor["data_offsets"][1].as_u64()).max().unwrap_or(0);
    let present = (rest - header.len()) as u64;
    if present < described {
        format!("truncated: its tensors take {described} bytes, {present} are there")
    } else {
        format!("damaged: its tensors take {described} bytes, and {} follow them", present - described)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let metadata = Metadata::from([("b".into(), "2 \"two\"".into()), ("a".into(), "1".into())]);
        let x = Entry { name: "x", dtype: Dtype::F32, shape: &[2], bytes: &[0, 0, 128, 63, 0, 0, 0, 64] };
        let y = Entry { name: "a.y", dtype: Dtype::F16, shape: &[], bytes: &[1, 2] };
        write(&metadata, &[x, y])
    }

    fn refusal(bytes: &[u8]) -> String {
        read(bytes).unwrap_err()
    }

    #[test]
    fn the_crate_reads_what_is_written() {
        let bytes = sample();
        let (tensors, metadata) = read(&bytes).unwrap();
        assert_eq!(metadata["b"], "2 \"two\"");
        assert_eq!(tensors.tensor("x").unwrap().shape(), [2]);
        assert_eq!(tensors.tensor("x").unwrap().data(), [0, 0, 128, 63, 0, 0, 0, 64]);
        assert_eq!(tensors.tensor("a.y").unwrap().dtype(), Dtype::F16);
        assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()) % 8, 0);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = sample();
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "{end}");
        }
        assert_eq!(refusal(&bytes[..bytes.len() - 3]), "truncated: its tensors take 10 bytes, 7 are there");
        assert!(refusal(&[&bytes[..], b"zz"].concat()).contains("and 2 follow them"));
    }

    #[test]
    fn causes_are_told_apart() {
        assert!(refusal(b"abc").contains("only 3 bytes"));
        assert!(refusal(&[255; 20]).contains("over the limit of 100 MB"));
        let claim = [&1000u64.to_le_bytes()[..], b"{}"].concat();
        assert!(refusal(&claim).contains("a header of 1000 bytes and has 2 after"), "{}", refusal(&claim));
        let text = [&8u64.to_le_bytes()[..], b"not json"].concat();
        assert!(refusal(&text).contains("invalid JSON"));
        let overlap = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        let overlap = [&(overlap.len() as u64).to_le_bytes()[..], overlap, &[0; 8]].concat();
        assert!(refusal(&overlap).contains("invalid offset for tensor `a`"), "{}", refusal(&overlap));
    }
}
