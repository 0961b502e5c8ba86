#!/usr/bin/env bash
# Asks the role in this container whether it is ready: 0 if `/readyz` says 200. The image has no HTTP client, and needs none.
# `ready [PORT]`; default: READY_PORT.
set -euo pipefail
exec 3<>"/dev/tcp/127.0.0.1/${1:-${READY_PORT:-8080}}"
printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r -t 4 _ status _ <&3
[[ $status == 200 ]]
