#!/bin/sh
# What a container of `valkey` does with its arguments, written anew from how that image behaves:
# https://hub.docker.com/r/valkey/valkey and https://github.com/valkey-io/valkey-container.
set -eu

main() {
  case ${1-} in -* | *.conf) set -- valkey-server "$@" ;; esac
  if [ "${1-}" = valkey-server ]; then
    if [ "$(id -u)" = 0 ]; then
      find /data ! -user valkey -exec chown valkey:valkey {} +
      exec setpriv --reuid=valkey --regid=valkey --clear-groups "$0" "$@"
    fi
    # Data that only the server needs to read, unless somebody wants it otherwise.
    if [ "$(umask)" = 0022 ]; then umask 0077; fi
    if ! is_protected_by_choice "$@"; then set -- "$@" --protected-mode no; fi
  fi
  exec "$@"
}

# The public image's server was compiled to be unprotected unless it is told otherwise: its port is reached only if
# somebody publishes it. Debian's has to be told.
is_protected_by_choice() {
  case " $* " in
  *' --protected-mode '* | *' --help '* | *' -h '* | *' --version '* | *' -v '* | *' --test-memory '*) return 0 ;;
  esac
  [ -f "${2-}" ] && grep -qi '^[[:space:]]*protected-mode[[:space:]]' "$2"
}

main "$@"
