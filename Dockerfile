# `mtcae` in a container: docker build -t mtcae . && docker run --rm -v "$PWD:/videos" mtcae infer /videos/a.mp4
FROM rust:1-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv
WORKDIR /mtcae
COPY . .
RUN scripts/dist.sh --no-check && mv target/dist/mtcae-*/ /mtcae-dist

FROM debian:bookworm-slim
COPY --from=build /mtcae-dist /opt/mtcae
RUN ln -s /opt/mtcae/mtcae /usr/local/bin/mtcae
WORKDIR /videos
ENTRYPOINT ["mtcae"]
