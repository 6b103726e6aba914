//! Decoded instructions over register files.
