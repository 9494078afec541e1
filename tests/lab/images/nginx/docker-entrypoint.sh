#!/bin/sh
# Runs what /docker-entrypoint.d holds, then the command, as the official image
# does. Templates (/etc/nginx/templates) are not rendered: nothing here uses them.
set -eu

case "${1:-}" in
    nginx | nginx-debug)
        for script in /docker-entrypoint.d/*; do
            case "$script" in
                *.envsh) [ ! -x "$script" ] || . "$script" ;;
                *.sh) [ ! -x "$script" ] || "$script" ;;
            esac
        done ;;
esac

exec "$@"
