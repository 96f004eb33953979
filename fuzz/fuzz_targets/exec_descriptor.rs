#![no_main]
//! Any bytes in a spool: a job, or at least one error that names a place inside the file.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Err(errors) = exec::spec::parse(data, "dropped.toml") {
        assert!(!errors.is_empty());
        let text = exec::spec::render_errors("dropped.toml", &errors, "mv");
        assert!(!text.is_empty());
    }
});
