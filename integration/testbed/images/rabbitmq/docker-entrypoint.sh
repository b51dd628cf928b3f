#!/bin/sh
# What a container of `rabbitmq` does with its arguments, written anew from how that image behaves:
# https://hub.docker.com/_/rabbitmq and https://github.com/docker-library/rabbitmq.
set -eu

main() {
  if [ "${1-}" = rabbitmq-server ] && [ "$(id -u)" = 0 ]; then
    find /var/lib/rabbitmq ! -user rabbitmq -exec chown rabbitmq:rabbitmq {} +
    exec setpriv --reuid=rabbitmq --regid=rabbitmq --clear-groups "$0" "$@"
  fi
  exec "$@"
}

main "$@"
