#!/usr/bin/env bash
# Installs what building and testing take beside Rust and git, where it is missing: a C and a C++ compiler and make (for
# librdkafka and aws-lc), and what `services/kafka-and-postgres.sh` takes. Debian and its kin, as root or with sudo.
set -euo pipefail
cd "$(dirname "$0")"

missing=()
command -v cc >/dev/null && command -v c++ >/dev/null || missing+=(g++)
command -v make >/dev/null || missing+=(make)
if ((${#missing[@]})); then
    as_root=()
    if ((EUID != 0)); then
        as_root=(sudo)
    fi
    if ! command -v apt-get >/dev/null || ! command -v "${as_root[0]:-env}" >/dev/null; then
        echo "missing: ${missing[*]}; install them, or run this as root on Debian" >&2
        exit 1
    fi
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" libc6-dev
fi

services/kafka-and-postgres.sh install
