# docker build -t hookcast .                     (the last stage is the target `app`)
# docker run -p 8000:8000 -v hookcast:/var/lib/hookcast hookcast
#
# The two big steps are layers of their own: dependencies, which change with requirements/, and the application.
ARG BASE=python:3.13-slim

FROM ${BASE} AS dependencies
ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /build
RUN apt-get update -qq && apt-get install -qq --no-install-recommends binutils >/dev/null
COPY requirements/uv.txt requirements/app.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /uv && /uv/bin/pip install --disable-pip-version-check --require-hashes -r requirements/uv.txt
# A venv without pip. Only wheels: a source distribution would need a compiler, and would run code while building.
RUN --mount=type=cache,target=/root/.cache/uv \
    /uv/bin/uv venv --python "$(command -v python)" /opt/hookcast \
 && /uv/bin/uv pip install --python /opt/hookcast/bin/python --require-hashes --only-binary :all: --compile-bytecode \
      -r requirements/app.txt \
 # What only debuggers and compilers read: symbols (three quarters of uvloop), stubs, sources.
 && find /opt/hookcast -name '*.so' -exec strip --strip-debug {} + \
 && find /opt/hookcast -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.[ch]' \) -delete

FROM dependencies AS application
COPY requirements/dev.txt requirements/
COPY pyproject.toml README.md LICENSE ./
COPY core core
COPY operator operator
COPY app app
# What builds the wheel is locked as well: dev.txt has the build backend's hashes.
RUN --mount=type=cache,target=/root/.cache/uv \
    /uv/bin/uv build --wheel --python /opt/hookcast/bin/python --out-dir /wheel \
      --build-constraints requirements/dev.txt --require-hashes \
 && /uv/bin/uv pip install --python /opt/hookcast/bin/python --prefix /install --no-deps --compile-bytecode /wheel/*.whl

FROM ${BASE} AS app
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="hookcast" \
      org.opencontainers.image.description="Realtime broadcast and reliable webhooks" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Group 0 may write as well: a user id of the platform's choosing (docker run --user 12345) has that group.
RUN install -d -o 10001 -g 0 -m 0770 /var/lib/hookcast
COPY --from=dependencies /opt/hookcast /opt/hookcast
COPY --from=application /install /opt/hookcast
# Settings rather than arguments, so that `docker run IMAGE serve --manifests DIR` keeps them.
ENV PATH=/opt/hookcast/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOOKCAST_HOST=0.0.0.0 \
    HOOKCAST_ADMIN_HOST=0.0.0.0 \
    HOOKCAST_DATA_DIR=/var/lib/hookcast \
    HOOKCAST_LOG_FORMAT=json
WORKDIR /var/lib/hookcast
VOLUME /var/lib/hookcast
EXPOSE 8000 9090
USER 10001:0
STOPSIGNAL SIGTERM
ENTRYPOINT ["hookcast"]
CMD ["serve"]
