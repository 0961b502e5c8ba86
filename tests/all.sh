#!/usr/bin/env bash
# Runs all tests, those on a real Kafka and a real PostgreSQL too: installs what is missing, starts both, runs
# `cargo test --locked` with the arguments given, ends both, and counts what ran on which backend. A test that finds no
# service fails here. `UNILINK_TEST_KAFKA` and `UNILINK_TEST_POSTGRES` name services that run already.
set -euo pipefail
cd "$(dirname "$0")/.."

tests/install.sh

dir=$(mktemp -d "${TMPDIR:-/tmp}/unilink-tests-XXXXXX")
services=$dir/services
output=$dir/output

finish() {
    local status=$?
    trap - EXIT
    if ((status)) && [[ -e $services/kafka/log ]]; then
        mkdir -p target/test-services
        cp "$services/kafka/log" target/test-services/kafka.log
        cp "$services/postgres/log" target/test-services/postgres.log
        echo "The logs of Kafka and PostgreSQL are in target/test-services." >&2
    fi
    tests/services/kafka-and-postgres.sh down "$services" || true
    rm -rf "$dir"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The user `postgres` has to pass through.
chmod a+x "$dir"
if [[ -z ${UNILINK_TEST_KAFKA:-} || -z ${UNILINK_TEST_POSTGRES:-} ]]; then
    addresses=$(tests/services/kafka-and-postgres.sh up "$services")
    eval "$addresses"
fi
export UNILINK_TEST_REQUIRE=1

status=0
cargo test --locked "$@" | tee "$output" || status=$?

# The contract suites run in a module that is named after the backend.
awk '
    /^test [a-z]+::.* \.\.\. (ok|FAILED|ignored)/ {
        sub(/::.*/, "", $2)
        ran[$2, $NF]++
    }
    /^test result:/ { passed += $4; failed += $6 }
    END {
        print "\nTests, by backend of the contract suites:"
        count = split("sqlite postgres embedded kafka", backends)
        for (i = 1; i <= count; i++)
            printf "  %-9s %4d passed, %d failed\n", backends[i], ran[backends[i], "ok"], ran[backends[i], "FAILED"]
        printf "  %-9s %4d passed, %d failed\n", "all tests", passed, failed
    }
' "$output"
exit "$status"
