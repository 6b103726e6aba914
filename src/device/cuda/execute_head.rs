//! The classifier's end as one launch.

use super::execute::{Launched, Step, arguments};
use super::fuse::{Head, Loss, Then};
use super::launch::{Argument, Grid};

impl Step<'_> {
    pub(super) fn head(&self, head: &Head) -> Launched {
        let [input, weight, bias, features, logits] =
            [head.input, head.weight, head.bias, head.features, head.logits].map(|span| self.at(span));
        let (pixels, channels, classes) = (head.pixels, head.channels, head.classes);
        let grid = Grid::Blocks(self.count(), 1);
        let Then::Loss(loss) = head.then else {
            let (reference, score) = match head.then {
                Then::Score { reference, score } => (self.at(reference), self.at(score)),
                _ => (0, 0),
            };
            let list = arguments![
                input, weight, bias, features, logits, pixels, channels, classes, reference, score
            ];
            return self.launch("classifier_forward", grid, list);
        };
        let Loss { labels, teacher, mean, loss, gradient, back, output } = loss;
        let list = arguments![
            input,
            weight,
            bias,
            features,
            logits,
            pixels,
            channels,
            classes,
            self.at(labels),
            self.maybe(teacher.filter(|_| self.params.distill_weight != 0.0)),
            self.at(loss),
            self.maybe(gradient),
            self.maybe(back),
            self.stored(output),
            self.next_or_rounded(output),
            self.divisor(mean),
            self.scalars()
        ];
        self.launch("classifier_loss", grid, list)
    }
}
