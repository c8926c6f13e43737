# syntax=docker/dockerfile:1
# Targets: `server` (API, controller, command line, Ray head; CPU) and `gpu-worker` (the same code beside vLLM).
# The Python of both targets must agree to the minor version: Ray refuses to mix them.

ARG VLLM_VERSION=0.32.0

FROM python:3.12-slim AS server
WORKDIR /opt/ropewalk
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY sdk sdk
COPY search_space search_space
COPY evaluation evaluation
COPY storage storage
COPY workers workers
COPY finetune finetune
COPY service service
COPY api api
COPY examples/pocket/model examples/pocket/model
RUN pip install --no-cache-dir --constraint constraints.txt ./sdk ".[s3]"
RUN useradd --create-home --uid 1000 ropewalk \
    && mkdir -p /var/lib/ropewalk /models \
    && chown ropewalk /var/lib/ropewalk
ENV ROPEWALK_HOME=/var/lib/ropewalk
WORKDIR /var/lib/ropewalk
USER ropewalk
EXPOSE 8000
ENTRYPOINT ["ropewalk"]
CMD ["serve"]

FROM vllm/vllm-openai:v${VLLM_VERSION} AS gpu-worker
WORKDIR /opt/ropewalk
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY sdk sdk
COPY search_space search_space
COPY evaluation evaluation
COPY storage storage
COPY workers workers
COPY finetune finetune
COPY service service
COPY api api
COPY examples/pocket/model examples/pocket/model
# The image brings torch and vLLM for CUDA; only what is missing is added, at the versions that the server has.
RUN grep -vE '^(torch|numpy|nvidia|triton)' constraints.txt > gpu-constraints.txt \
    && pip install --no-cache-dir --constraint gpu-constraints.txt ./sdk ".[s3]"
RUN useradd --create-home --uid 1000 ropewalk \
    && mkdir -p /var/lib/ropewalk /models \
    && chown ropewalk /var/lib/ropewalk
ENV ROPEWALK_HOME=/var/lib/ropewalk
WORKDIR /var/lib/ropewalk
USER ropewalk
ENTRYPOINT ["ropewalk"]
CMD ["worker"]
