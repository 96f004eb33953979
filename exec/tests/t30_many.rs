//! Hundreds of descriptors at once: brisk, and each exactly once.
#![cfg(test)]

#[path = "local/world.rs"]
mod world;

use std::time::{Duration, Instant};

use world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_drops() {
    let mut w = World::start(2).await;
    let count = 400;
    for n in 0..count {
        std::fs::write(w.user("tmp").join(format!("j{n}.toml")), "exec = \"/bin/true\"\n").unwrap();
    }
    let start = Instant::now();
    for n in 0..count {
        std::fs::rename(w.user("tmp").join(format!("j{n}.toml")), w.user("new").join(format!("j{n}.toml")))
            .unwrap();
    }
    let done = || w.names("done", "j").iter().filter(|n| !n.ends_with(".json")).count();
    while done() < count {
        assert!(start.elapsed() < Duration::from_secs(90), "{} of {count} after 90 s", done());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("{rate:.0} jobs/s");
    assert_eq!(w.names("failed", ""), Vec::<String>::new());
    assert_eq!(w.names("new", "j"), Vec::<String>::new());
    // Far below what it does alone on the machine: this is not a benchmark.
    assert!(rate > 12.0, "{rate:.1} jobs/s");
    w.stop().await;
}
