#!/bin/sh
# What a container of `openbao/openbao` does with its arguments and its environment, written anew from how that image
# behaves: https://hub.docker.com/r/openbao/openbao and `.release/docker` of https://github.com/openbao/openbao.
set -eu

main() {
  write_config
  case ${1-} in
  server)
    shift
    # The variables are for `-dev`; without it, both options mean nothing.
    set -- bao server -config=/openbao/config \
      -dev-root-token-id="${BAO_DEV_ROOT_TOKEN_ID-}" \
      -dev-listen-address="${BAO_DEV_LISTEN_ADDRESS:-0.0.0.0:8200}" "$@"
    ;;
  -*) set -- bao "$@" ;;
  *) if is_of_bao "${1-}"; then set -- bao "$@"; fi ;;
  esac
  if [ "${1-}" = bao ] && [ "$(id -u)" = 0 ]; then
    own_folders
    # `su` gives the shell its name and the words after it; the shell becomes `bao`.
    # shellcheck disable=SC2016 # It is the inner shell's.
    exec su -p -s /bin/sh -- openbao -c 'export HOME=/home/openbao; exec "$0" "$@"' "$@"
  fi
  exec "$@"
}

write_config() {
  local_config=${BAO_LOCAL_CONFIG:-${VAULT_LOCAL_CONFIG-}}
  if [ -n "$local_config" ]; then
    printf '%s\n' "$local_config" >/openbao/config/local.json
  fi
}

# `bao` knows its sub-commands best.
is_of_bao() {
  [ -n "$1" ] && [ "$1" != bao ] && bao "$1" -h >/dev/null 2>&1
}

# A folder of the host's may belong to anybody, and may be read-only.
own_folders() {
  [ -z "${SKIP_CHOWN-}" ] || return 0
  for folder in /openbao/config /openbao/logs /openbao/file; do
    if [ "$(stat -c %u "$folder")" != "$(id -u openbao)" ]; then
      chown -R openbao:openbao "$folder" || echo "Could not chown $folder (may not have appropriate permissions)"
    fi
  done
}

main "$@"
