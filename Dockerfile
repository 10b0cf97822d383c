# The image of AURA: one for the store's owner, the code location, Dagster's webserver and daemon, MLflow, the dashboard.
# Compilers and development tools stay in the first stage. Most of what is left is PyTorch.
FROM python:3.11.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1
WORKDIR /build
COPY requirements.lock deploy/locked_closure.py ./
# The locked versions with their hashes; nothing else is resolved.
RUN python locked_closure.py requirements.lock > runtime.lock \
 && python -m venv /opt/aura \
 && /opt/aura/bin/pip install --no-deps --require-hashes -r runtime.lock
RUN python locked_closure.py requirements.lock hatchling > builder.lock \
 && python -m venv /opt/builder \
 && /opt/builder/bin/pip install --no-deps --require-hashes -r builder.lock
COPY pyproject.toml README.md ./
COPY aura aura
COPY aura_assets aura_assets
COPY app app
COPY resources resources
COPY sensors sensors
RUN /opt/builder/bin/hatchling build -t wheel -d dist \
 && /opt/aura/bin/pip install --no-deps --no-index dist/*.whl

FROM python:3.11.13-slim-bookworm
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/aura --shell /usr/sbin/nologin aura \
 && install -d -m 0700 -o aura -g aura /var/lib/aura /var/lib/mlflow /run/aura
COPY --from=build /opt/aura /opt/aura
WORKDIR /project
COPY app app
COPY .streamlit .streamlit
COPY deploy/dagster.yaml deploy/workspace.compose.yaml deploy/
ENV PATH=/opt/aura/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    AURA_HOME=/var/lib/aura \
    DAGSTER_HOME=/var/lib/aura/dagster \
    XDG_RUNTIME_DIR=/run/aura \
    MLFLOW_DISABLE_TELEMETRY=true
USER aura
CMD ["aura", "--help"]
