//! Networks of the same names that end in another pooling.

use crate::data::Normalisation;
use crate::engine::graph::Layer;
use crate::error::Result;
use crate::model::{Architecture, NetworkKind, Weights};

/// Side of the window of kuangliu's last pooling, `avg_pool2d(4)`.
const WINDOW: usize = 4;

/// Why images of this size can't be fed to a model whose file doesn't say how it ends: networks with the key names of
/// kuangliu/pytorch-cifar end in the mean over the whole map (BackdoorBench's) or over its first 4x4 pixels (kuangliu's,
/// WaNet's, BackdoorBox's). For maps of 4x4 that is the same; a larger one than 7x7 would need a wider linear layer.
pub fn ambiguity(weights: &Weights, height: usize, width: usize) -> Result<Option<String>> {
    let Architecture { network, channels, .. } = weights.architecture;
    let kuangliu = matches!(
        network,
        NetworkKind::PreActResNet18 | NetworkKind::PreActResNet34 | NetworkKind::ResNet18SmallStem
    );
    let graph = weights.architecture.graph(&Normalisation::identity(channels), height, width)?;
    let pool = graph.nodes.iter().find(|node| matches!(node.layer, Layer::Pool));
    let Some(map) = pool.map(|pool| &graph.nodes[pool.inputs[0]]).filter(|_| kuangliu) else {
        return Ok(None);
    };
    let covers = |side: usize| (WINDOW..2 * WINDOW).contains(&side);
    let sizes = (map.height, map.width);
    let differs = covers(sizes.0) && covers(sizes.1) && sizes != (WINDOW, WINDOW);
    Ok(differs.then(|| {
        format!(
            "images of {height}x{width} leave a map of {}x{}, of which networks with these key names average all \
             (BackdoorBench's) or the first 4x4 pixels (kuangliu's, WaNet's, BackdoorBox's), and the file doesn't say \
             which: --size 32 (purify: --set data.size=32) makes both the same; if it averages all, `pbe convert` \
             writes a file that says so",
            sizes.0, sizes.1
        )
    }))
}
