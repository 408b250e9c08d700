# Deputy in a container: docs/operations.md says how to run it.
FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/deputy
COPY requirements.lock /tmp/requirements.lock
RUN /opt/deputy/bin/python -m pip install --require-hashes --only-binary=:all: -r /tmp/requirements.lock
# What `make run` does in a checkout: the code is importable from where it lies, and `deputy` is a command.
RUN /opt/deputy/bin/python -c 'import pathlib, sysconfig; (pathlib.Path(sysconfig.get_path("purelib")) / "deputy.pth").write_text("/srv/deputy\n")' \
 && printf '#!/opt/deputy/bin/python\nimport sys\nfrom app.__main__ import main\nsys.exit(main())\n' > /opt/deputy/bin/deputy \
 && chmod 755 /opt/deputy/bin/deputy

FROM python:3.11-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin deputy \
 && install -d -o deputy -g deputy -m 700 /data
COPY --from=build /opt/deputy /opt/deputy
COPY . /srv/deputy
# The root file system may be read-only: bytecode is made here, and all that changes lies in /data.
RUN /opt/deputy/bin/python -m compileall -q /srv/deputy/app
ENV PATH=/opt/deputy/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DEPUTY_ENVIRONMENT=production \
    DEPUTY_BIND_HOST=0.0.0.0 \
    DEPUTY_MTLS_BIND_HOST=0.0.0.0 \
    DEPUTY_VAR_DIR=/data/var \
    DEPUTY_KEYS_DIR=/data/keys
WORKDIR /srv/deputy
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ.get('DEPUTY_PORT', '8000') + '/healthz', timeout=3)"]
CMD ["deputy", "serve"]
