#!/bin/bash
# What a container of `mariadb` does with its arguments and its environment, written anew from how that image behaves:
# https://hub.docker.com/_/mariadb and https://github.com/MariaDB/mariadb-docker. Without tables of time zones, which
# Debian's packages of the server cannot make, and without a user for health checks.
# Not -u: files that initialize the database are read into this shell, and may not be written for it.
set -Eeo pipefail
shopt -s nullglob

main() {
  if [[ ${1-} == -* ]]; then set -- mariadbd "$@"; fi
  if [[ ${1-} == mariadbd || ${1-} == mysqld ]] && ! only_prints "$@"; then
    note "Entrypoint script for MariaDB Server started."
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
      note "MariaDB init process done. Ready for start up."
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
  said=$("$@" --verbose --help 2>&1 >/dev/null) || fail "mariadbd failed while attempting to check config: $said"
}

# The server's own word on a setting: it may come from an argument, from a file, or from when it was compiled.
configured() {
  local name=$1
  "${@:2}" --verbose --help 2>/dev/null |
    awk -v name="$name" '$1 == name { sub(/^[^ \t]+[ \t]+/, ""); value = $0 } END { print value }'
}

# MARIADB_x comes before MYSQL_x; what initializes the database may read either.
read_environment() {
  from_file ROOT_PASSWORD
  from_file ROOT_HOST %
  from_file DATABASE
  from_file USER
  from_file PASSWORD
  export MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=${MARIADB_ALLOW_EMPTY_ROOT_PASSWORD:-${MYSQL_ALLOW_EMPTY_PASSWORD-}}
  export MARIADB_RANDOM_ROOT_PASSWORD=${MARIADB_RANDOM_ROOT_PASSWORD:-${MYSQL_RANDOM_ROOT_PASSWORD-}}
}

from_file() {
  local name file value=${2-}
  for name in "MYSQL_$1" "MARIADB_$1"; do
    file=${name}_FILE
    # The second start of this script, as another user, finds what the first one exported: no files.
    if [[ -n ${!file-} ]]; then
      value=$(<"${!file}")
      unset "$file"
    elif [[ -n ${!name-} ]]; then
      value=${!name}
    fi
  done
  export "MYSQL_$1=$value" "MARIADB_$1=$value"
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
  if [[ -z $MARIADB_ROOT_PASSWORD$MARIADB_ALLOW_EMPTY_ROOT_PASSWORD$MARIADB_RANDOM_ROOT_PASSWORD ]]; then
    fail "Database is uninitialized and password option is not specified: one of MARIADB_ROOT_PASSWORD," \
      "MARIADB_ALLOW_EMPTY_ROOT_PASSWORD and MARIADB_RANDOM_ROOT_PASSWORD is needed"
  fi
  if [[ -n $MARIADB_RANDOM_ROOT_PASSWORD ]]; then
    MARIADB_ROOT_PASSWORD=$(head --bytes=24 /dev/urandom | base64)
    export MARIADB_ROOT_PASSWORD MYSQL_ROOT_PASSWORD=$MARIADB_ROOT_PASSWORD
    note "GENERATED ROOT PASSWORD: $MARIADB_ROOT_PASSWORD"
  fi
  note "Initializing database files"
  local arguments=() word
  for word in "${@:2}"; do
    # mariadb-install-db would make two of it.
    if [[ $word != *[[:space:]]* ]]; then arguments+=("$word"); fi
  done
  mariadb-install-db --datadir="$DATADIR" --rpm --auth-root-authentication-method=normal --skip-test-db \
    "${arguments[@]}" --skip-log-bin >/dev/null
  note "Starting temporary server"
  "$@" --skip-networking --socket="$SOCKET" &
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
  local password database others
  password=$(quoted "$MARIADB_ROOT_PASSWORD")
  database=${MARIADB_DATABASE//\`/\`\`}
  echo "SET @@SESSION.SQL_LOG_BIN = 0;"
  # Users without a name, and those of the name that this container happens to have.
  others=$(MYSQL_PWD='' client --skip-column-names --raw --execute="SELECT CONCAT('DROP USER ', QUOTE(user), '@',
    QUOTE(host), ';') FROM mysql.global_priv WHERE user = '' OR host NOT IN ('localhost', '')")
  echo "$others"
  if [[ -n $MARIADB_ROOT_HOST && $MARIADB_ROOT_HOST != localhost ]]; then
    local root
    root="'root'@$(quoted "$MARIADB_ROOT_HOST")"
    echo "CREATE USER $root IDENTIFIED BY $password;"
    echo "GRANT ALL ON *.* TO $root WITH GRANT OPTION;"
    echo "GRANT PROXY ON ''@'%' TO $root WITH GRANT OPTION;"
  fi
  if [[ -n $MARIADB_DATABASE ]]; then echo "CREATE DATABASE IF NOT EXISTS \`$database\`;"; fi
  if [[ -n $MARIADB_USER && -n $MARIADB_PASSWORD ]]; then
    local user
    user="$(quoted "$MARIADB_USER")@'%'"
    echo "CREATE USER $user IDENTIFIED BY $(quoted "$MARIADB_PASSWORD");"
    # `_` is any character, in a grant.
    if [[ -n $MARIADB_DATABASE ]]; then echo "GRANT ALL ON \`${database//_/\\_}\`.* TO $user;"; fi
  fi
  # Last: from here on, this session's own password is another.
  echo "SET PASSWORD FOR 'root'@'localhost' = PASSWORD($password);"
}

quoted() {
  local text=${1//\\/\\\\} quote="'"
  printf "'%s'" "${text//"$quote"/"$quote$quote"}"
}

client() {
  mariadb --protocol=socket --socket="$SOCKET" --user=root --host=localhost "$@"
}

# What initializes the database, by the name that scripts of the public image use, also with options.
# shellcheck disable=SC2120
docker_process_sql() {
  MYSQL_PWD=$MARIADB_ROOT_PASSWORD client ${MARIADB_DATABASE:+"--database=$MARIADB_DATABASE"} "$@"
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
