# `bash .ci/run full`: what `.ci/run` leaves out, in parts of half an hour at most. A part whose inputs are what they were
# when it last passed keeps that result, so a run that was stopped goes on where it was.

RESULTS=${CARGO_TARGET_DIR:-target}/ci/full
PARTS=(each properties search world sameness old_bugs_of_findings old_bugs_of_before mutants_of_schedule mutants_of_answers
  mutants_of_holding mutants_of_old mutants_of_classify msrv soak long on_containers_suites on_containers_sqlx
  on_containers_deadpool on_containers_bb8 on_containers_diesel on_containers_examples on_containers_testbed
  newer_servers_trixie newer_servers_sid newer_servers_openbao newer_servers_mysql nodes)
PART_SECONDS=1800

full() {
  local part
  [ $# -gt 0 ] || set -- "${PARTS[@]}"
  mkdir -p "$RESULTS"
  run libmariadb
  run binary
  run build
  run images
  for part in "$@"; do
    [[ " ${PARTS[*]} " == *" $part "* ]] || { echo "there is no part $part; there are: ${PARTS[*]}"; exit 2; }
    part "$part"
  done
  echo
  echo "part                        seconds  cases  passed on"
  for part in "$@"; do
    awk '{ printf "%-26s %8d %6d  %s\n", part, $2, $3, $4 }' part="$part" "$RESULTS/$part"
  done
  echo "== parts: $# passed, 0 failed; cases: $(cat "${@/#/$RESULTS/}" | awk '{ sum += $3 } END { print sum }')"
}

# Runs a part, unless it passed with these very inputs.
part() {
  local inputs began=$SECONDS status=0 log=$LOGS/$1
  inputs=$(inputs_of "$1")
  if [ -e "$RESULTS/$1" ] && [ "$(cut -d' ' -f1 "$RESULTS/$1")" = "$inputs" ]; then
    echo "== $1 passed before, with the same inputs"
    return
  fi
  rm -f "$RESULTS/$1"
  LEASEHOLD_CI_LANE=full LEASEHOLD_CI_TIMES=$TIMES timeout "$PART_SECONDS" bash .ci/run "$1" 2>&1 | tee "$log" || status=$?
  [ $status != 124 ] || echo "== $1 took more than $PART_SECONDS s: it needs to be divided"
  [ $status = 0 ] || exit $status
  echo "$inputs $((SECONDS - began)) $(cases "$log") $(date --utc +%FT%TZ)" >"$RESULTS/$1"
}

# How many cases nextest ran, over all of its runs.
cases() { sed -n 's/.*Summary .* \([0-9][0-9]*\) tests* run.*/\1/p' "$1" | awk '{ sum += $1 } END { print sum + 0 }'; }

# A part's name, the compiler, how it is run, and the content of the packages that it tests and of all that these depend on.
inputs_of() {
  local packages
  packages=$(packages_of "$1")
  {
    echo "$1"
    rustc --version
    cargo nextest --version 2>/dev/null || true
    # shellcheck disable=SC2046
    contents Cargo.toml Cargo.lock .cargo .ci .config $(for package in $packages; do folders "$package"; done)
    # Its images too: their servers are what it tests.
    case $1 in on_containers* | newer_servers*) docker image ls --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}' 2>/dev/null | grep -v template | sort ;; esac
  } | sha256sum | cut -c1-16
}

contents() { git ls-files -z --cached --others --exclude-standard -- "$@" | sort -zu | xargs -0 sha256sum 2>/dev/null; }

# Where a package is, and whatever of the workspace it depends on.
folders() {
  cargo tree --locked --package "$1" --prefix none --format '{p}' | sed -n "s|.*($PWD/\([^)]*\)).*|\1|p" | sort -u
}

workspace() { names crates/*/Cargo.toml examples/*/Cargo.toml integration/*/Cargo.toml; }

# The name of each manifest's package, which comes before those of its examples and tests.
names() { sed -s -n '/^\[package\]/,/^\[/s/^name = "\(.*\)"/\1/p' "$@"; }

# The packages that a part tests.
packages_of() {
  case $1 in
    properties) echo leasehold-renewal leasehold-vault ;;
    search) echo leasehold-renewal ;;
    world | sameness | old_bugs_*) echo leasehold-world ;;
    mutants_*) echo leasehold-renewal leasehold-vault ;;
    on_containers_suites) echo leasehold-suites ;;
    on_containers_testbed) echo leasehold-testbed ;;
    newer_servers_mysql) echo leasehold-testbed kubernetes-mysql ;;
    newer_servers_* | nodes) echo leasehold-testbed ;;
    on_containers_examples) names examples/*/Cargo.toml ;;
    on_containers_*) echo "leasehold-${1#on_containers_}" ;;
    *) workspace ;;
  esac
}

# Every package by itself, with its default features and its tests, as somebody compiles it who works on it alone.
each() {
  local package
  for package in $(workspace); do
    cargo clippy --locked --package "$package" --all-targets -- --deny warnings
  done
}

# The properties with a hundred times as many cases as proptest tries by default.
properties() {
  # shellcheck disable=SC2046
  PROPTEST_CASES=25600 cargo nextest run $(everything) -E 'package(leasehold-renewal) + package(leasehold-vault) & kind(lib)'
}

# A million states of the keeper's machine and more, each with every event that can happen in it.
search() { LEASEHOLD_LONG=1 cargo test --release --locked --package leasehold-renewal --lib search -- --nocapture; }

# A hundred simulated years, from seeds that the commit chooses: new ones each time.
world() {
  cargo testbed simulate --years 100 --from-seed $((16#$(git rev-parse HEAD | cut -c1-8))) --threads "$(nproc)" --json
}

# Two hundred worlds, twice: in one thread and in several, in two processes. All traces are one number of what is compared.
sameness() {
  local first second
  first=$(cargo testbed simulate --worlds 200 --threads 1 --json)
  second=$(cargo testbed simulate --worlds 200 --threads "$(nproc)" --json)
  [ "$first" = "$second" ] || { echo "two runs of the same worlds differ"; printf '%s\n' "$first" "$second"; exit 1; }
}

# Each small change to the keeper's machine and to `classify` that compiles: a case must fail, or the part fails and names the
# change that no case finds.
mutants_of_schedule() { mutants schedule machine/schedule budget rejections; }
mutants_of_answers() { mutants answers machine/answers machine/starting machine/event; }
mutants_of_holding() { mutants holding machine machine/holding machine/news; }
mutants_of_old() { mutants old machine/old machine/ending machine/pace machine/reasons machine/crowd; }
mutants_of_classify() { mutants classify classify; }

mutants() {
  local files=() name every
  for name in "${@:2}"; do files+=(--file "crates/*/src/$name.rs"); done
  installed cargo-mutants "$MUTANTS_VERSION"
  # One job: two would build everything twice. A seed of their own, so that a mutant is found always or never.
  every=("$(where_is cargo-mutants)" mutants "${files[@]}" --output "$RESULTS/mutants_of_$1" --baseline=skip --no-shuffle --colors never)
  export PROPTEST_RNG_SEED=1
  # Most are found by cases that take a second. For the others the search tries every state, and the keeper itself runs.
  PROPTEST_CASES=64 "${every[@]}" --timeout 30 --cargo-arg=--lib -- -- --skip search || [ $? -lt 4 ]
  "${every[@]}" --timeout 120 --iterate
}

# Old bugs, put back one at a time: the world finds each within a minute. What was found keeps its result.
old_bugs_of_findings() { integration/world/mutants/run.sh $(old_bugs 'A*' 'K*' 'R*' 'W*'); }
old_bugs_of_before() { integration/world/mutants/run.sh $(old_bugs 'M*'); }
old_bugs() { (cd integration/world/mutants && ls -- ${@/%/.patch} 2>/dev/null | sed 's/\.patch$//'); }

# What each crate declares as its rust-version, where those toolchains are.
msrv() {
  at 1.88 -p leasehold-core -p leasehold-renewal -p leasehold-auth -p leasehold-secrets -p leasehold-vault
  at 1.88 --all-features -p leasehold-bb8 -p leasehold-deadpool
  at 1.88 -p leasehold-diesel
  at 1.89 -p leasehold-testbed
  at 1.94 --all-features -p leasehold-sqlx
}

at() {
  if cargo "+$1" --version >/dev/null 2>&1; then
    cargo "+$1" check --locked "${@:2}"
  else
    echo "Rust $1 is not here: not checked with it: ${*:2}"
  fi
}

# The main job for ten minutes: forty users and twenty tokens come and go.
soak() { cargo testbed demo --seconds 600 --json; }

# Cases that take minutes, which they skip unless they are asked for.
long() { LEASEHOLD_LONG=1 cargo testbed test --no-doc -E 'package(leasehold-suites) & test(/^login_lapses::/)'; }

# Every newer server that the testbed can have, where `.ci/run` has one in turn.
newer_servers_trixie() { newer "${NEWER_OF_TRIXIE[@]}"; }
newer_servers_sid() { newer "${NEWER_OF_SID[@]}"; }
newer_servers_openbao() { newer "${NEWER_OPENBAO[@]}"; }

# MySQL, which Debian 12 does not have: its own suite, with Valkey beside processes, and the tutorials' pipeline with TLS, which
# nothing else is compiled with.
newer_servers_mysql() {
  local before
  has_engine || return 0
  newer_images mysql_9_7 valkey_9_1
  before=$(what_is_there)
  cargo testbed test --launcher processes --no-doc \
    -E 'package(leasehold-testbed) & (binary(mysql) + binary(lifetime) & test(containers_beside_processes))'
  cargo test --locked --package kubernetes-mysql --features tls --test pipeline mysql
  nothing_is_left_but "$before"
}

# Nodes of OpenBao that go and come back, as processes; `on_containers_testbed` has them as containers.
nodes() { cargo testbed test --launcher processes --no-doc -E "$NODES"; }

on_containers_suites() { on_containers 'package(leasehold-suites)'; }
on_containers_sqlx() { on_containers 'package(leasehold-sqlx)'; }
on_containers_deadpool() { on_containers 'package(leasehold-deadpool)'; }
on_containers_bb8() { on_containers 'package(leasehold-bb8)'; }
on_containers_diesel() { on_containers 'package(leasehold-diesel)'; }
on_containers_testbed() { on_containers 'package(leasehold-testbed)'; }
on_containers_examples() {
  # shellcheck disable=SC2046
  on_containers "$(printf 'package(%s) + ' $(packages_of on_containers_examples) | sed 's/ + $//')"
}

# Cases as they are, with servers in containers; nothing of those is left behind.
on_containers() {
  local before
  has_engine || return 0
  before=$(what_is_there)
  cargo testbed test --launcher containers --no-doc -E "$1"
  nothing_is_left_but "$before"
}
