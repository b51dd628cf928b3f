# The stages of `.ci/run`, a function each. They share one target folder and one set of features, which
# `integration/everything` asks for; what is compiled for another set is only checked.

DENY_VERSION=0.20.2
MUTANTS_VERSION=27.1.0
# Outside the checkout, so that no clone compiles a tool again.
TOOLS=${LEASEHOLD_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/leasehold/tools}

fmt() { cargo fmt --all --check; }

# diesel's MySQL connections link it. Headers and a library: no service comes with them.
libmariadb() {
  has_libmariadb && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing libmariadb-dev with apt-get"
    local install=(apt-get -o DPkg::Lock::Timeout=300 install --yes --quiet --no-install-recommends libmariadb-dev pkg-config)
    export DEBIAN_FRONTEND=noninteractive
    { "${install[@]}" || { apt-get update --quiet && "${install[@]}"; }; } </dev/null >/dev/null 2>&1 || true
  fi
  has_libmariadb || echo "libmariadb's headers are not here: the feature mysql of leasehold-diesel is left out"
}

has_libmariadb() { pkg-config --exists libmariadb 2>/dev/null || pkg-config --exists mysqlclient 2>/dev/null; }

# The workspace, with what `cargo testbed test` adds to it.
everything() {
  echo --workspace --locked
  ! has_libmariadb || echo --features leasehold-diesel/mysql
}

# What builds images, as soon as it is there.
binary() { cargo build --bin leasehold-testbed --locked; }

build() {
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run $(everything) --no-run
  else
    cargo test $(everything) --all-targets --no-run
  fi
}

# Beside the tests: their own cargo looks at the target folder first, for some seconds, and nobody else can meanwhile.
tests_first() { sleep 20; }

clippy() { cargo clippy $(everything) --all-targets -- --deny warnings; }

docs() { RUSTDOCFLAGS="--deny warnings" cargo doc $(everything) --no-deps; }

# Each library with features that a user might pick and that no test is compiled with.
features() {
  check leasehold-core
  check leasehold-secrets
  check leasehold-vault --no-default-features --features rustls-no-provider
  if pkg-config --exists openssl 2>/dev/null; then
    check leasehold-vault --no-default-features --features native-tls
  else
    echo "OpenSSL's headers are not here: the feature native-tls is not checked"
  fi
  check leasehold-bb8 --no-default-features
  check leasehold-bb8
  for feature in "" postgres redis mysql diesel-async; do
    check leasehold-deadpool --no-default-features --features "$feature"
  done
  check leasehold-sqlx
  check leasehold-sqlx --no-default-features --features mysql
  check leasehold-diesel
  ! has_libmariadb || check leasehold-diesel --no-default-features --features mysql
}

check() { cargo clippy --locked --package "$@" -- --deny warnings; }

deny() { cargo_deny bans licenses sources; }

# Known vulnerabilities. Needs a network, and blocks nothing: not one of the stages that run by default.
advisories() { cargo_deny advisories; }

cargo_deny() {
  installed cargo-deny "$DENY_VERSION"
  "$(where_is cargo-deny)" --locked check "$@"
}

# Installs a tool, if it is not there. It is waited for once, and longer for a compiler that optimizes than for what it does.
installed() {
  [ ! -x "$(where_is "$1")" ] || return 0
  echo "installing $1 $2 into $TOOLS"
  CARGO_TARGET_DIR=$TOOLS/build CARGO_INCREMENTAL=0 cargo install "$1" --version "$2" --locked --root "$TOOLS" --quiet --debug
  rm -rf "$TOOLS/build"
}

where_is() { command -v "$1" || echo "$TOOLS/bin/$1"; }

# Minutes: nodes of OpenBao that go and come back, of which one case stays here; and servers beside those of Debian 12, which
# are a stage of their own. `bash .ci/run full` runs them.
NODES='binary(nodes) - test(=three_nodes_start_and_serve_credentials) + binary(nodes_lifetime)'
IN_FULL="$NODES + package(leasehold-testbed) & (binary(newer) + binary(mysql))"

# The README's own command; the doc tests are a stage of their own, so that each has its time.
tests() {
  local some=()
  ! cargo nextest --version >/dev/null 2>&1 || some=(-E "not ($IN_FULL)")
  cargo testbed test --no-doc "${some[@]}"
}

doctests() { cargo test --doc $(everything); }

demo() { cargo testbed demo --seconds 60 --json; }

has_engine() {
  docker version >/dev/null 2>&1 && return
  echo "no container engine answers: nothing is done with containers"
  return 1
}

# What is neither here nor can be pulled. The binary itself: cargo would wait for whatever is being compiled.
images() { ! has_engine || "${CARGO_TARGET_DIR:-target}/debug/leasehold-testbed" images --if-missing; }

# What can fail on containers alone, as CONTRIBUTING.md explains. `bash .ci/run full` runs all the others there, too.
ON_CONTAINERS="package(leasehold-testbed) & kind(test) - ($IN_FULL)"'
  + package(leasehold-suites) & test(/^(cluster|main_job|mariadb|outage)::|a_database_that|a_brokers_users/)
  + package(leasehold-sqlx) & test(/^(mariadb|postgres)::(under_openbao|restarted_during_rotation)$/)
  + package(leasehold-deadpool) & binary(redis) & test(/^(under_openbao|restarted_during_rotation)$/)'

containers() {
  has_engine || return 0
  cargo testbed doctor
  local before some=()
  before=$(what_is_there)
  ! cargo nextest --version >/dev/null 2>&1 || some=(-E "$ON_CONTAINERS")
  cargo testbed test --launcher containers --no-doc "${some[@]}"
  cargo testbed demo --launcher containers --seconds 20 --json
  nothing_is_left_but "$before"
}

# Newer servers, by the cases of the testbed's suite `newer`.
NEWER_OF_TRIXIE=(postgres_17 mariadb_11_8 redis_8_0 valkey_8_1 rabbitmq_4_0)
NEWER_OF_SID=(postgres_18 mysql_9_7 valkey_9_1 rabbitmq_4_3)
NEWER_OPENBAO=(openbao_2_6_1 openbao_2_6_2 openbao_2_7_0 openbao_2_7_1 openbao_2_7_2)

# One of them, which the commit chooses: each has its turn.
newer_server() { newer "$(newer_in_turn)"; }
newer_server_image() { newer_images "$(newer_in_turn)"; }

newer_in_turn() {
  local all=("${NEWER_OF_TRIXIE[@]}" "${NEWER_OF_SID[@]}" "${NEWER_OPENBAO[@]}")
  echo "${all[$((16#$(git rev-parse HEAD | cut -c1-6) % ${#all[@]}))]}"
}

# The cases of these servers, which skip a server without an image: so that is built first.
newer() {
  has_engine || return 0
  local before
  newer_images "$@"
  before=$(what_is_there)
  cargo testbed test --launcher processes --no-doc \
    -E "package(leasehold-testbed) & binary(newer) & ($(printf 'test(=%s) + ' "$@" | sed 's/ + $//'))"
  nothing_is_left_but "$before"
}

# What is there and current is not built again. OpenBao's releases are fetched by their cases.
newer_images() {
  local server
  has_engine || return 0
  for server in "$@"; do
    case " ${NEWER_OF_TRIXIE[*]} / ${NEWER_OF_SID[*]} " in
      *" $server "*/*) newer_image "$server" trixie ;;
      */*" $server "*) newer_image "$server" sid ;;
    esac
  done
}

# The binary itself: cargo would wait for whatever is being compiled.
newer_image() { "${CARGO_TARGET_DIR:-target}/debug/leasehold-testbed" images "${1%%_*}" --suite "$2"; }

# Containers whose test has ended go a moment later, so they are waited for.
nothing_is_left_but() {
  local tries
  for tries in $(seq 60); do
    if diff <(echo "$1") <(what_is_there) >/dev/null; then return; fi
    sleep 0.5
  done
  echo "something was left behind:"
  diff <(echo "$1") <(what_is_there)
}

what_is_there() {
  docker ps --all --format 'container {{.Names}} {{.Image}}' | sort
  docker volume ls --format 'volume {{.Name}}' | sort
  docker network ls --format 'network {{.Name}}' | sort
}
