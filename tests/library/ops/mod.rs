//! Every op on the CPU device against the f64 reference, over random shapes.

mod attack;
mod case;
mod conv;
mod generator;
mod head;
mod norm;
mod pooling;
mod refusals;
