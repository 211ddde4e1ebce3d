# docker build -t hookcast .                                  (the last stage is the target `app`)
# docker build -t hookcast-operator --target operator .
# docker run -p 8000:8000 -v hookcast:/var/lib/hookcast hookcast
#
# The two big steps of each are layers of their own: dependencies, which change with requirements/, and the package.
ARG BASE=python:3.13-slim

FROM ${BASE} AS tools
ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_PYTHON=/opt/hookcast/bin/python
WORKDIR /build
RUN apt-get update -qq && apt-get install -qq --no-install-recommends binutils >/dev/null
COPY requirements/uv.txt requirements/
# /opt/hookcast is a venv without pip.
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /uv && /uv/bin/pip install --disable-pip-version-check --require-hashes -r requirements/uv.txt \
 && /uv/bin/uv venv --python "$(command -v python)" /opt/hookcast

# Only wheels: a source distribution would need a compiler, and would run code while building. Then goes what only
# debuggers and compilers read: symbols (three quarters of uvloop), stubs, sources.
FROM tools AS app-dependencies
COPY requirements/app.txt requirements/
RUN --mount=type=cache,target=/root/.cache/uv \
    /uv/bin/uv pip install --require-hashes --only-binary :all: --compile-bytecode -r requirements/app.txt \
 && find /opt/hookcast -name '*.so' -exec strip --strip-debug {} + \
 && find /opt/hookcast -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.[ch]' \) -delete

FROM tools AS operator-dependencies
COPY requirements/operator.txt requirements/
RUN --mount=type=cache,target=/root/.cache/uv \
    /uv/bin/uv pip install --require-hashes --only-binary :all: --compile-bytecode -r requirements/operator.txt \
 && find /opt/hookcast -name '*.so' -exec strip --strip-debug {} + \
 && find /opt/hookcast -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.[ch]' \) -delete

FROM tools AS package
COPY requirements/dev.txt requirements/
COPY pyproject.toml README.md LICENSE ./
COPY core core
COPY operator operator
COPY app app
# What builds the wheel is locked as well: dev.txt has the build backend's hashes.
RUN --mount=type=cache,target=/root/.cache/uv \
    /uv/bin/uv build --wheel --python "$UV_PYTHON" --out-dir /wheel \
      --build-constraints requirements/dev.txt --require-hashes \
 && /uv/bin/uv pip install --prefix /install --no-deps --compile-bytecode /wheel/*.whl

FROM ${BASE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/hookcast/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:0
STOPSIGNAL SIGTERM

FROM runtime AS operator
LABEL org.opencontainers.image.title="hookcast-operator" \
      org.opencontainers.image.description="Takes Hookcast's custom resources into its dispatcher's configuration"
COPY --from=operator-dependencies /opt/hookcast /opt/hookcast
COPY --from=package /install /opt/hookcast
EXPOSE 9090
ENTRYPOINT ["hookcast-operator"]

FROM runtime AS app
LABEL org.opencontainers.image.title="hookcast" \
      org.opencontainers.image.description="Realtime broadcast and reliable webhooks"
# Group 0 may write as well: a user id of the platform's choosing (docker run --user 12345) has that group.
USER 0
RUN install -d -o 10001 -g 0 -m 0770 /var/lib/hookcast
USER 10001:0
COPY --from=app-dependencies /opt/hookcast /opt/hookcast
COPY --from=package /install /opt/hookcast
# Settings rather than arguments, so that `docker run IMAGE serve --manifests DIR` keeps them.
ENV HOOKCAST_HOST=0.0.0.0 \
    HOOKCAST_ADMIN_HOST=0.0.0.0 \
    HOOKCAST_DATA_DIR=/var/lib/hookcast \
    HOOKCAST_LOG_FORMAT=json
WORKDIR /var/lib/hookcast
VOLUME /var/lib/hookcast
EXPOSE 8000 9090
ENTRYPOINT ["hookcast"]
CMD ["serve"]
