#!/usr/bin/env bash
# Starts PostgreSQL under the official image's contract: the first start on an
# empty data directory makes the cluster from POSTGRES_*, later ones ignore them.
set -Eeo pipefail

say() { printf 'entrypoint: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# read_setting NAME [DEFAULT]: sets NAME from itself, or from the file that NAME_FILE names.
read_setting() {
    local name=$1 default=${2:-} file_variable="${1}_FILE" value
    local file=${!file_variable:-}
    if [[ -n ${!name:-} && -n $file ]]; then
        fail "both $name and $file_variable are set; give one of them"
    fi
    value=${!name:-$default}
    if [[ -n $file ]]; then
        [[ -r $file ]] || fail "$file_variable names $file, which cannot be read"
        value=$(<"$file")
    fi
    export "$name=$value"
    unset "$file_variable"
}

require_password() {
    [[ $POSTGRES_HOST_AUTH_METHOD == trust || -n $POSTGRES_PASSWORD ]] && return
    fail "$PGDATA is empty and there is no password for the superuser \"$POSTGRES_USER\":" \
        "set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE" \
        "(or POSTGRES_HOST_AUTH_METHOD=trust, which lets everybody in)"
}

make_cluster() {
    local -a initdb_arguments=()
    # As in the official image, the arguments are a shell's words.
    eval "initdb_arguments=($POSTGRES_INITDB_ARGS)"
    # The password comes through a descriptor, so that no process list shows it.
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") \
        "${initdb_arguments[@]}" -D "$PGDATA"
    printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" \
        >> "$PGDATA/pg_hba.conf"
}

run_psql() {
    PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" \
        --no-password --no-psqlrc "$@"
}

start_private_server() {
    # On the socket alone: whoever waits for the TCP port must not meet a half-made database.
    local options
    options=$(printf '%q ' "$@" -c listen_addresses='' -p "${PGPORT:-5432}")
    pg_ctl -D "$PGDATA" -o "$options" --wait --timeout 120 start
}

make_database() {
    [[ $POSTGRES_DB == postgres ]] && return
    run_psql --dbname postgres --set name="$POSTGRES_DB" <<< 'CREATE DATABASE :"name";'
}

run_scripts() {
    local script
    for script in /docker-entrypoint-initdb.d/*; do
        case $script in
            *.sh)
                say "running $script"
                # shellcheck disable=SC1090
                if [[ -x $script ]]; then "$script"; else . "$script"; fi ;;
            *.sql) say "running $script"; run_psql --dbname "$POSTGRES_DB" --file "$script" ;;
            *.sql.gz) say "running $script"; gunzip --stdout "$script" | run_psql --dbname "$POSTGRES_DB" ;;
            *.sql.xz) say "running $script"; xz --decompress --stdout "$script" | run_psql --dbname "$POSTGRES_DB" ;;
            *.sql.zst) say "running $script"; zstd --decompress --stdout "$script" | run_psql --dbname "$POSTGRES_DB" ;;
            '/docker-entrypoint-initdb.d/*') ;;
            *) say "leaving $script alone" ;;
        esac
    done
}

asks_for_information() {
    local argument
    for argument; do
        case $argument in
            -'?' | --help | --describe-config | -V | --version) return 0 ;;
        esac
    done
    return 1
}

main() {
    if [[ ${1:-} == -* ]]; then set -- postgres "$@"; fi
    if [[ ${1:-} != postgres ]] || asks_for_information "$@"; then exec "$@"; fi

    if [[ $(id -u) == 0 ]]; then
        mkdir -p "$PGDATA" /var/run/postgresql
        chmod 0700 "$PGDATA"
        chmod 3777 /var/run/postgresql
        find "$PGDATA" /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
        exec setpriv --reuid postgres --regid postgres --init-groups -- "${BASH_SOURCE[0]}" "$@"
    fi

    if [[ -s $PGDATA/PG_VERSION ]]; then
        say "$PGDATA holds a cluster already; POSTGRES_* count only for a new one"
        exec "$@"
    fi

    mkdir -p "$PGDATA"
    chmod 0700 "$PGDATA"
    read_setting POSTGRES_PASSWORD
    read_setting POSTGRES_USER postgres
    read_setting POSTGRES_DB "$POSTGRES_USER"
    read_setting POSTGRES_INITDB_ARGS
    : "${POSTGRES_HOST_AUTH_METHOD:=}"
    require_password
    [[ -r /docker-entrypoint-initdb.d ]] \
        || fail "/docker-entrypoint-initdb.d cannot be read by uid $(id -u); its scripts would be missed"
    make_cluster
    shift
    start_private_server "$@"
    make_database
    # Scripts reach the private server without being told how.
    export PGPASSWORD=$POSTGRES_PASSWORD
    run_scripts
    unset PGPASSWORD
    pg_ctl -D "$PGDATA" --mode fast --wait stop
    say 'the new cluster is complete'
    exec postgres "$@"
}

main "$@"
