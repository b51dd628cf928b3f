#!/bin/bash
# What a container of `mysql` does with its arguments and its environment, written anew from how that image behaves:
# https://hub.docker.com/_/mysql and https://github.com/docker-library/mysql. Without tables of time zones.
# Not -u: files that initialize the database are read into this shell, and may not be written for it.
set -Eeo pipefail
shopt -s nullglob

main() {
  if [[ ${1-} == -* ]]; then set -- mysqld "$@"; fi
  if [[ ${1-} == mysqld ]] && ! only_prints "$@"; then
    note "Entrypoint script for MySQL Server started."
    check_configuration "$@"
    read_environment
    DATADIR=$(configured datadir "$@")
    SOCKET=$(configured socket "$@")
    make_folders
    if [[ $(id -u) == 0 ]]; then
      note "Switching to dedicated user 'mysql'"
      HOME=/var/lib/mysql exec setpriv --reuid=mysql --regid=mysql --init-groups "$0" "$@"
    fi
    if [[ ! -d $DATADIR/mysql ]]; then
      initialize "$@"
      note "MySQL init process done. Ready for start up."
    fi
  fi
  exec "$@"
}

only_prints() {
  local word
  for word; do
    case $word in -\? | --help | --print-defaults | -V | --version) return 0 ;; esac
  done
  return 1
}

note() { echo "$(date --rfc-3339=seconds) [Note] [Entrypoint]: $*"; }

fail() {
  echo "$(date --rfc-3339=seconds) [ERROR] [Entrypoint]: $*" >&2
  exit 1
}

check_configuration() {
  local said
  said=$("$@" --verbose --help 2>&1 >/dev/null) || fail "mysqld failed while attempting to check config: $said"
}

# The server's own word on a setting: it may come from an argument, from a file, or from when it was compiled.
configured() {
  local name=$1
  "${@:2}" --verbose --help 2>/dev/null |
    awk -v name="$name" '$1 == name { sub(/^[^ \t]+[ \t]+/, ""); value = $0 } END { print value }'
}

read_environment() {
  from_file ROOT_PASSWORD
  from_file ROOT_HOST %
  from_file DATABASE
  from_file USER
  from_file PASSWORD
}

# Sets a variable from the file that its `_FILE` names, else from itself, else to a default.
from_file() {
  local name=MYSQL_$1 value=${2-} file
  file=${name}_FILE
  # The second start of this script, as another user, finds what the first one exported: no files.
  if [[ -n ${!file-} ]]; then
    value=$(<"${!file}")
    unset "$file"
  elif [[ -n ${!name-} ]]; then
    value=${!name}
  fi
  export "$name=$value"
}

make_folders() {
  mkdir -p "$DATADIR" "${SOCKET%/*}"
  if [[ $(id -u) == 0 ]]; then
    find "$DATADIR" ! -user mysql -exec chown mysql:mysql {} +
    find "${SOCKET%/*}" -maxdepth 0 ! -user mysql -exec chown mysql:mysql {} +
  fi
}

# Makes the data folder, and what is to be in it with a server that nobody else can reach yet.
initialize() {
  if [[ -z $MYSQL_ROOT_PASSWORD${MYSQL_ALLOW_EMPTY_PASSWORD-}${MYSQL_RANDOM_ROOT_PASSWORD-} ]]; then
    fail "Database is uninitialized and password option is not specified: one of MYSQL_ROOT_PASSWORD," \
      "MYSQL_ALLOW_EMPTY_PASSWORD and MYSQL_RANDOM_ROOT_PASSWORD is needed"
  fi
  if [[ -n ${MYSQL_RANDOM_ROOT_PASSWORD-} ]]; then
    MYSQL_ROOT_PASSWORD=$(head --bytes=24 /dev/urandom | base64)
    export MYSQL_ROOT_PASSWORD
    note "GENERATED ROOT PASSWORD: $MYSQL_ROOT_PASSWORD"
  fi
  note "Initializing database files"
  "$@" --initialize-insecure --default-time-zone=SYSTEM
  note "Starting temporary server"
  "$@" --skip-networking --default-time-zone=SYSTEM --socket="$SOCKET" --mysqlx=0 &
  local server=$!
  until MYSQL_PWD='' client --execute='SELECT 1' >/dev/null 2>&1; do
    kill -0 "$server" 2>/dev/null || fail "Unable to start server."
    sleep 0.1
  done
  statements | MYSQL_PWD='' client --database=mysql
  run_init_files
  note "Stopping temporary server"
  kill "$server"
  wait "$server"
}

statements() {
  local password database
  password=$(quoted "$MYSQL_ROOT_PASSWORD")
  database=${MYSQL_DATABASE//\`/\`\`}
  echo "SET @@SESSION.SQL_LOG_BIN = 0;"
  if [[ -n $MYSQL_ROOT_HOST && $MYSQL_ROOT_HOST != localhost ]]; then
    local root
    root="'root'@$(quoted "$MYSQL_ROOT_HOST")"
    echo "CREATE USER $root IDENTIFIED BY $password;"
    echo "GRANT ALL ON *.* TO $root WITH GRANT OPTION;"
  fi
  if [[ -n $MYSQL_DATABASE ]]; then echo "CREATE DATABASE IF NOT EXISTS \`$database\`;"; fi
  if [[ -n $MYSQL_USER && -n $MYSQL_PASSWORD ]]; then
    local user
    user="$(quoted "$MYSQL_USER")@'%'"
    echo "CREATE USER $user IDENTIFIED BY $(quoted "$MYSQL_PASSWORD");"
    # `_` is any character, in a grant.
    if [[ -n $MYSQL_DATABASE ]]; then echo "GRANT ALL ON \`${database//_/\\_}\`.* TO $user;"; fi
  fi
  # Last: from here on, this session's own password is another.
  echo "ALTER USER 'root'@'localhost' IDENTIFIED BY $password;"
}

quoted() {
  local text=${1//\\/\\\\} quote="'"
  printf "'%s'" "${text//"$quote"/"$quote$quote"}"
}

client() {
  mysql --protocol=socket --socket="$SOCKET" --user=root --host=localhost "$@"
}

# What initializes the database, by the name that scripts of the public image use, also with options.
# shellcheck disable=SC2120
docker_process_sql() {
  MYSQL_PWD=$MYSQL_ROOT_PASSWORD client ${MYSQL_DATABASE:+"--database=$MYSQL_DATABASE"} "$@"
}

# shellcheck disable=SC2119
run_init_files() {
  local file
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
    *.sh)
      note "$0: running $file"
      if [[ -x $file ]]; then
        "$file"
      else
        # shellcheck disable=SC1090 # Somebody else's.
        . "$file"
      fi
      ;;
    *.sql) note "$0: running $file" && docker_process_sql <"$file" ;;
    *.sql.gz) note "$0: running $file" && gunzip --stdout "$file" | docker_process_sql ;;
    *) note "$0: ignoring $file" ;;
    esac
  done
}

main "$@"
