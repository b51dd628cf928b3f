#!/bin/sh
# Runs a command, PgBouncer as the user `postgres`, as in https://hub.docker.com/r/edoburu/pgbouncer. It writes no configuration.
set -eu

# PgBouncer refuses to run as root.
if [ "${1-}" = pgbouncer ] && [ "$(id -u)" = 0 ]; then
  exec setpriv --reuid=postgres --regid=postgres --clear-groups "$@"
fi
exec "$@"
