# Runs stages, in order or beside others, and tells how long each took.

LOGS=$(mktemp -d "${TMPDIR:-/tmp}/leasehold-ci.XXXXXX")
TIMES=${LEASEHOLD_CI_TIMES:-$LOGS/times}
LANE=${LEASEHOLD_CI_LANE:-}
declare -A LANES=()

# Runs a stage, a function of this script, and stops everything if it fails.
run() {
  local began=$SECONDS status=0
  all_well
  echo "== $1"
  set +e
  (
    set -e
    "$1"
  )
  status=$?
  set -e
  echo "$1 $((SECONDS - began)) $status ${LANE:--}" >>"$TIMES"
  echo "== $1 took $((SECONDS - began)) s"
  [ $status = 0 ] || {
    echo "== $1 failed"
    exit $status
  }
}

# Runs stages beside what follows, one after another. The kernel gives them only what nobody else wants, so that the tests
# keep their times.
beside() {
  local lane=$1
  shift
  LEASEHOLD_CI_LANE=$lane LEASEHOLD_CI_TIMES=$TIMES last_in_line bash .ci/run "$@" >"$LOGS/$lane" 2>&1 &
  LANES[$lane]=$!
  echo "== beside what follows: $*"
}

# In a group of its own, which can be ended as a whole.
last_in_line() {
  if command -v chrt >/dev/null; then exec setsid chrt --idle 0 "$@"; else exec nice -n 19 "$@"; fi
}

# Waits for lanes, and shows what they said.
joined() {
  local lane status
  for lane in "$@"; do
    status=0
    wait "${LANES[$lane]}" || status=$?
    unset "LANES[$lane]"
    echo "== what ran beside: $lane"
    cat "$LOGS/$lane"
    [ $status = 0 ] || exit $status
  done
}

# Whether a lane has failed already: its words are worth more than what would still be tried.
all_well() {
  local lane
  for lane in "${!LANES[@]}"; do
    ! { ! kill -0 "${LANES[$lane]}" 2>/dev/null && grep -q " [1-9][0-9]* $lane\$" "$TIMES"; } || joined "$lane"
  done
}

# At the end, however it came: ends the lanes that still run, and shows the table.
table() {
  local status=$? lane
  trap - EXIT
  for lane in "${!LANES[@]}"; do
    kill -- "-${LANES[$lane]}" 2>/dev/null || kill "${LANES[$lane]}" 2>/dev/null || true
    echo "== $lane was not waited for; what it said:"
    tail -n 30 "$LOGS/$lane"
  done
  if [ -z "$LANE" ]; then
    echo
    awk '
      BEGIN { printf "%-28s %7s  %s\n", "stage", "seconds", "" }
      { printf "%-28s %7d  %s%s\n", $1, $2, $4 == "-" ? "" : "beside the others", $3 == 0 ? "" : "  FAILED" }' "$TIMES"
    echo "== $([ $status = 0 ] && echo passed || echo FAILED) in $SECONDS s"
  fi
  rm -rf "$LOGS"
  exit $status
}
trap table EXIT
# Without these, a run that is ended would report the status of the command before.
trap 'exit 143' TERM
trap 'exit 130' INT
touch "$TIMES"
