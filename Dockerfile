# One image for every service and for the native worker.

# The worker page, in /static. A build may put a folder that has been built elsewhere in this stage's place.
FROM node:22-slim AS page
WORKDIR /src/web-worker
COPY web-worker/package.json web-worker/package-lock.json ./
RUN npm ci --silent --no-audit --no-fund
COPY libs/shardy_common/engine /src/libs/shardy_common/engine
COPY libs/shardy_common/kernels /src/libs/shardy_common/kernels
COPY web-worker ./
RUN npm run --silent build && mv /src/services/gateway/static /static

FROM python:3.13-slim AS install
WORKDIR /src
RUN python -m venv /opt/shardy
ENV PATH=/opt/shardy/bin:$PATH
COPY requirements/run.txt ./
RUN pip install --no-cache-dir --no-deps --require-hashes -r run.txt
COPY pyproject.toml README.md LICENSE ./
COPY libs libs
COPY services services
COPY --from=page /static services/gateway/static
# the build tool is one of the pinned requirements, so nothing is fetched here
RUN pip install --no-cache-dir --no-deps --no-build-isolation . && pip check && python -m compileall -q /opt/shardy/lib
COPY deploy/health.py /opt/shardy/health.py

FROM python:3.13-slim
COPY --from=install /opt/shardy /opt/shardy
ENV PATH=/opt/shardy/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 10001:10001
WORKDIR /tmp
CMD ["shardy", "--help"]
