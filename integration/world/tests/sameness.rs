//! The same seed in two processes gives the same trace, byte for byte.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

fn story(seed: u64) -> Vec<u8> {
    let seed = seed.to_string();
    let arguments = ["--seed", &seed, "--until", "600", "--trace"];
    let output = Command::new(env!("CARGO_BIN_EXE_leasehold-world")).args(arguments).output().unwrap();
    assert!(output.stdout.len() > 200, "a story has some lines: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn two_processes_tell_the_same_story() {
    for seed in 0..8 {
        assert!(story(seed) == story(seed), "seed {seed} is told in two ways");
    }
}
