# The broker's image. docs/image.md describes how to build and run it.
#
# Base images are pinned by their most specific tag. Digests are still to be added, from an environment that can reach
# the registries; Dependabot then updates tag and digest together. Both stages use the same Debian release, because a
# binary does not run on an older glibc than the one it was linked with.

# "slim" includes gcc, the only other tool that the C dependencies (ring, aws-lc) need.
FROM docker.io/library/rust:1.95.0-slim-trixie AS build

# The features of a production broker: without the embedded engine and the simulator.
ARG FEATURES=otlp
# "image-check" compiles faster, for testing this file.
ARG PROFILE=release

WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY dashboard dashboard

# A cache mount keeps compiled dependencies, so a rebuild compiles only this crate. Cargo detects changes by
# modification time, and the files of another checkout may be older than the last build: "touch" guarantees that the
# image contains this source. The cache is locked, because concurrent builds would overwrite each other's binary, and
# has one folder per architecture.
RUN --mount=type=cache,id=sandbox-broker-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=sandbox-broker-target,target=/build/target,sharing=locked \
    touch src/main.rs src/lib.rs \
    && target="target/$(uname -m)" \
    && cargo build --locked --profile "$PROFILE" --no-default-features --features "$FEATURES" --bin sandbox-broker \
        --target-dir "$target" \
    && install -D -m 0555 "$target/$PROFILE/sandbox-broker" /out/sandbox-broker

# glibc, libgcc, CA certificates (both HTTPS clients use the system's) and a user 65532, but no shell and no package
# manager: a smaller attack surface. The image has only rolling tags, so only a digest can pin it.
FROM gcr.io/distroless/cc-debian13:nonroot

COPY --from=build /out/sandbox-broker /sandbox-broker

# The broker reads .env from its working directory. Only root can write to this one.
WORKDIR /
# Numeric, so that Kubernetes' runAsNonRoot can verify it.
USER 65532:65532

# All interfaces, because a container's loopback address is unreachable from outside. With STORE=dynamodb the broker
# rejects the development tokens on any address.
ENV STORE=dynamodb \
    HOST=0.0.0.0 \
    LOG_FORMAT=json

EXPOSE 8080
STOPSIGNAL SIGTERM
# For "serve". Other commands serve no HTTP and need --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/sandbox-broker", "healthcheck"]
ENTRYPOINT ["/sandbox-broker"]
CMD ["serve"]

# Last, because these values change with every build and would invalidate the cache of later layers.
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="sandbox-broker" \
      org.opencontainers.image.description="Leases pre-created Infoblox CSP sandbox accounts to Instruqt lab plays" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"
