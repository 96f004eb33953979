//! Exists to carry one dependency; see Cargo.toml.
