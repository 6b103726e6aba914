//! Both networks as one safetensors file. Tensors are named as in the published code, after `pattern.` and
//! `mask.`; the metadata says for which images.

use std::path::Path;

use safetensors::Dtype;

use super::Dynamic;
use crate::data::normalisation::{join, split};
use crate::data::{Normalisation, parse_size};
use crate::error::{Error, Result};
use crate::fs::write_atomic;
use crate::map::map_file;
use crate::model::GeneratorRole;
use crate::model::container::{Entry, Metadata, read, write};

const PARTS: [(&str, GeneratorRole); 2] =
    [("pattern", GeneratorRole::Pattern), ("mask", GeneratorRole::Mask)];

impl Dynamic {
    /// The file's bytes: the same networks give the same.
    ///
    /// # Errors
    /// Sizes that mean no network.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let metadata = Metadata::from([
            ("pbe.input".into(), format!("{}x{}", self.height, self.width)),
            ("pbe.mean".into(), join(&self.normalisation.mean)),
            ("pbe.std".into(), join(&self.normalisation.std)),
            ("pbe.generator-width".into(), self.generator_width.to_string()),
        ]);
        let mut tensors = Vec::new();
        for ((part, role), values) in PARTS.into_iter().zip([&self.pattern, &self.mask]) {
            for slot in self.network(role)?.layout().slots() {
                let bytes: Vec<u8> =
                    values[slot.range.clone()].iter().flat_map(|v| v.to_le_bytes()).collect();
                tensors.push((format!("{part}.{}", slot.tensor.name), slot.tensor.shape.clone(), bytes));
            }
        }
        let entries: Vec<Entry> = tensors
            .iter()
            .map(|(name, shape, bytes)| Entry { name, dtype: Dtype::F32, shape, bytes })
            .collect();
        Ok(write(&metadata, &entries))
    }

    /// Writes the file, unless it is there.
    ///
    /// # Errors
    /// It is there with other networks: another file may rely on it.
    pub fn save(&self, path: &Path) -> Result<()> {
        if !path.exists() {
            return write_atomic(path, &self.encode()?);
        }
        match Self::load(path)? == *self {
            true => Ok(()),
            false => Err(Error::file(path, "exists with other generators; choose another folder")),
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// Names the file and the cause: not there, damaged, a tensor that is missing or of another size, a
    /// value that is not finite.
    pub fn load(path: &Path) -> Result<Self> {
        let map = map_file(path)?;
        Self::decode(&map).map_err(|cause| Error::file(path, cause))
    }

    fn decode(bytes: &[u8]) -> std::result::Result<Self, String> {
        let (file, metadata) = read(bytes)?;
        let text = |key: &str| metadata.get(key).ok_or(format!("no generators: metadata has no {key}"));
        let size = text("pbe.input")?;
        let (height, width) = parse_size(size).ok_or_else(|| format!("metadata pbe.input is {size}"))?;
        let numbers = |key: &str| split(text(key)?).map_err(|error| error.to_string());
        let mut dynamic = Self {
            height,
            width,
            normalisation: Normalisation::new(numbers("pbe.mean")?, numbers("pbe.std")?)
                .map_err(|error| error.to_string())?,
            generator_width: text("pbe.generator-width")?
                .parse()
                .map_err(|_| "metadata pbe.generator-width is not a number")?,
            pattern: vec![],
            mask: vec![],
        };
        for (part, role) in PARTS {
            let layout = dynamic.network(role).map_err(|error| error.to_string())?.layout();
            if layout.len() > bytes.len() / 4 {
                return Err(format!(
                    "generators of width {}: its tensors don't fit into the file",
                    dynamic.generator_width
                ));
            }
            let mut values = vec![0.0; layout.len()];
            for slot in layout.slots() {
                let name = format!("{part}.{}", slot.tensor.name);
                let view = file.tensor(&name).map_err(|_| format!("no tensor {name}"))?;
                if view.dtype() != Dtype::F32 || view.shape() != slot.tensor.shape {
                    let (dtype, shape) = (view.dtype(), view.shape());
                    return Err(format!(
                        "tensor {name} is {dtype} {shape:?}, not F32 {:?}",
                        slot.tensor.shape
                    ));
                }
                let bytes = view.data().as_chunks::<4>().0;
                let target = &mut values[slot.range.clone()];
                target.iter_mut().zip(bytes).for_each(|(value, bytes)| *value = f32::from_le_bytes(*bytes));
            }
            match role {
                GeneratorRole::Pattern => dynamic.pattern = values,
                GeneratorRole::Mask => dynamic.mask = values,
            }
        }
        dynamic.check().map_err(|error| error.to_string())?;
        Ok(dynamic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_survive_the_disk_and_are_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dynamic.safetensors");
        let one = Dynamic::initialise((8, 12), Normalisation::for_cifar10(), 3, 1).unwrap();
        one.save(&path).unwrap();
        one.save(&path).unwrap();
        assert_eq!(Dynamic::load(&path).unwrap(), one);
        let other = Dynamic::initialise((8, 12), Normalisation::for_cifar10(), 3, 2).unwrap();
        assert!(other.save(&path).unwrap_err().to_string().contains("dynamic.safetensors"));
        assert_ne!(one.pattern[..9], one.mask[..9], "the networks begin at different weights");
    }

    #[test]
    fn faults_name_the_file_and_the_cause() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dynamic.safetensors");
        let mut dynamic = Dynamic::initialise((8, 8), Normalisation::identity(1), 2, 1).unwrap();
        dynamic.mask[0] = f32::NAN;
        write_atomic(&path, &dynamic.encode().unwrap()).unwrap();
        let message = || Dynamic::load(&path).unwrap_err().to_string();
        assert!(
            message().contains("not finite") && message().contains("dynamic.safetensors"),
            "{}",
            message()
        );
        std::fs::write(&path, write(&Metadata::new(), &[])).unwrap();
        assert!(message().contains("pbe.input"), "{}", message());
    }
}
