# Images of jde: `docker build --target cpu .` and `--target cuda`. docs/operators.md has commands.
#
# Both have the same steps: torch's packages bring CUDA with them, so an image of NVIDIA would hold it
# twice, and the host gives the driver. No package is compiled, so no stage has a compiler.
# tests/run_dockerfile.py runs the steps below in an empty folder; write folders as variables there.

# the Python with which the versions of constraints.txt were run
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
# index of torch's builds for CPUs, without the GPU libraries (3 GB); empty: pip's own
ARG TORCH_INDEX=""
# of pyproject.toml, such as [hub,onnx]
ARG EXTRAS=""
# for `jde --version`: .git is not sent to the build
ARG COMMIT=""
ENV VIRTUAL_ENV=/opt/jde-ray SOURCE=/src PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
ENV PATH=${VIRTUAL_ENV}/bin:${PATH}
WORKDIR ${SOURCE}
RUN python3 -m venv "$VIRTUAL_ENV"
COPY constraints.txt pyproject.toml ./
RUN pip install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
# the other packages, so that a change of the code alone installs nothing of them again
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > requirements.txt \
    && pip install -c constraints.txt -r requirements.txt
COPY . .
RUN JDE_COMMIT="$COMMIT" pip install -c constraints.txt ".$EXTRAS"

FROM ${PYTHON} AS jde
# wget: KubeRay's probes of a service; rsync: `ray up` brings the token with it. Without versions, as
# Debian drops one when its next fix comes
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends rsync wget \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 1000 --user-group --create-home jde && install -d -o jde -g jde /data
ENV VIRTUAL_ENV=/opt/jde-ray
COPY --from=build ${VIRTUAL_ENV} ${VIRTUAL_ENV}
ENV PATH=${VIRTUAL_ENV}/bin:${PATH} PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0
USER 1000:1000
WORKDIR /data
ENTRYPOINT ["jde"]
CMD ["--help"]

FROM jde AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# the default, since it runs everywhere
FROM jde AS cpu
ENV CUDA_VISIBLE_DEVICES=""
