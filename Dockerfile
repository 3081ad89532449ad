# Targets: service (every service of the network, and the `bivouac` command), node-agent (a rig without cards),
# node-agent-cuda (a rig with NVIDIA cards).
#   docker build --target service --tag bivouac-service .
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 \
    PATH=/opt/bivouac/bin:${PATH}
# A base without Python (plain Debian) gets Debian's.
RUN python3 -c 'import ensurepip, venv' 2>/dev/null || \
    { apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*; }
RUN python3 -m venv /opt/bivouac \
    && useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin bivouac
WORKDIR /src
# The distributions without their code: what they need is installed from these, so that a change of our own code does
# not install all of it again.
COPY constraints.txt pyproject.toml README.md ./
COPY sdk/pyproject.toml sdk/pyproject.toml
RUN mkdir --parents libs services sdk/bivouac proto/wire

FROM base AS wheels
COPY proto/wire proto/wire
COPY sdk sdk
COPY libs libs
COPY services services
RUN pip wheel --no-deps --wheel-dir /wheels ./sdk .

FROM base AS service
RUN pip install --constraint constraints.txt ./sdk '.[service]'
COPY --from=wheels /wheels /wheels
RUN pip install --no-deps --force-reinstall /wheels/*.whl \
    # A new volume takes its owner from the directory it is mounted on.
    && python -m services provision --out /provisioned --places \
    && chown --recursive bivouac:bivouac /provisioned
USER bivouac
WORKDIR /home/bivouac
ENTRYPOINT ["python", "-m"]
CMD ["services", "--help"]

FROM base AS node-agent
# torch by its exact version: a range would take the newest build. TORCH_INDEX may name a further package index, one
# that has builds without CUDA, for a smaller image.
ARG TORCH_INDEX=
RUN pip install --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} \
    "$(grep '^torch==' constraints.txt)"
RUN pip install --constraint constraints.txt ./sdk '.[node,workload]'
COPY --from=wheels /wheels /wheels
RUN pip install --no-deps --force-reinstall /wheels/*.whl \
    && install --directory --owner bivouac --group bivouac /var/lib/bivouac
ENV BIVOUAC_NODE_DIRECTORY=/var/lib/bivouac/node BIVOUAC_READY_FILE=/tmp/ready
USER bivouac
WORKDIR /var/lib/bivouac
VOLUME /var/lib/bivouac
# The file is touched every 5 s while the agent is on the network.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD find /tmp/ready -mmin -0.4 | grep -q .
ENTRYPOINT ["python", "-m", "services.node_agent"]

FROM base AS node-agent-cuda
RUN pip install --constraint constraints.txt "$(grep '^torch==' constraints.txt)" \
    && pip install --constraint constraints.txt ./sdk '.[node,workload]'
COPY --from=wheels /wheels /wheels
RUN pip install --no-deps --force-reinstall /wheels/*.whl \
    && install --directory --owner bivouac --group bivouac /var/lib/bivouac
# The NVIDIA container runtime reads the first two and brings the driver in.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    BIVOUAC_NODE_DIRECTORY=/var/lib/bivouac/node BIVOUAC_READY_FILE=/tmp/ready
USER bivouac
WORKDIR /var/lib/bivouac
VOLUME /var/lib/bivouac
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD find /tmp/ready -mmin -0.4 | grep -q .
ENTRYPOINT ["python", "-m", "services.node_agent"]
