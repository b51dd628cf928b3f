# The parent of one server, and the only one that signals it. Arguments: the folder's template, then the
# server's command line. Orders come on stdin; end of file means that whoever gave them is gone.
# The signal that ends the server is $STOP_SIGNAL.
dir=$(mktemp -d "$1") || exit 1
shift
pid=
frozen=
# PIPE: an answer nobody reads any more must not end the one that cleans up.
trap '' INT TERM HUP PIPE

# Prints the process's state and parent, for every process.
table() {
  if [ -r /proc/self/stat ]; then
    for stat in /proc/[0-9]*/stat; do
      { read -r line < "$stat"; } 2>/dev/null || continue
      rest=${line##*) }
      printf '%s %s\n' "${line%% *}" "$rest"
    done
  else
    ps -A -o pid= -o stat= -o ppid=
  fi
}

alive() {
  [ -n "$pid" ] && runs "$pid"
}

# Whether a process is there, and not only its entry in the table.
runs() {
  kill -0 "$1" 2>/dev/null || return 1
  if [ -r "/proc/$1/stat" ]; then
    { read -r line < "/proc/$1/stat"; } 2>/dev/null || return 1
    state=${line##*) }
  else
    state=$(ps -o stat= -p "$1")
  fi
  case $state in Z* | X* | '') return 1 ;; esac
}

# Prints the processes that the server has started, those that they have started, and so on: Erlang starts its port
# programs through a child of its own.
descendants() {
  processes=$(table)
  parents=$pid
  while [ -n "$parents" ]; do
    found=
    while read -r child _ parent _; do
      case " $parents " in *" $parent "*) found="$found $child" ;; esac
    done << END
$processes
END
    printf '%s' "$found"
    parents=$found
  done
}

freeze() {
  alive || return
  # The parent first, or it could fork between the listing and the stop.
  kill -STOP "$pid"
  frozen=$(descendants)
  [ -z "$frozen" ] || kill -STOP $frozen 2>/dev/null
}

thaw() {
  [ -z "$frozen" ] || kill -CONT $frozen 2>/dev/null
  frozen=
  kill -CONT "$pid" 2>/dev/null
}

reap() {
  wait "$pid" 2>/dev/null
  pid=
}

slay() {
  [ -n "$pid" ] || return
  freeze
  killed=$frozen
  kill -KILL "$pid" $killed 2>/dev/null
  frozen=
  reap
  # What they hold is let go of only when they are gone: PostgreSQL does not start again while its shared memory is in use.
  tries=0
  for child in $killed; do
    while runs "$child" && [ "$tries" -lt 120 ]; do
      tries=$((tries + 1))
      sleep 0.05
    done
  done
}

# A server gets five seconds, and PostgreSQL needs them: after an immediate shutdown it kills its own
# children only then.
finish() {
  [ -n "$pid" ] || return
  alive && { thaw; kill "-$1" "$pid" 2>/dev/null; }
  tries=0
  while alive && [ "$tries" -lt 120 ]; do
    tries=$((tries + 1))
    sleep 0.05
  done
  alive && slay
  [ -z "$pid" ] || reap
}

launch() {
  # What this shell ignores the server must not inherit.
  (trap - INT TERM HUP PIPE; cd "$dir" && exec "$@") >> "$dir/server.log" 2>&1 < /dev/null &
  pid=$!
}

echo "$dir"
while read -r order; do
  case $order in
    start) finish "$STOP_SIGNAL"; launch "$@"; echo "$pid" ;;
    alive) if alive; then echo yes; else echo no; fi ;;
    pause) freeze; echo done ;;
    resume) thaw; echo done ;;
    kill) slay; echo done ;;
    stop) finish "$STOP_SIGNAL"; echo done ;;
  esac
done

# A server that is killed leaves its own processes to themselves.
if [ "$END_SIGNAL" = KILL ]; then slay; else finish "$END_SIGNAL"; fi
# Whoever was copying into the folder when our owner died may still be at it.
tries=0
cd /
while [ -e "$dir" ] && [ "$tries" -lt 50 ]; do
  rm -rf "$dir" 2>/dev/null
  [ ! -e "$dir" ] || sleep 0.1
  tries=$((tries + 1))
done
