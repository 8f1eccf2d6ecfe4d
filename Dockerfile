# syntax=docker/dockerfile:1
# docker build -t mprnet_lit .
# docker build -t mprnet_lit:cu130 --build-arg TORCH=cu130 .   (NVIDIA GPUs)
# docs/containers.md explains how to run the image.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim-bookworm AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY conf conf
COPY src src
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /wheel .

FROM python:${PYTHON}-slim-bookworm
# Build of torch: cpu, or a CUDA version for which https://download.pytorch.org/whl has a folder.
ARG TORCH=cpu
# Optional dependencies, as in pyproject.toml.
ARG EXTRAS=heic,report,serve,video

# On a GPU, torch.compile needs a C compiler. Debian removes replaced versions of a package.
# hadolint ignore=DL3008
RUN if [ "$TORCH" != cpu ]; then \
      apt-get update \
      && apt-get install -y --no-install-recommends gcc libc6-dev \
      && rm -rf /var/lib/apt/lists/*; \
    fi

# torch has its own step, because it is by far the largest package and rarely changes.
WORKDIR /install
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -c constraints.txt --index-url "https://download.pytorch.org/whl/${TORCH}" torch
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install -c constraints.txt "$(echo /wheel/*.whl)[${EXTRAS}]"

# Any user may write to both folders, so that `docker run --user` works with every number.
RUN useradd --uid 1000 --create-home mprnet \
    && install --directory --mode 1777 /data \
    && chmod 1777 /home/mprnet
ENV HOME=/home/mprnet \
    USER=mprnet \
    PYTHONUNBUFFERED=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /data
EXPOSE 7860
ENTRYPOINT ["mprnet_lit"]
CMD ["--help"]
