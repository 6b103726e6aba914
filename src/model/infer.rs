//! Which architecture a list of names and shapes is, even where some of them are wrong.

use super::architecture::Architecture;
use super::check::list;
use super::layout::{TensorRole, TensorSpec};
use super::network::NetworkKind;
use crate::error::{Error, Result};
use std::collections::{BTreeMap, HashMap};

/// Channels of a network's first stage at most: a file may claim any number for a tensor without elements.
pub const WIDEST: usize = 1 << 16;

/// NetworkKind, width, class count and input channels from the tensors' names and shapes.
///
/// Width is what most tensors agree on, so that one wrong tensor is later named as wrong and not
/// all the others. Whether every tensor is there with the right shape is not checked here.
///
/// # Errors
/// The tensors are not those of a known architecture; the message says what they look like.
pub fn infer<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Result<Architecture> {
    let shapes: HashMap<&str, &[usize]> = tensors.into_iter().collect();
    // The network that has most of the file's names; of two that have as many, the one that has fewer others.
    let [first, others @ ..] = NetworkKind::ALL.map(|network| CandidateNetwork::new(network, &shapes));
    let key = |candidate: &CandidateNetwork| (std::cmp::Reverse(candidate.known), candidate.reference.len());
    let nearer = |a: CandidateNetwork, b: CandidateNetwork| if key(&b) < key(&a) { b } else { a };
    let CandidateNetwork { unit, reference, known } = others.into_iter().fold(first, nearer);
    if 2 * known < reference.len() {
        return Err(Error::input(unknown(unit.network, known, &reference, &shapes)));
    }
    let classifier = format!("{}.", unit.network.classifier());
    let mut votes = BTreeMap::<usize, usize>::new();
    for tensor in reference.iter().filter(|tensor| !tensor.name.starts_with(&classifier)) {
        let (Some(&unit), Some(found)) = (tensor.shape.first(), shapes.get(tensor.name.as_str())) else {
            continue;
        };
        if let Some(&outputs) = found.first()
            && outputs > 0
            && outputs % unit == 0
            && outputs / unit <= WIDEST
        {
            *votes.entry(outputs / unit).or_default() += 1;
        }
    }
    let Some((&width, _)) = votes.iter().max_by_key(|(_, count)| **count) else {
        return Err(Error::input("no tensor has a shape that tells the network's width"));
    };
    let first = reference.first().and_then(|tensor| shapes.get(tensor.name.as_str()));
    let one_channel = matches!(first, Some([_, 1, ..]));
    let architecture = Architecture { width, channels: if one_channel { 1 } else { 3 }, ..unit };
    Ok(Architecture { classes: classes(&shapes, &architecture), ..architecture })
}

/// How many tensors of the network that is nearest to a list of names are in it, and how many the network has; batch
/// counts, which may be absent, in neither.
pub fn completeness(has: impl Fn(&str) -> bool) -> (usize, usize) {
    let counts = NetworkKind::ALL.map(|network| {
        let unit = Architecture { network, width: 1, classes: 1, channels: 3 };
        let mut tensors = unit.tensors();
        tensors.retain(|tensor| tensor.role != TensorRole::BatchCount);
        (tensors.iter().filter(|tensor| has(&tensor.name)).count(), tensors.len())
    });
    counts.into_iter().max_by_key(|(known, all)| (*known, std::cmp::Reverse(*all))).unwrap_or_default()
}

/// A network, and how near its names are to a file's.
struct CandidateNetwork {
    unit: Architecture,
    reference: Vec<TensorSpec>,
    /// Names that both have.
    known: usize,
}

impl CandidateNetwork {
    fn new(network: NetworkKind, shapes: &HashMap<&str, &[usize]>) -> Self {
        let unit = Architecture { network, width: 1, classes: 1, channels: 3 };
        let reference = unit.tensors();
        let known = reference.iter().filter(|tensor| shapes.contains_key(tensor.name.as_str())).count();
        Self { unit, reference, known }
    }
}

/// Outputs of the linear layer; 1 where nothing tells, and then both tensors are missing or wrong.
fn classes(shapes: &HashMap<&str, &[usize]>, architecture: &Architecture) -> usize {
    let (features, head) = (architecture.features(), architecture.network.classifier());
    let shape = |part: &str| shapes.get(format!("{head}.{part}").as_str());
    match (shape("bias"), shape("weight")) {
        (Some([classes]), _) => *classes,
        (_, Some([inputs, classes])) if *inputs == features && *classes != features => *classes,
        (_, Some([classes, _])) => *classes,
        _ => 1,
    }
    .max(1)
}

fn unknown(
    nearest: NetworkKind,
    known: usize,
    reference: &[TensorSpec],
    shapes: &HashMap<&str, &[usize]>,
) -> String {
    let names = NetworkKind::ALL.map(NetworkKind::name).join(", ");
    let is_known = |name: &str| reference.iter().any(|tensor| tensor.name == name);
    let mut others: Vec<String> =
        shapes.keys().filter(|name| !is_known(name)).map(|&name| name.into()).collect();
    others.sort_unstable();
    let others =
        if others.is_empty() { others } else { vec![format!("; not part of it: {}", list(&others))] };
    format!(
        "none of the networks pbe knows ({names}): of the {} tensors of the nearest, {}, {known} are among the \
         file's {}{}",
        reference.len(),
        nearest.name(),
        shapes.len(),
        others.concat()
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
            for network in NetworkKind::ALL {
                let architecture = Architecture { network, width, classes, channels };
                assert_eq!(infer_specs(&architecture.tensors()).unwrap(), architecture);
            }
        }
    }

    #[test]
    fn one_wrong_tensor_does_not_change_the_rest() {
        for network in NetworkKind::ALL {
            let architecture = Architecture { network, width: 4, classes: 10, channels: 3 };
            let (head, all) = (network.classifier(), architecture.tensors());
            let find = |dimensions: usize| {
                let found = all.iter().skip(3).find(|tensor| tensor.shape.len() == dimensions);
                found.unwrap().name.clone()
            };
            for (name, shape) in [
                (all[0].name.clone(), vec![3, 3, 3, 4]),
                (format!("{head}.weight"), vec![architecture.features(), 10]),
                (format!("{head}.bias"), vec![10, 1]),
                (find(1), vec![]),
                (find(4), vec![0, 0]),
            ] {
                let mut specs = architecture.tensors();
                specs.iter_mut().find(|spec| spec.name == name).unwrap().shape = shape;
                assert_eq!(infer_specs(&specs).unwrap(), architecture, "{name}");
                specs.retain(|spec| spec.name != name);
                assert_eq!(infer_specs(&specs).unwrap(), architecture, "without {name}");
            }
        }
    }

    #[test]
    fn other_networks_are_refused() {
        let names =
            ["conv1.weight", "layer2.0.downsample.0.weight", "fc.weight", "norm.scale", "layer9.bias"];
        let error = infer(names.iter().map(|name| (*name, &[1usize][..]))).unwrap_err().to_string();
        assert!(error.contains("the nearest, resnet18, 3 are among the file's 5"), "{error}");
        assert!(error.ends_with("not part of it: layer9.bias, norm.scale"), "{error}");
        assert!(infer([]).unwrap_err().to_string().contains("0 are among the file's 0"));
    }
}
