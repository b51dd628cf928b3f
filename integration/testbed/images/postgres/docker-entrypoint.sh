#!/bin/bash
# What a container of `postgres` does with its arguments and its environment, written anew from how that image behaves:
# https://hub.docker.com/_/postgres and https://github.com/docker-library/postgres.
# Not -u: files that initialize the database are read into this shell, and may not be written for it.
set -Eeo pipefail

main() {
  if [[ ${1-} == -* ]]; then set -- postgres "$@"; fi
  if [[ ${1-} == postgres ]] && ! only_prints "$@"; then
    read_environment
    make_folders
    if [[ $(id -u) == 0 ]]; then
      HOME=/var/lib/postgresql exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
    fi
    if [[ -s $PGDATA/PG_VERSION ]]; then
      printf '\nPostgreSQL Database directory appears to contain a database; Skipping initialization\n\n'
    else
      initialize "${@:2}"
      printf '\nPostgreSQL init process complete; ready for start up.\n\n'
    fi
  fi
  exec "$@"
}

only_prints() {
  local word
  for word; do
    case $word in -\? | --help | --describe-config | -V | --version) return 0 ;; esac
  done
  return 1
}

read_environment() {
  from_file POSTGRES_PASSWORD
  from_file POSTGRES_USER postgres
  from_file POSTGRES_DB "$POSTGRES_USER"
  from_file POSTGRES_INITDB_ARGS
}

# Sets a variable from itself, else from the file that its `_FILE` names, else to a default.
from_file() {
  local name=$1 file=${1}_FILE
  if [[ -n ${!name-} && -n ${!file-} ]]; then
    echo "error: both $name and $file are set (but are exclusive)" >&2
    exit 1
  fi
  if [[ -n ${!file-} ]]; then
    export "$name=$(<"${!file}")"
  else
    export "$name=${!name:-${2-}}"
  fi
  unset "$file"
}

# Changing modes and owners is refused on some volumes; a server that minds says so itself.
make_folders() {
  mkdir -p "$PGDATA" /var/run/postgresql
  chmod 700 "$PGDATA" || true
  chmod 3775 /var/run/postgresql || true
  if [[ $(id -u) == 0 ]]; then
    find "$PGDATA" /var/run/postgresql ! -user postgres -exec chown postgres {} +
  fi
}

# Makes the cluster, and what is to be in it with a server that nobody else can reach yet.
initialize() {
  demand_password
  local method arguments
  eval "arguments=(${POSTGRES_INITDB_ARGS})"
  initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") "${arguments[@]}"
  method=${POSTGRES_HOST_AUTH_METHOD:-$(postgres -C password_encryption "$@")}
  printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"

  export PGPASSWORD=${PGPASSWORD:-$POSTGRES_PASSWORD}
  # Without a log file, pg_ctl lets the server's log go to our standard output; the real server's goes to standard
  # error. Those who wait for both know by this that the real one is ready.
  PGUSER=${PGUSER:-$POSTGRES_USER} pg_ctl --pgdata="$PGDATA" --wait start \
    --options="$(printf '%q ' "$@" -c listen_addresses= -p "${PGPORT:-5432}")"
  create_database
  run_init_files
  PGUSER=${PGUSER:-postgres} pg_ctl --pgdata="$PGDATA" --mode=fast --wait stop
  unset PGPASSWORD
}

demand_password() {
  if [[ -n $POSTGRES_PASSWORD ]]; then return; fi
  if [[ ${POSTGRES_HOST_AUTH_METHOD-} == trust ]]; then
    echo 'WARNING: POSTGRES_HOST_AUTH_METHOD is "trust": whoever reaches the port needs no password.' >&2
    return
  fi
  cat >&2 <<'END'
Error: Database is uninitialized and superuser password is not specified.
       Set POSTGRES_PASSWORD to something that is not empty, or, to let everybody in without a password,
       POSTGRES_HOST_AUTH_METHOD to "trust".
END
  exit 1
}

create_database() {
  local exists
  exists=$(docker_process_sql --dbname=postgres --set=db="$POSTGRES_DB" --tuples-only \
    <<<"SELECT 1 FROM pg_database WHERE datname = :'db'")
  if [[ -z $exists ]]; then
    docker_process_sql --dbname=postgres --set=db="$POSTGRES_DB" <<<'CREATE DATABASE :"db"'
  fi
}

run_init_files() {
  local file
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
    *.sh)
      echo "$0: running $file"
      if [[ -x $file ]]; then
        "$file"
      else
        # shellcheck disable=SC1090 # Somebody else's.
        . "$file"
      fi
      ;;
    *.sql) echo "$0: running $file" && docker_process_sql --file="$file" ;;
    *.sql.gz) echo "$0: running $file" && gunzip --stdout "$file" | docker_process_sql ;;
    # Where there are none, the pattern itself.
    /docker-entrypoint-initdb.d/\*) ;;
    *) echo "$0: ignoring $file" ;;
    esac
  done
}

# By the name that scripts of the public image use, which may give it other options.
docker_process_sql() {
  PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --username="$POSTGRES_USER" --no-password --no-psqlrc \
    --dbname="$POSTGRES_DB" "$@"
}

main "$@"
