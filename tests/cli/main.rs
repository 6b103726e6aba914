//! The real program, through its commands.

mod attacks;
mod bad_data;
mod bad_models;
mod bad_settings;
mod bench_record;
mod checkpoints;
mod commands;
mod compare;
mod counters;
mod cuda_choice;
mod cuda_faults;
mod cuda_run;
mod defenses;
mod dynamic;
mod emulated;
mod faults;
mod folders;
mod inputs;
mod inspect;
mod networks;
mod observe;
mod profile;
mod program;
mod repeatable;
