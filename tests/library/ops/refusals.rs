//! Programs that must not run, and what is said about them.

use super::case::refusal;
use pbe::device::ops;
use pbe::device::{ImageSlot, Op, PoolShape, Prologue, Region, Span};
use pbe::selftest::case::Case;

fn pool(case: &mut Case) -> (Span, Span) {
    (case.image(12), case.image(4))
}

fn refused(case: &Case, parts: &[&str]) {
    let message = refusal(case);
    assert!(parts.iter().all(|part| message.contains(part)), "{message:?} lacks {parts:?}");
}

#[test]
fn spans_that_overlap() {
    let mut case = Case::new(2, 0, 1);
    let (input, output) = pool(&mut case);
    // The second image's output row is the last image's input.
    let output = Span { offset: input.offset + 20, ..output };
    case.ops = vec![Op::Copy(ops::Copy {
        elements: 4,
        input: Span { len: 4, ..input },
        output: Span { len: 4, ..input },
    })];
    refused(&case, &["op 0 (Copy)", "output overlaps input"]);
    case.ops = vec![Op::GlobalAvgPool(ops::GlobalAvgPool { pixels: 3, channels: 4, input, output })];
    refused(&case, &["op 0 (GlobalAvgPool)", "output overlaps input"]);
}

#[test]
fn in_place_only_on_the_very_same_span() {
    let mut case = Case::new(2, 0, 1);
    let [input, gradient] = [case.image(12), case.image(12)];
    let [gamma, mean, inverse_std] = [0; 3].map(|_| case.whole(Region::Derived, 4));
    let affine = case.affine(4);
    let [gamma_gradient, beta_gradient] = [0; 2].map(|_| case.whole(Region::Gradients, 4));
    let dgrad = |output| {
        Op::BatchNormDgrad(ops::BatchNormDgrad {
            pixels: 3,
            channels: 4,
            input,
            gamma,
            mean,
            inverse_std,
            relu: Some(affine),
            gradient,
            residual: None,
            output,
            gamma_gradient,
            beta_gradient,
        })
    };
    case.ops = vec![dgrad(gradient)];
    assert_eq!(refusal(&case), "");
    case.ops = vec![dgrad(Span { offset: gradient.offset - 1, ..gradient })];
    refused(&case, &["op 0 (BatchNormDgrad)", "output overlaps"]);
    case.ops = vec![dgrad(input)];
    refused(&case, &["op 0 (BatchNormDgrad)", "output overlaps input"]);
}

#[test]
fn spans_of_the_wrong_size_or_place() {
    let mut case = Case::new(2, 0, 1);
    let (input, output) = pool(&mut case);
    let weights = case.whole(Region::Weights, 12);
    let pool =
        |input, output| vec![Op::GlobalAvgPool(ops::GlobalAvgPool { pixels: 3, channels: 4, input, output })];
    case.ops = pool(Span { len: 11, ..input }, output);
    refused(&case, &["op 0 (GlobalAvgPool)", "input: 11 elements, not 12"]);
    case.ops = pool(weights, output);
    refused(&case, &["input", "Weights"]);
    case.ops = pool(input, Span { offset: usize::MAX - 2, ..output });
    refused(&case, &["output", "outside Arena"]);
    case.ops = pool(input, Span { offset: output.offset + 4, ..output });
    refused(&case, &["output", "outside Arena"]);
}

#[test]
fn windows_without_a_pixel() {
    let mut case = Case::new(2, 0, 1);
    let (input, output) = pool(&mut case);
    let good = PoolShape { height: 2, width: 2, channels: 3, kernel: 2, stride: 2, pad: 0 };
    for shape in [
        PoolShape { pad: 2, ..good },
        PoolShape { kernel: 3, ..good },
        PoolShape { stride: 0, ..good },
        PoolShape { kernel: 16, pad: 8, ..good },
    ] {
        let prologue = Prologue::default();
        case.ops = vec![Op::MaxPool(ops::MaxPool { shape, input, prologue, output, argmax: None })];
        refused(&case, &["op 0 (MaxPool)", "impossible shape"]);
    }
}

#[test]
fn workers_that_would_write_the_same() {
    let mut case = Case::new(4, 2, 1);
    let (input, output) = pool(&mut case);
    let gradients = case.whole(Region::Gradients, 4);
    let momentum = case.whole(Region::Momentum, 4);
    let weights = case.whole(Region::Weights, 4);
    case.ops = vec![Op::Sgd(ops::Sgd { weights, gradients, momentum })];
    refused(&case, &["weights: workers can't write Weights"]);
    // Row 1 of the output would be row 0 of the input.
    case.ops = vec![Op::GlobalAvgPool(ops::GlobalAvgPool {
        pixels: 3,
        channels: 4,
        input,
        output: Span { offset: input.offset + 44, ..output },
    })];
    refused(&case, &["rows"]);
}

#[test]
fn images_and_labels_that_are_not_there() {
    let mut case = Case::new(2, 1, 1);
    let indices = case.word(1);
    let augment = Default::default();
    let (height, width, channels) = (2, 2, 3);
    let output = case.image(12);
    case.ops = vec![Op::LoadImages(ops::LoadImages {
        images: ImageSlot(0),
        indices,
        height,
        width,
        channels,
        augment,
        output,
    })];
    refused(&case, &["no images attached"]);
    let labels = case.word(1);
    case.set_words(labels, vec![2, 4]);
    let (logits, loss) = (case.image(3), case.image(1));
    case.ops = vec![Op::CrossEntropy(ops::CrossEntropy {
        classes: 3,
        logits,
        labels,
        teacher: None,
        mean: false,
        loss,
        gradient: None,
    })];
    refused(&case, &["label 4 of 3 classes"]);
}
