//! The engine floor: a network is a [`graph::Graph`], lowered by [`lower`] to flat programs over one
//! arena, run through [`Engine`].

pub mod arena;
pub mod graph;
