# Removes a pod's containers when whoever started them is gone, however that was. Arguments: the template of the folder
# that goes with them, and their label. Orders come on stdin, which ends with whoever gave them.
dir=$(mktemp -d "$1") || exit 1
label=$2
client=none
for name in docker podman; do
  if command -v "$name" >/dev/null 2>&1; then
    client=$name
    break
  fi
done
# An engine that hangs must not keep this from trying again.
bound=
! command -v timeout >/dev/null 2>&1 || bound="timeout 60"
# PIPE: an answer nobody reads any more must not end the one that cleans up.
trap '' INT TERM HUP PIPE

containers() { $bound "$client" ps --all --quiet --no-trunc --filter "label=$label"; }

echo "$dir"
while read -r order; do
  case $order in
    client) echo "$client" ;;
    count) containers | wc -l | tr -d ' ' ;;
  esac
done

# A container that was asked for when our owner was killed may come later: it is looked for, in vain, for five seconds.
# An engine that does not answer is asked for some minutes; nobody waits for us any more.
looks=25
[ ! -e "$dir/done" ] || looks=1
tries=0
while [ "$looks" -gt 0 ] && [ "$tries" -lt 1000 ]; do
  tries=$((tries + 1))
  if left=$(containers) && [ -z "$left" ]; then
    looks=$((looks - 1))
  elif [ -n "$left" ]; then
    # Paused ones too, and the volumes that nobody named.
    $bound "$client" rm --force --volumes $left >/dev/null 2>&1
  fi
  [ "$looks" -eq 0 ] || sleep 0.2
done
rm -rf "$dir"
