//! The machine without anything that runs: worlds that a plan drives, and the table of its transitions.

mod checks;
mod facts;
mod plan;
mod properties;
mod search;
mod server;
mod stories;
mod transitions;
mod world;
