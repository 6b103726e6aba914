//! Mistakes put into the program's own kernels, one at a time, in the PTX as it is loaded
//! (`PTX_EMULATOR_PATCHES`): `pbe selftest --device cuda` on the emulator notices every one, by the finding
//! that is meant for it or by a row that fails.
//!
//! An edit that no longer fits its kernel, after the PTX was built anew, is an error that says so;
//! `scripts/port_mutations.py` finds most of them their new places.

mod attack;
mod conv;
mod conv_operands;
#[allow(dead_code)]
#[path = "../cli/emulated.rs"]
mod emulated;
mod generator;
mod head;
mod linear;
mod loss;
mod mutation;
mod norm;
mod pooling;
#[allow(dead_code)]
#[path = "../cli/program.rs"]
mod program;
mod tensor;
mod tensor_next;
mod tensor_step;
mod tensor_sums;
mod tensor_wgrad;
mod update;

use std::collections::BTreeSet;

use mutation::Mutation;

/// The lists of all files.
fn all() -> impl Iterator<Item = &'static Mutation> {
    let lists = [
        conv_operands::MUTATIONS,
        conv::MUTATIONS,
        tensor::MUTATIONS,
        tensor_next::MUTATIONS,
        tensor_step::MUTATIONS,
        tensor_sums::MUTATIONS,
        tensor_wgrad::MUTATIONS,
        norm::MUTATIONS,
        pooling::MUTATIONS,
        pooling::MAX_POOL,
        pooling::SUM,
        linear::MUTATIONS,
        head::LINEAR,
        head::PIXELS,
        head::LOSS,
        head::SCORE,
        loss::CROSS_ENTROPY,
        loss::COSINE,
        attack::GATHER,
        attack::PATCHES,
        attack::PGD,
        generator::UPSAMPLE,
        generator::UNIT_TANH,
        update::SGD,
        update::SGD_FILTERS,
        update::FILTERS_AVERAGE,
        update::FILTERS,
        update::ADAM,
        update::MOVING_AVERAGE,
        update::COPY,
    ];
    lists.into_iter().flatten()
}

#[test]
fn every_kernel_and_every_kind_of_mistake_is_there() {
    let texts = std::fs::read_dir("kernels/ptx").unwrap();
    let texts = texts.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let names = |text: String| {
        let names = text.split(".entry ").skip(1).filter_map(|rest| rest.split_once('('));
        names.map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    };
    let kernels: BTreeSet<String> = texts.flat_map(names).collect();
    assert_eq!(all().map(|one| one.kernel.to_string()).collect::<BTreeSet<_>>(), kernels);
    let kinds: BTreeSet<String> = all().map(|one| format!("{:?}", one.mistake)).collect();
    assert_eq!(kinds.len(), mutation::MISTAKES, "{kinds:?}");
}
