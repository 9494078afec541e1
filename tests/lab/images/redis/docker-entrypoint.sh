#!/bin/sh
# Starts Redis under the official image's contract.
set -eu

case "${1:-}" in
    -* | *.conf) set -- redis-server "$@" ;;
esac

if [ "${1:-}" = redis-server ] && [ "$(id -u)" = 0 ]; then
    find /data \! -user redis -exec chown redis '{}' +
    exec setpriv --reuid redis --regid redis --clear-groups -- "$0" "$@"
fi

[ "$(umask)" = 0022 ] && umask 0077

# The official server is compiled with protected mode off: the container's
# network is the border. Debian's is not, so it is said here, unless the
# configuration or the command speaks about it.
says_protected_mode() {
    for argument in "$@"; do
        case "$argument" in
            --protected-mode | -v | --version | -h | --help | --check-system | --test-memory) return 0 ;;
        esac
    done
    case "${2:-}" in
        *.conf) grep -qiE '^[[:space:]]*protected-mode[[:space:]]' "$2" && return 0 ;;
    esac
    return 1
}

if [ "${1:-}" = redis-server ] && ! says_protected_mode "$@"; then
    set -- "$@" --protected-mode no
fi

exec "$@"
