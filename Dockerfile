# Build:  docker build -t rainbow-server .
# Run:    docker run --rm -p 1984:1984 -v "$PWD/server.ini:/etc/rainbow-server/server.ini:ro" rainbow-server
#
# Container runtimes whose default seccomp profile denies io_uring make the server run on epoll; it says so in its log and
# in /metrics. To allow io_uring, pass a profile that permits io_uring_setup, io_uring_enter and io_uring_register.
FROM debian:bookworm-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl build-essential \
 && rm -rf /var/lib/apt/lists/*
ARG RUST_VERSION=1.95.0
RUN curl -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain "$RUST_VERSION"
ENV PATH=/root/.cargo/bin:$PATH
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin rainbow-server

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --no-create-home --shell /usr/sbin/nologin rainbow
COPY --from=build /src/target/release/rainbow-server /usr/bin/rainbow-server
COPY server.ini /etc/rainbow-server/server.ini
USER rainbow
EXPOSE 1984
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/rainbow-server"]
CMD ["-f", "/etc/rainbow-server/server.ini"]
