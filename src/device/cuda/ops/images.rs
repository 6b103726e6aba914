//! Images: loading, random erasing, and the attack's start and step on them.

use crate::device::Norm;
use crate::device::cuda::kernels::{Kernel, LoadImagesArgs, PgdStartArgs, PgdStepArgs, RandomErasingArgs};
use crate::device::cuda::plan::{Buffer, Grid, ImageSetSize, LaunchBuilder, Lowered};
use crate::device::ops;

/// Pixels of a block of `random_erasing`: `PATCH_BLOCK` in kernels/augment.cu.
pub(super) const PATCH_BLOCK: usize = 512;

pub(super) fn load_images(to: &mut LaunchBuilder, op: &ops::LoadImages) -> Lowered {
    let &ops::LoadImages { images, indices, height, width, channels, augment, output } = op;
    let elements = height * width * channels;
    let arguments = LoadImagesArgs {
        images: to.buffer(Buffer::Images(images), to.images(elements)),
        indices: to.at(indices),
        output: to.at(output),
        set: ImageSetSize::Images(images),
        height,
        width,
        from: ImageSetSize::Channels(images),
        channels,
        pad: augment.pad,
        flip: augment.flip,
        run: to.scalars(),
    };
    to.launch(Kernel::LoadImages, to.vec4_grid(elements), arguments)
}

pub(super) fn random_erasing(to: &mut LaunchBuilder, op: &ops::RandomErasing) -> Lowered {
    let &ops::RandomErasing { indices, height, width, channels, images } = op;
    if !to.switches.patches {
        return Ok(());
    }
    let (indices, images) = (to.at(indices), to.at(images));
    let arguments = RandomErasingArgs { indices, images, height, width, channels, run: to.scalars() };
    let blocks = (height * width).div_ceil(PATCH_BLOCK);
    to.launch(Kernel::RandomErasing, Grid::Blocks(to.count, blocks), arguments)
}

pub(super) fn pgd_start(to: &mut LaunchBuilder, op: &ops::PgdStart) -> Lowered {
    let &ops::PgdStart { elements, clean, indices, epsilon, norm, adversarial } = op;
    let arguments = PgdStartArgs {
        clean: to.at(clean),
        indices: to.at(indices),
        epsilons: to.at(epsilon),
        adversarial: to.at(adversarial),
        elements,
        l2: norm == Norm::L2,
        run: to.scalars(),
    };
    // In L2 a block sums an image's squares.
    let grid = if norm == Norm::L2 { Grid::Blocks(to.count, 1) } else { to.vec4_grid(elements) };
    to.launch(Kernel::PgdStart, grid, arguments)
}

pub(super) fn pgd_step(to: &mut LaunchBuilder, op: &ops::PgdStep) -> Lowered {
    let &ops::PgdStep { elements, clean, gradient, epsilon, alpha, norm, adversarial } = op;
    let (kernel, grid) = match norm {
        Norm::Linf => (Kernel::PgdStepLinf, to.vec4_grid(elements)),
        Norm::L2 => (Kernel::PgdStepL2, Grid::Blocks(to.count, 1)),
    };
    let arguments = PgdStepArgs {
        clean: to.at(clean),
        gradient: to.at(gradient),
        epsilons: to.at(epsilon),
        alphas: to.at(alpha),
        adversarial: to.at(adversarial),
        elements,
        run: to.scalars(),
    };
    to.launch(kernel, grid, arguments)
}
