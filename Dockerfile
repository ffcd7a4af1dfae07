# The broker's image; docs/image.md says how to build and run it.
#
# Base images are named by the most exact tag that there is. They have no digests yet, as none could be looked up where
# this was written: CI that reaches the registries has to add them, and Dependabot then renews tag and digest together.
# Both stages are of the same Debian release, as a binary does not run on an older glibc than it was linked with.

# The compiler's exact version. "slim" has gcc, the only other tool that the C parts (ring, aws-lc) need.
FROM docker.io/library/rust:1.95.0-slim-trixie AS build

# What is in a broker for production: neither the embedded engine nor the simulated CSP.
ARG FEATURES=otlp
# "image-check" compiles faster, for checks of this file.
ARG PROFILE=release

WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY dashboard dashboard

# Dependencies stay compiled in a cache mount, so that a build after a change compiles this crate alone; cargo itself
# knows what is out of date. It compares times, though, and files of another checkout may be older than what was
# compiled last: "touch" makes sure that what goes into the image is this source. The cache is locked, as two builds
# at once would take each other's binary, and has a folder for each architecture.
RUN --mount=type=cache,id=sandbox-broker-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=sandbox-broker-target,target=/build/target,sharing=locked \
    touch src/main.rs src/lib.rs \
    && target="target/$(uname -m)" \
    && cargo build --locked --profile "$PROFILE" --no-default-features --features "$FEATURES" --bin sandbox-broker \
        --target-dir "$target" \
    && install -D -m 0555 "$target/$PROFILE/sandbox-broker" /out/sandbox-broker

# glibc, libgcc, CA certificates (both HTTPS clients use the system's) and a user 65532, but no shell and no package
# manager: less to attack, and less for scanners to find. It has rolling tags only, so its digest is what will pin it.
FROM gcr.io/distroless/cc-debian13:nonroot

COPY --from=build /out/sandbox-broker /sandbox-broker

# Not the user's home: the broker reads .env in its working directory, and here nobody but root can put one.
WORKDIR /
# By number, so that Kubernetes' runAsNonRoot can see that it is not root.
USER 65532:65532

# Nobody else reaches a container's loopback. Wherever it listens, DynamoDB makes the broker insist on proper tokens.
ENV STORE=dynamodb \
    HOST=0.0.0.0 \
    LOG_FORMAT=json

EXPOSE 8080
STOPSIGNAL SIGTERM
# For "serve"; another command serves no HTTP and needs --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/sandbox-broker", "healthcheck"]
ENTRYPOINT ["/sandbox-broker"]
CMD ["serve"]

# Last, as they differ from build to build.
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="sandbox-broker" \
      org.opencontainers.image.description="Leases pre-created Infoblox CSP sandbox accounts to Instruqt lab plays" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"
