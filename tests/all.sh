#!/usr/bin/env bash
# Runs all tests, those on a real Kafka and a real PostgreSQL too: installs what is missing, starts both, runs the tests,
# ends both, and counts what ran on which backend. A test that finds no service fails here. `UNILINK_TEST_KAFKA` and
# `UNILINK_TEST_POSTGRES` name services that run already.
#
# With arguments, they are `cargo test`'s. Without any, two suites run at a time (`UNILINK_TEST_LANES`), since many wait for
# a broker's clocks; each tells in a line how it ended, and all of its output if it failed.
set -euo pipefail
cd "$(dirname "$0")/.."

tests/install.sh

dir=$(mktemp -d "${TMPDIR:-/tmp}/unilink-tests-XXXXXX")
services=$dir/services

finish() {
    local status=$?
    trap - EXIT
    if ((status)) && [[ -e $services/kafka/log ]]; then
        mkdir -p target/test-services
        cp "$services/kafka/log" target/test-services/kafka.log
        cp "$services/postgres/log" target/test-services/postgres.log
        echo "The logs of Kafka and PostgreSQL are in target/test-services." >&2
    fi
    # shellcheck disable=SC2046 # words are wanted
    kill $(jobs -rp) 2>/dev/null || true
    wait || true
    tests/services/kafka-and-postgres.sh down "$services" || true
    rm -rf "$dir"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The user `postgres` has to pass through.
chmod a+x "$dir"
mkdir "$dir/out"

# ---- One suite after the other in each lane ---------------------------------------------------------------------------

# It holds rates against what the machine could do.
readonly ALONE=tests/storm.rs
# What takes longest begins first, so that no lane is left with it in the end.
readonly LONGEST=(tests/chaos.rs tests/rebuild.rs tests/production.rs tests/bus_contract.rs tests/plan_properties.rs)

suites() { # FILE: what cargo built, as "NAME PATH" lines, in the order in which to begin
    local all name
    all=$(sed -n 's/^ *Executable \(unittests \)\{0,1\}\([^ ]*\) (\(.*\))$/\2 \3/p' "$1")
    for name in "$ALONE" "${LONGEST[@]}"; do
        grep "^$name " <<<"$all" || true
    done
    grep -vF "$(printf '%s \n' "$ALONE" "${LONGEST[@]}")" <<<"$all"
}

run_suite() { # NAME COMMAND...
    local name=$1 out=$dir/out/${1//\//-} begun=$SECONDS status=0
    "${@:2}" >"$out" 2>&1 </dev/null || status=$?
    if ((status)); then
        echo "$name FAILED after $((SECONDS - begun)) s:"
        cat "$out"
        touch "$dir/failed"
    else
        echo "$name: $(sed -n 's/^test result: ok\. \([0-9]* passed\).*/\1/p' "$out" | paste -sd, -) in $((SECONDS - begun)) s"
    fi
}

run_lanes() {
    local lanes=${UNILINK_TEST_LANES:-2} name path
    cargo test --locked --no-run --color never 2> >(tee "$dir/built" >&2) || return
    start_services || return
    while read -r name path; do
        while (($(jobs -rp | wc -l) >= lanes)); do
            wait -n || true
        done
        run_suite "$name" "$path" &
        [[ $name != "$ALONE" ]] || wait "$!"
    done < <(suites "$dir/built")
    wait
    run_suite documentation cargo test --locked --doc
    [[ ! -e $dir/failed ]]
}

# ---- Both ways ----------------------------------------------------------------------------------------------------------

start_services() {
    local addresses
    if [[ -z ${UNILINK_TEST_KAFKA:-} || -z ${UNILINK_TEST_POSTGRES:-} ]]; then
        addresses=$(tests/services/kafka-and-postgres.sh up "$services")
        eval "$addresses"
    fi
    export UNILINK_TEST_REQUIRE=1
}

status=0
if (($#)); then
    start_services
    cargo test --locked "$@" | tee "$dir/out/all" || status=$?
else
    run_lanes || status=$?
fi

# The contract suites run in a module that is named after the backend.
cat "$dir/out/"* | awk '
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
'
exit "$status"
