//! The library: data, engine, devices, self-test. One program, since each costs seconds to build and link.

mod api;
mod data;
mod docs;
mod floors;
mod generators;
mod golden;
mod layers;
mod memory;
mod misuse;
mod ops;
mod selftest;
mod theorem;
