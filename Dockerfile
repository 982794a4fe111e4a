# The image of Tidegate: the binary, the libraries it links to, the public authorities, and nothing else.
#
#   docker build -t tidegate:0.1.0 .                                  from source
#   docker build -t tidegate:0.1.0 --target prebuilt \
#     --build-arg BINARY=target/release/tidegate .                    of a binary that is there already
#   docker buildx bake                                                amd64 and arm64, see docker-bake.hcl
#
#   docker run --rm --read-only tidegate:0.1.0 demo

# What both ways share, in the image's words. There is no shell in it, so the binary asks itself how it is.
FROM scratch AS image
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tidegate" \
      org.opencontainers.image.description="Kafka topics into a Delta lake and a PostgreSQL warehouse, each record exactly once in each" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/usr/bin \
    TIDEGATE_CONFIG=/etc/tidegate/tidegate.yaml
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8080 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/usr/bin/tidegate", "health"]
ENTRYPOINT ["/usr/bin/tidegate"]
CMD ["run"]

# Where the image's files are put together.
FROM debian:12.12-slim AS root
RUN apt-get update \
    && apt-get install -y --no-install-recommends binutils ca-certificates zlib1g \
    && rm -rf /var/lib/apt/lists/*
COPY dist/image/pack /usr/local/bin/pack

# A binary that was compiled before, for Linux and with a C library no newer than this Debian's (2.36).
# With several platforms each has one: BINARY=bin/tidegate takes bin/tidegate-amd64 and bin/tidegate-arm64,
# if there are such, else bin/tidegate.
FROM root AS prebuilt-files
ARG BINARY=target/release/tidegate
COPY ${BINARY}* /prebuilt/
RUN file=/prebuilt/$(basename "${BINARY}") platform=$(dpkg --print-architecture) \
    && if [ -e "$file-$platform" ]; then file=$file-$platform; fi \
    && pack "$file" /image /image-own

FROM image AS prebuilt
COPY --from=prebuilt-files /image /
# The one folder it writes to, and where `demo` leaves its own. Being a volume, it can be written to where the
# root is read-only; the node file says `volume: /var/lib/tidegate`.
COPY --from=prebuilt-files --chown=65532:65532 /image-own /var/lib
WORKDIR /var/lib/tidegate
VOLUME /var/lib/tidegate

# From here on BuildKit is needed. The compiler always runs on the machine's own platform and compiles for
# the target's: under emulation these 500 crates would take hours.
FROM --platform=${BUILDPLATFORM} rust:1.95.0-slim-bookworm AS toolchain
ARG BUILDARCH
ARG TARGETARCH
RUN case "$TARGETARCH" in \
        amd64) machine=x86_64 package=x86-64 ;; \
        arm64) machine=aarch64 package=aarch64 ;; \
        *) echo "no such platform here: $TARGETARCH" >&2; exit 1 ;; \
    esac \
    && if [ "$TARGETARCH" = "$BUILDARCH" ]; then compilers="gcc g++"; \
       else compilers="gcc-$package-linux-gnu g++-$package-linux-gnu libc6-dev-$TARGETARCH-cross"; fi \
    && apt-get update \
    && apt-get install -y --no-install-recommends $compilers gcc g++ make perl \
    && rm -rf /var/lib/apt/lists/* \
    && rustup target add "$machine-unknown-linux-gnu" \
    && echo "$machine" >/machine
# The C libraries' build scripts know no target: CC is the target's compiler and HOST_CC this machine's.
# zlib is compiled in, as OpenSSL and librdkafka are.
ENV LIBZ_SYS_STATIC=1 \
    HOST_CC=gcc \
    HOST_CXX=g++ \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
COPY dist/image/cargo-for-target /usr/local/bin/cargo-for-target
WORKDIR /build

# The dependencies, for as long as the lock file stays as it is: of Tidegate itself only empty files.
FROM toolchain AS dependencies
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches \
    && echo 'fn main() {}' | tee src/main.rs >benches/limits.rs \
    && touch src/lib.rs \
    && cargo-for-target build --release --locked --bin tidegate

FROM dependencies AS build
COPY migrations migrations
COPY examples/ksql_queries.sql examples/
COPY src src
# Cargo goes by times, and those of the checkout may be older than the empty files'.
RUN touch src/main.rs src/lib.rs \
    && cargo-for-target build --release --locked --bin tidegate \
    && mv "target/$(cat /machine)-unknown-linux-gnu/release/tidegate" /tidegate

FROM root AS files
COPY --from=build /tidegate /tidegate
RUN pack /tidegate /image /image-own

FROM image AS tidegate
COPY --from=files /image /
COPY --from=files --chown=65532:65532 /image-own /var/lib
WORKDIR /var/lib/tidegate
VOLUME /var/lib/tidegate
