//! Findings and counters as JSON.
