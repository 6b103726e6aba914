//! The paper's observations: where adversarial examples land, and what that tells about a model.

mod features;
mod inspect;
mod landing;
mod observe;
mod survey;
mod tsne;

pub use features::{features, mean_distance};
pub use inspect::{Inspection, THRESHOLD, Verdict, judge};
pub use landing::Landing;
pub use observe::{Observed, observe};
pub use survey::{Common, PASSES, Pass, Survey, survey};
pub use tsne::tsne;
