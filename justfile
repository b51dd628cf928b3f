# The same commands as CI's. `just` alone lists them.

default:
    @just --list

# Everything that must hold before a change lands.
ci:
    bash .ci/run

# What CI leaves out, in parts that are resumed.
full *parts:
    bash .ci/run full {{parts}}

# Lints and tests of what differs from a commit, and of what depends on it.
changed *base:
    bash .ci/run changed {{base}}

# Format, lints, documentation, licences: no servers.
check:
    bash .ci/run fmt clippy features docs deny

# Every test, on real servers. `just test -E 'test(outage)'` for some.
test *arguments:
    cargo testbed test {{arguments}}

# What this machine has to run servers, and what it lacks.
doctor:
    cargo testbed doctor

# Unit and paused-clock tests only: no servers, seconds.
unit:
    cargo test --workspace --lib --exclude leasehold-testbed --exclude leasehold-suites
    cargo test --package leasehold-renewal

# The main job, with someone watching.
demo *arguments:
    cargo testbed demo {{arguments}}

# Servers until Ctrl-C.
up:
    cargo testbed up

# One crate: lints and tests.
crate name:
    cargo clippy --package {{name}} --all-targets -- --deny warnings
    cargo test --package {{name}}

# Known vulnerabilities; needs a network, and blocks nothing.
advisories:
    bash .ci/run advisories

# The oldest Rust that each crate promises; needs those toolchains.
msrv:
    bash .ci/run msrv

# The documentation, in a browser.
doc:
    cargo doc --workspace --no-deps --open
