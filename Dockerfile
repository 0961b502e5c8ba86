# syntax=docker/dockerfile:1
# unilink in an image: built with TLS to Kafka, run by a user without rights. `docker-compose.yml` shows it at work.

FROM rust:1.95-slim-bookworm AS build
# A C++ compiler and make for librdkafka, OpenSSL for its TLS.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ make pkg-config libssl-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --features kafka-tls --bin unilink \
    && install -D target/release/unilink /out/unilink

FROM debian:bookworm-slim
# Certificates to know WeChat by, and the OpenSSL that librdkafka was linked with.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/unilink --shell /usr/sbin/nologin unilink \
    && install -d -o unilink -g unilink -m 0700 /var/lib/unilink/keys \
    && install -d -o unilink -g unilink -m 0755 /var/lib/unilink /var/lib/unilink/public
COPY --from=build /out/unilink /usr/local/bin/unilink
COPY --chmod=0755 docker/ready.sh /usr/local/bin/ready
USER unilink
WORKDIR /var/lib/unilink
# Where `ready` asks: the port of the role that runs.
ENV READY_PORT=8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["ready"]
ENTRYPOINT ["unilink"]
CMD ["--help"]
