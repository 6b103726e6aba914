//! The real program, through its commands.

mod attacks;
mod bad_data;
mod bad_models;
mod bad_settings;
mod commands;
mod program;
mod repeatable;
