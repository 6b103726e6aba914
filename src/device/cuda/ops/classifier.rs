//! The classifier's end: pooling, linear layer, loss, score; op by op, or all of it in one launch.

use crate::device::cuda::kernels::{
    ClassifierForwardArgs, ClassifierLossArgs, CosineArgs, CrossEntropyArgs, GlobalAvgPoolArgs,
    GlobalAvgPoolDgradArgs, Kernel, LinearArgs, LinearDgradArgs, LinearWgradArgs,
};
use crate::device::cuda::plan::{AfterLogits, Classifier, Grid, LaunchBuilder, Lowered};
use crate::device::ops;

/// All of it, a block an image.
pub(super) fn fused(to: &mut LaunchBuilder, classifier: &Classifier) -> Lowered {
    let Classifier { pixels, channels, classes, input, weight, bias, features, logits, then } = *classifier;
    let [input, weight, bias, features, logits] =
        [input, weight, bias, features, logits].map(|span| to.at(span));
    let grid = Grid::Blocks(to.count, 1);
    let AfterLogits::Loss(loss) = then else {
        let (reference, score) = match then {
            AfterLogits::Score { reference, score } => (to.at(reference), to.at(score)),
            _ => (None, None),
        };
        let arguments = ClassifierForwardArgs {
            input,
            weight,
            bias,
            features,
            logits,
            pixels,
            channels,
            classes,
            reference,
            score,
        };
        return to.launch_products(Kernel::ClassifierForward, grid, arguments);
    };
    let arguments = ClassifierLossArgs {
        input,
        weight,
        bias,
        features,
        logits,
        pixels,
        channels,
        classes,
        labels: to.at(loss.labels),
        teacher: to.optional(loss.teacher.filter(|_| to.switches.distill)),
        loss: to.at(loss.loss),
        gradient: to.optional(loss.gradient),
        feature_gradient: to.optional(loss.feature_gradient),
        output: to.stored(loss.output),
        next: to.bf16_output(loss.output, pixels, channels),
        divisor: to.divisor(loss.mean),
        run: to.scalars(),
    };
    to.launch_products(Kernel::ClassifierLoss, grid, arguments)
}

pub(super) fn global_avg_pool(to: &mut LaunchBuilder, op: &ops::GlobalAvgPool) -> Lowered {
    let &ops::GlobalAvgPool { pixels, channels, input, output } = op;
    let total = to.images(channels);
    let arguments = GlobalAvgPoolArgs { input: to.at(input), output: to.at(output), total, pixels, channels };
    to.launch(Kernel::GlobalAvgPool, Grid::Items(total), arguments)
}

pub(super) fn global_avg_pool_dgrad(to: &mut LaunchBuilder, op: &ops::GlobalAvgPoolDgrad) -> Lowered {
    let &ops::GlobalAvgPoolDgrad { pixels, channels, gradient, output } = op;
    let total = to.images(pixels * channels);
    let (gradient, output) = (to.at(gradient), to.at(output));
    let arguments = GlobalAvgPoolDgradArgs { gradient, output, total, pixels, channels };
    to.launch(Kernel::GlobalAvgPoolDgrad, Grid::Items(total), arguments)
}

pub(super) fn linear(to: &mut LaunchBuilder, op: &ops::Linear) -> Lowered {
    let &ops::Linear { inputs, outputs, weight, bias, input, output } = op;
    let total = to.images(outputs);
    let (weight, bias, input, output) = (to.at(weight), to.at(bias), to.at(input), to.at(output));
    let arguments = LinearArgs { weight, bias, input, output, total, inputs, outputs };
    to.launch_products(Kernel::Linear, Grid::Items(total), arguments)
}

pub(super) fn linear_dgrad(to: &mut LaunchBuilder, op: &ops::LinearDgrad) -> Lowered {
    let &ops::LinearDgrad { inputs, outputs, weight, gradient, output } = op;
    let total = to.images(inputs);
    let (weight, gradient, output) = (to.at(weight), to.at(gradient), to.at(output));
    let arguments = LinearDgradArgs { weight, gradient, output, total, inputs, outputs };
    to.launch_products(Kernel::LinearDgrad, Grid::Items(total), arguments)
}

pub(super) fn linear_wgrad(to: &mut LaunchBuilder, op: &ops::LinearWgrad) -> Lowered {
    let &ops::LinearWgrad { inputs, outputs, input, gradient, weight_gradient, bias_gradient } = op;
    let total = outputs * (inputs + 1);
    let arguments = LinearWgradArgs {
        input: to.at(input),
        gradient: to.at(gradient),
        weight_gradient: to.at(weight_gradient),
        bias_gradient: to.at(bias_gradient),
        total,
        images: to.count,
        inputs,
        outputs,
    };
    to.launch_products(Kernel::LinearWgrad, Grid::Items(total), arguments)
}

pub(super) fn cross_entropy(to: &mut LaunchBuilder, op: &ops::CrossEntropy) -> Lowered {
    let &ops::CrossEntropy { classes, logits, labels, teacher, mean, loss, gradient } = op;
    let arguments = CrossEntropyArgs {
        logits: to.at(logits),
        labels: to.at(labels),
        teacher: to.optional(teacher.filter(|_| to.switches.distill)),
        loss: to.at(loss),
        gradient: to.optional(gradient),
        images: to.count,
        classes,
        divisor: to.divisor(mean),
        run: to.scalars(),
    };
    to.launch(Kernel::CrossEntropy, Grid::Items(to.count), arguments)
}

pub(super) fn cosine_similarity(to: &mut LaunchBuilder, op: &ops::CosineSimilarity) -> Lowered {
    let &ops::CosineSimilarity { classes, logits, reference, score } = op;
    let (logits, reference, score) = (to.at(logits), to.at(reference), to.at(score));
    let arguments = CosineArgs { logits, reference, score, images: to.count, classes };
    to.launch(Kernel::Cosine, Grid::Items(to.count), arguments)
}
