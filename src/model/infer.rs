//! Which architecture a list of names and shapes is, even where some of them are wrong.

use super::architecture::{Architecture, Kind};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, HashMap};

/// Kind, width, class count and input channels from the tensors' names and shapes.
///
/// Width is what most tensors agree on, so that one wrong tensor is later named as wrong and not
/// all the others. Whether every tensor is there with the right shape is not checked here.
///
/// # Errors
/// The tensors are not those of a known architecture; the message says what they look like.
pub fn infer<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Result<Architecture> {
    let shapes: HashMap<&str, &[usize]> = tensors.into_iter().collect();
    let unit = Architecture { kind: Kind::PreActResNet18, width: 1, classes: 1, channels: 3 };
    let reference = unit.tensors();
    let known = reference.iter().filter(|tensor| shapes.contains_key(tensor.name.as_str())).count();
    if 2 * known < reference.len() {
        return Err(Error::input(unknown(&shapes, known, reference.len())));
    }
    let mut votes = BTreeMap::<usize, usize>::new();
    for tensor in reference.iter().filter(|tensor| !tensor.name.starts_with("linear.")) {
        let (Some(&unit), Some(found)) = (tensor.shape.first(), shapes.get(tensor.name.as_str())) else {
            continue;
        };
        if let Some(&outputs) = found.first()
            && outputs > 0
            && outputs % unit == 0
        {
            *votes.entry(outputs / unit).or_default() += 1;
        }
    }
    let Some((&width, _)) = votes.iter().max_by_key(|(_, count)| **count) else {
        return Err(Error::input("no tensor has a shape that tells the network's width"));
    };
    let one_channel = matches!(shapes.get("conv1.weight"), Some([_, 1, ..]));
    let architecture = Architecture { width, channels: if one_channel { 1 } else { 3 }, ..unit };
    Ok(Architecture { classes: classes(&shapes, architecture.features()), ..architecture })
}

/// Outputs of the linear layer; 1 where nothing tells, and then both tensors are missing or wrong.
fn classes(shapes: &HashMap<&str, &[usize]>, features: usize) -> usize {
    match (shapes.get("linear.bias"), shapes.get("linear.weight")) {
        (Some([classes]), _) => *classes,
        (_, Some([inputs, classes])) if *inputs == features && *classes != features => *classes,
        (_, Some([classes, _])) => *classes,
        _ => 1,
    }
    .max(1)
}

fn unknown(shapes: &HashMap<&str, &[usize]>, known: usize, all: usize) -> String {
    let looks = if shapes.contains_key("layer2.0.downsample.0.weight") {
        "; this looks like torchvision's ResNet, which is not supported"
    } else if shapes.contains_key("layer2.0.shortcut.1.weight") {
        "; this looks like a post-activation ResNet, which is not supported"
    } else {
        ""
    };
    format!(
        "not a pre-activation ResNet-18: of its {all} tensors (names of kuangliu/BackdoorBench) {known} are \
         among the file's {}{looks}",
        shapes.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TensorSpec;

    fn infer_specs(specs: &[TensorSpec]) -> Result<Architecture> {
        infer(specs.iter().map(|spec| (spec.name.as_str(), spec.shape.as_slice())))
    }

    #[test]
    fn finds_the_sizes_whatever_they_are() {
        for (width, classes, channels) in [(1, 1, 3), (5, 7, 1), (16, 10, 3), (64, 200, 3), (25, 200, 3)] {
            let architecture = Architecture { kind: Kind::PreActResNet18, width, classes, channels };
            assert_eq!(infer_specs(&architecture.tensors()).unwrap(), architecture);
        }
    }

    #[test]
    fn one_wrong_tensor_does_not_change_the_rest() {
        let architecture = Architecture { kind: Kind::PreActResNet18, width: 4, classes: 10, channels: 3 };
        for (name, shape) in [
            ("conv1.weight", vec![3, 3, 3, 4]),
            ("linear.weight", vec![32, 10]),
            ("linear.bias", vec![10, 1]),
            ("layer1.0.bn1.weight", vec![]),
            ("layer3.0.conv1.weight", vec![0, 0]),
        ] {
            let mut specs = architecture.tensors();
            specs.iter_mut().find(|spec| spec.name == name).unwrap().shape = shape;
            assert_eq!(infer_specs(&specs).unwrap(), architecture, "{name}");
            specs.retain(|spec| spec.name != name);
            assert_eq!(infer_specs(&specs).unwrap(), architecture, "without {name}");
        }
    }

    #[test]
    fn other_networks_are_told_apart() {
        let names = ["conv1.weight", "layer2.0.downsample.0.weight", "fc.weight"];
        let error = infer(names.iter().map(|name| (*name, &[1usize][..]))).unwrap_err().to_string();
        assert!(error.contains("torchvision"), "{error}");
        assert!(infer([]).unwrap_err().to_string().contains("0 are among the file's 0"));
    }
}
