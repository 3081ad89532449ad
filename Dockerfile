# Targets: service (all services of the network), node-agent (a CPU rig), node-agent-cuda (a rig with NVIDIA cards).
#   docker build --target service -t bivouac-service .
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 \
    PATH=/opt/bivouac/bin:${PATH}
# A base without Python (plain Debian) gets Debian's.
RUN python3 -c 'import venv, ensurepip' 2>/dev/null || \
    { apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*; }
RUN python3 -m venv /opt/bivouac \
    && useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin bivouac \
    && install --directory --owner bivouac --group bivouac /var/lib/bivouac
WORKDIR /src
COPY constraints.txt pyproject.toml README.md ./
COPY proto/wire proto/wire
COPY sdk sdk
COPY libs libs
COPY services services

FROM base AS service
RUN pip install --constraint constraints.txt ./sdk '.[service]'
WORKDIR /var/lib/bivouac
USER bivouac
VOLUME /var/lib/bivouac
ENTRYPOINT ["python", "-m", "services"]
CMD ["--help"]

FROM base AS node-agent
# torch by its exact version: a range would take whatever build is newest.
RUN pip install --constraint constraints.txt "$(grep '^torch==' constraints.txt)" \
    && pip install --constraint constraints.txt ./sdk '.[node,workload]'
WORKDIR /var/lib/bivouac
USER bivouac
VOLUME /var/lib/bivouac
ENV BIVOUAC_NODE_DIRECTORY=/var/lib/bivouac/node
ENTRYPOINT ["python", "-m", "services.node_agent"]

FROM node-agent AS node-agent-cuda
# The NVIDIA container runtime reads these and brings the driver in.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
