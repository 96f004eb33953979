//! The supervisor as a program of its own, for tests; `xtfs __supervise` is the same.

fn main() {
    std::process::exit(exec::supervisor::main());
}
