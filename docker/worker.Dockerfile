# A measuring worker or, with `trainers.worker` and the queue `training`, a training worker, for one GPU.
# It holds nothing of the site: neither its code nor, as it needs no Django settings, any of its secrets.
# docker build --file docker/worker.Dockerfile --tag robust-leaderboard-worker .
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
# torch comes from PyPI as its CUDA build, which brings all of CUDA but the driver; the host has that.
RUN python3 -m venv /venv \
    && /venv/bin/python -m pip install --no-cache-dir --constraint constraints.txt '.[measure,s3]'

FROM python:3.11.14-slim-bookworm
# The better walls around strangers' weights, where the engine allows user namespaces; the plain ones need nothing.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin leaderboard \
    && install --directory --owner=leaderboard --group=leaderboard \
        /app/var /app/var/artifacts /app/var/data /app/var/training
WORKDIR /app
COPY --from=build /venv /venv
COPY evaluator ./evaluator
COPY trainers ./trainers
# glibc would give large blocks back to the system at every step of an attack and ask for them again.
ENV PATH=/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MALLOC_MMAP_THRESHOLD_=1073741824 \
    MALLOC_TRIM_THRESHOLD_=1073741824 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
VOLUME ["/app/var", "/tmp"]
# The worker's parent answers while its child measures. Any application will do to ask: they share the broker.
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s \
    CMD ["sh", "-c", "exec python -m celery --app=evaluator.worker inspect ping --timeout=20 --destination=worker@$(hostname)"]
ENTRYPOINT ["python", "-m", "celery"]
CMD ["--app=evaluator.worker", "worker", "--pool=prefork", "--concurrency=1", "--queues=evaluation", \
     "--hostname=worker@%h", "--loglevel=INFO"]
