# vms-edge as an image: the program, the system's certificate authorities and a C library, nothing else.
#
#   docker build -t vms-edge .
#   docker run -p 8080:8080 -v "$PWD/edge.toml:/etc/vms-edge/edge.toml:ro" vms-edge
#
# The program is linked with Debian's C library, as it is where it was tested and measured, not statically with another.
# There is no shell and no curl in the image, so no HEALTHCHECK: let whoever runs it ask /healthz and /readyz on the admin
# port, as conf/kubernetes does. To be reached from outside the container that port must not listen on loopback:
# admin.listen = "0.0.0.0:9090".

FROM rust:1.88-bookworm AS build
# Which cmake builds it makes no difference to the program.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY examples examples
COPY src src
RUN cargo build --release --locked --bin vms-edge \
    && strip target/release/vms-edge

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/vms-edge /usr/bin/vms-edge
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["/usr/bin/vms-edge"]
CMD ["run", "--config", "/etc/vms-edge/edge.toml"]
