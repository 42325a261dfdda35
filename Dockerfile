# Build:  docker build -t rainbow-server .
# Run:    docker run --rm -p 1984:1984 -v "$PWD/server.ini:/etc/rainbow-server/server.ini:ro" rainbow-server
# Debug symbols of the same build:  docker build --target symbols --output symbols .
#
# Container runtimes whose default seccomp profile denies io_uring make the server run on epoll; it says so in its log and
# in /metrics. To allow io_uring, pass a profile that permits io_uring_setup, io_uring_enter and io_uring_register.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin rainbow-server \
 && cd target/release \
 && objcopy --only-keep-debug --compress-debug-sections rainbow-server rainbow-server.debug \
 && objcopy --strip-unneeded --add-gnu-debuglink=rainbow-server.debug rainbow-server

# Beside the binary, or in /usr/lib/debug/usr/bin, the file gives backtraces their names.
FROM scratch AS symbols
COPY --from=build /src/target/release/rainbow-server.debug /

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --user-group --no-create-home --shell /usr/sbin/nologin rainbow-server \
 && install -d -m 0700 -o rainbow-server -g rainbow-server /run/rainbow-server
COPY --from=build /src/target/release/rainbow-server /usr/bin/rainbow-server
COPY server.ini /etc/rainbow-server/server.ini
USER rainbow-server
EXPOSE 1984
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/rainbow-server"]
CMD ["-f", "/etc/rainbow-server/server.ini"]
