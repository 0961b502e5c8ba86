#!/usr/bin/env bash
# A real Kafka and a real PostgreSQL without Docker, for the tests. `--help` says how.
#
# Both keep their data, their logs and the numbers of their processes in the directory that they are given. They listen
# on loopback only, on ports below the ephemeral range: on one within it, another connection may have taken the port of
# a killed service before it is back.
set -euo pipefail

readonly KAFKA_VERSION=4.1.1 SCALA_VERSION=2.13 LOG4J_VERSION=2.24.3
readonly COPY_JARS=org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies
readonly READY_SECONDS=60
readonly MARK=.unilink-services
held=9
# Of a database that is made.
postgres_settings=()

usage() {
    cat <<'END'
usage: kafka-and-postgres.sh COMMAND

  install                       install what is missing: PostgreSQL, a Java runtime, Maven (Debian; root or sudo)
  up DIR [--kafka-port N] [--postgres-port N] [--postgres-setting NAME=VALUE]...
                                start both, on free ports unless told, and print their addresses as `export` lines;
                                what is up already stays as it is
  down DIR                      stop both and remove DIR
  start  kafka|postgres DIR     start one again, on its port, with its data
  stop   kafka|postgres DIR     stop one in order
  kill   kafka|postgres DIR     SIGKILL one, and all of its processes
  reset-group DIR|HOST:PORT GROUP TOPIC
                                set the offsets of a group without members to the beginning, with Kafka's own tool

Kafka comes from Maven's central repository, or from the mirror of your Maven settings, once; it stays in
${XDG_CACHE_HOME:-~/.cache}/unilink-services. Logs: DIR/kafka/log, DIR/postgres/log.
END
}

say() { echo "kafka-and-postgres: $*" >&2; }
fail() { say "$*"; exit 1; }
misuse() { usage >&2; exit 2; }

# ---- What is needed -------------------------------------------------------------------------------------------------

postgres_bin() {
    local newest
    newest=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)
    if [[ -x $newest ]]; then
        dirname "$newest"
    elif command -v initdb >/dev/null; then
        dirname "$(readlink -f "$(command -v initdb)")"
    else
        fail "PostgreSQL is missing; '$0 install' installs it"
    fi
}

has_java() {
    local version
    command -v java >/dev/null || return 1
    version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
    ((${version:-0} >= 17))
}

jars_dir() { echo "${XDG_CACHE_HOME:-$HOME/.cache}/unilink-services/kafka-$KAFKA_VERSION"; }

install() {
    local missing=() as_root=()
    (postgres_bin) >/dev/null 2>&1 || missing+=(postgresql)
    has_java || missing+=(default-jre-headless)
    [[ -d $(jars_dir) ]] || command -v mvn >/dev/null || missing+=(maven)
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null || fail "missing: ${missing[*]}; there is no apt-get here, install them by other means"
    if ((EUID != 0)); then
        command -v sudo >/dev/null || fail "missing: ${missing[*]}; run '$0 install' as root"
        as_root=(sudo)
    fi
    say "installing ${missing[*]}"
    "${as_root[@]}" apt-get update -q >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" >&2
    has_java || fail "Kafka $KAFKA_VERSION needs Java 17; this release of the distribution has an older one"
}

# Kafka's jars, fetched once. Several may ask at the same time: one fetches, into a directory that gets its name last.
fetch_kafka() {
    local libs lock
    libs=$(jars_dir)
    [[ -d $libs ]] && return
    command -v mvn >/dev/null || fail "Maven is missing; '$0 install' installs it"
    mkdir -p "$(dirname "$libs")"
    exec {lock}>"$libs.lock"
    flock "$lock"
    if [[ ! -d $libs ]]; then
        say "fetching Kafka $KAFKA_VERSION with Maven, once"
        rm -rf "$libs.partial"
        mkdir "$libs.partial"
        write_pom >"$libs.partial/pom.xml"
        mvn -q -B --strict-checksums -f "$libs.partial/pom.xml" "$COPY_JARS" \
            -DoutputDirectory="$libs.partial" >&2 || fail "Maven could not fetch Kafka"
        mv "$libs.partial" "$libs"
    fi
    exec {lock}>&-
}

write_pom() {
    cat <<END
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>unilink</groupId><artifactId>test-services</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_$SCALA_VERSION</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>$LOG4J_VERSION</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>$LOG4J_VERSION</version></dependency>
  </dependencies>
</project>
END
}

# ---- Processes and ports --------------------------------------------------------------------------------------------

# The process of a pid file, if it lives: a zombie does not, nor does another program that has got its number.
living() { # FILE ARGUMENT
    local pid state
    pid=$(head -n 1 "$1" 2>/dev/null) && [[ -n $pid ]] || return 1
    state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null) || return 1
    [[ -n $state && $state != Z && $state != X ]] || return 1
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -- "$2" || return 1
    echo "$pid"
}

# It is no more, or a zombie that nobody collects. Of a program with threads, the first may be a zombie while others still
# hold its port.
gone() { # PID
    local threads=("/proc/$1/task/"*)
    ! grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" && ((${#threads[@]} <= 1))
}

await_gone() { # SECONDS PID...
    local until=$((SECONDS + $1)) pid
    for pid in "${@:2}"; do
        until gone "$pid"; do
            ((SECONDS < until)) || return 1
            sleep 0.05
        done
    done
}

listening() { # PORT, on any address
    local hex files=(/proc/net/tcp)
    hex=$(printf ':%04X$' "$1")
    [[ -r /proc/net/tcp6 ]] && files+=(/proc/net/tcp6)
    awk -v port="$hex" '$4 == "0A" && $2 ~ port { found = 1 } END { exit !found }' "${files[@]}"
}

# One command at a time works on a directory: `down` waits for an `up` whose caller was killed, and then ends what that has
# started. What is started must not inherit the lock; it is closed there.
hold() { # DIR
    exec {held}>>"$1/$MARK"
    flock "$held"
}

# Sets `chosen` to the first of N free neighbouring ports. Where it begins to look is chance, so that two who look at the
# same time hardly ever find the same.
choose_port() { # N
    local try port
    for ((try = 0; try < 100; try++)); do
        chosen=$((20000 + RANDOM % 6000 * 2))
        for ((port = chosen; port < chosen + $1; port++)); do
            ! listening "$port" || continue 2
        done
        return
    done
    fail "no free port between 20000 and 32000"
}

port_of() { cat "$2/$1/port" 2>/dev/null || fail "$2 holds no $1; '$0 up $2' makes one"; } # SERVICE DIR

settle_port() { # SERVICE DIR WANTED N: the port of a service is chosen once and stays
    local file=$2/$1/port port
    mkdir -p "$2/$1"
    [[ ! -e $file ]] || return 0
    chosen=$3
    if [[ -z $chosen ]]; then
        choose_port "$4"
    else
        for ((port = chosen; port < chosen + $4; port++)); do
            ! listening "$port" || fail "port $port is taken"
        done
    fi
    echo "$chosen" >"$file"
}

# ---- Kafka ----------------------------------------------------------------------------------------------------------

kafka_java() { java -cp "$(jars_dir)/*" "$@"; }

living_kafka() { living "$1/kafka/pid" "$1/kafka/server.properties"; }

# A killed broker is to come back quickly: it has few internal partitions to look through, and its controller forgets its
# former life after 3 s instead of 9 s.
write_kafka_settings() { # DIR
    local port
    port=$(port_of kafka "$1")
    cat >"$1/kafka/server.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$1/kafka/data
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.cleaner.dedupe.buffer.size=33554432
END
    cat >"$1/kafka/log4j2.properties" <<'END'
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1} %m%n
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
logger.start.name = kafka.server.KafkaRaftServer
logger.start.level = INFO
logger.groups.name = org.apache.kafka.coordinator
logger.groups.level = INFO
logger.transactions.name = kafka.coordinator
logger.transactions.level = INFO
END
}

format_kafka() { # DIR
    local id
    [[ ! -e $1/kafka/data/meta.properties ]] || return 0
    id=$(kafka_java kafka.tools.StorageTool random-uuid 2>/dev/null)
    kafka_java kafka.tools.StorageTool format -t "$id" -c "$1/kafka/server.properties" --standalone \
        >"$1/kafka/log" 2>&1 || { cat "$1/kafka/log" >&2; fail "Kafka's storage tool failed"; }
}

start_kafka() { # DIR
    local port pid begun
    port=$(port_of kafka "$1")
    ! living_kafka "$1" >/dev/null || return 0
    ! listening "$port" || fail "port $port of Kafka is taken by another program"
    fetch_kafka
    write_kafka_settings "$1"
    format_kafka "$1"
    begun=$(wc -l <"$1/kafka/log")
    # Its own session: what ends the caller's terminal or process group is not meant for Kafka.
    setsid java -Xmx512m -Xms256m -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:+ExitOnOutOfMemoryError \
        -Dlog4j2.configurationFile="$1/kafka/log4j2.properties" -cp "$(jars_dir)/*" \
        kafka.Kafka "$1/kafka/server.properties" </dev/null >>"$1/kafka/log" 2>&1 {held}>&- &
    pid=$!
    echo "$pid" >"$1/kafka/pid"
    await_kafka "$pid" "$1/kafka/log" "$begun"
}

# "Started" is logged once the broker leads its partitions; its port listens earlier.
await_kafka() { # PID LOG LINES-BEFORE
    local until=$((SECONDS + READY_SECONDS))
    until tail -n "+$(($3 + 1))" "$2" | grep -qF 'Kafka Server started'; do
        if gone "$1" || ((SECONDS >= until)); then
            tail -n 20 "$2" >&2
            fail "Kafka did not start; the end of $2 stands above"
        fi
        sleep 0.05
    done
}

stop_kafka() { end_kafka TERM "$1"; }
kill_kafka() { end_kafka KILL "$1"; }

end_kafka() { # SIGNAL DIR
    local pid
    pid=$(living_kafka "$2") || return 0
    kill -s "$1" "$pid" 2>/dev/null || true
    await_gone 30 "$pid" || { kill -s KILL "$pid" 2>/dev/null || true; await_gone 10 "$pid"; } || fail "Kafka ($pid) does not end"
    rm -f "$2/kafka/pid"
}

# The tool exits with 0 when it has failed, too.
reset_group() { # DIR|HOST:PORT GROUP TOPIC
    local address=$1 said
    [[ $address =~ ^[^/]+:[0-9]+$ ]] || address=127.0.0.1:$(port_of kafka "$(realpath -m "$1")")
    fetch_kafka
    said=$(kafka_java org.apache.kafka.tools.consumer.group.ConsumerGroupCommand --bootstrap-server "$address" \
        --group "$2" --topic "$3" --reset-offsets --to-earliest --execute 2>&1) || fail "$said"
    echo "$said" >&2
    ! grep -qi '^error' <<<"$said" || fail "the offsets of $2 were not reset"
}

# ---- PostgreSQL -----------------------------------------------------------------------------------------------------

# PostgreSQL refuses to run as root.
as_postgres() {
    if ((EUID == 0)); then
        runuser -u postgres -- "$@"
    else
        "$@"
    fi
}

living_postgres() { living "$1/postgres/data/postmaster.pid" "$1/postgres/data"; }

make_database() { # DIR
    local bin password
    [[ ! -e $1/postgres/made ]] || return 0
    bin=$(postgres_bin)
    rm -rf "$1/postgres/data"
    mkdir "$1/postgres/data"
    password=$1/postgres/password
    (umask 077 && echo unilink >"$password")
    touch "$1/postgres/log"
    if ((EUID == 0)); then
        id postgres >/dev/null 2>&1 || fail "there is no user 'postgres', and PostgreSQL refuses to run as root"
        chown postgres "$1/postgres/data" "$1/postgres/log" "$password"
        as_postgres test -x "$1/postgres/data" ||
            fail "the user 'postgres' may not enter $1/postgres: give a directory that everybody may enter"
    fi
    as_postgres "$bin/initdb" -D "$1/postgres/data" -U unilink --auth=scram-sha-256 --pwfile="$password" \
        --encoding=UTF8 --locale=C.UTF-8 >"$1/postgres/initdb.log" 2>&1 ||
        { cat "$1/postgres/initdb.log" >&2; fail "initdb failed"; }
    cat >>"$1/postgres/data/postgresql.conf" <<END
listen_addresses = '127.0.0.1'
port = $(port_of postgres "$1")
unix_socket_directories = ''
max_connections = 200
END
    local setting
    for setting in "${postgres_settings[@]}"; do
        echo "${setting%%=*} = '${setting#*=}'" >>"$1/postgres/data/postgresql.conf"
    done
    touch "$1/postgres/made"
}

start_postgres() { # DIR
    local bin port
    bin=$(postgres_bin)
    port=$(port_of postgres "$1")
    ! living_postgres "$1" >/dev/null || return 0
    ! listening "$port" || fail "port $port of PostgreSQL is taken by another program"
    make_database "$1"
    # Its number may be another program's by now, and PostgreSQL would believe that it still runs.
    rm -f "$1/postgres/data/postmaster.pid"
    as_postgres "$bin/pg_ctl" start -w -t "$READY_SECONDS" -s -D "$1/postgres/data" -l "$1/postgres/log" </dev/null >&2 {held}>&- ||
        { tail -n 20 "$1/postgres/log" >&2; fail "PostgreSQL did not start; the end of its log stands above"; }
    PGPASSWORD=unilink "$bin/psql" -qAtX -h 127.0.0.1 -p "$port" -U unilink -d postgres >&2 <<'END'
SELECT 'CREATE DATABASE unilink' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'unilink') \gexec
END
}

stop_postgres() { # DIR
    local bin
    living_postgres "$1" >/dev/null || return 0
    bin=$(postgres_bin)
    as_postgres "$bin/pg_ctl" stop -w -t 30 -s -m fast -D "$1/postgres/data" >&2 || kill_postgres "$1"
}

# The processes of the connections too: left alone they would end on their own, but a little later, and until then
# PostgreSQL refuses to start on their shared memory.
kill_postgres() { # DIR
    local pid family
    pid=$(living_postgres "$1") || return 0
    # Stopped first, so that it starts no process that we miss.
    kill -s STOP "$pid"
    family=$(awk -v parent="$pid" '/^Pid:/ { self = $2 } /^PPid:/ && $2 == parent { print self }' /proc/[0-9]*/status 2>/dev/null || true)
    # shellcheck disable=SC2086 # words are wanted
    kill -s KILL "$pid" $family 2>/dev/null || true
    # shellcheck disable=SC2086
    await_gone 10 "$pid" $family || fail "PostgreSQL ($pid) does not end"
}

# ---- Both -----------------------------------------------------------------------------------------------------------

print_addresses() { # DIR
    echo "export UNILINK_TEST_KAFKA=127.0.0.1:$(port_of kafka "$1")"
    echo "export UNILINK_TEST_POSTGRES=postgres://unilink:unilink@127.0.0.1:$(port_of postgres "$1")/unilink"
}

up() { # DIR [OPTIONS]
    local dir=$1 kafka_port='' postgres_port='' chosen
    shift
    while (($#)); do
        (($# > 1)) || misuse
        [[ $1 == --postgres-setting && $2 == *=* || $2 =~ ^[0-9]+$ ]] || misuse
        case $1 in
        --kafka-port) kafka_port=$2 ;;
        --postgres-port) postgres_port=$2 ;;
        --postgres-setting) postgres_settings+=("$2") ;;
        *) misuse ;;
        esac
        shift 2
    done
    if [[ ! -e $dir/$MARK ]]; then
        [[ -z $(ls -A "$dir" 2>/dev/null) ]] || fail "$dir holds something else"
        mkdir -p "$dir"
        touch "$dir/$MARK"
        chmod a+x "$dir"
    fi
    hold "$dir"
    postgres_bin >/dev/null
    has_java || fail "Java 17 is missing; '$0 install' installs it"
    fetch_kafka
    # Kafka's controller listens on the port above.
    settle_port kafka "$dir" "$kafka_port" 2
    settle_port postgres "$dir" "$postgres_port" 1
    start_postgres "$dir"
    start_kafka "$dir"
    print_addresses "$dir"
}

down() { # DIR
    [[ -e $1 ]] || return 0
    [[ -e $1/$MARK ]] || fail "$1 was not made by '$0 up'"
    hold "$1"
    stop_kafka "$1"
    stop_postgres "$1"
    rm -rf "$1"
}

main() {
    local command=${1:-} service dir
    (($#)) && shift
    case $command in
    install) (($# == 0)) || misuse; install ;;
    up | down)
        (($# > 0)) || misuse
        dir=$(realpath -m "$1")
        shift
        if [[ $command == up ]]; then up "$dir" "$@"; else (($# == 0)) || misuse; down "$dir"; fi
        ;;
    start | stop | kill)
        (($# == 2)) || misuse
        service=$1 dir=$(realpath -m "$2")
        [[ $service == kafka || $service == postgres ]] || misuse
        [[ -e $dir/$MARK ]] || fail "$dir was not made by '$0 up'"
        hold "$dir"
        "${command}_$service" "$dir"
        ;;
    reset-group) (($# == 3)) || misuse; reset_group "$@" ;;
    -h | --help | help) usage ;;
    *) misuse ;;
    esac
}

main "$@"
