# The site: its web server and, with another command, its worker. There is no torch in it.
# docker build --file docker/web.Dockerfile --tag robust-leaderboard-web .
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN python3 -m venv /venv \
    && /venv/bin/python -m pip install --no-cache-dir --constraint constraints.txt '.[s3]'

FROM python:3.11.14-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin leaderboard \
    && install --directory --owner=leaderboard --group=leaderboard \
        /app/var /app/var/artifacts /app/var/data /app/var/training
WORKDIR /app
COPY --from=build /venv /venv
COPY manage.py CHANGELOG.md ./
COPY evaluator ./evaluator
COPY trainers ./trainers
COPY leaderboard ./leaderboard
COPY docker/alive.py ./docker/alive.py
ENV PATH=/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STATIC_ROOT=/app/static \
    WEB_CONCURRENCY=2
# The secret is for this line alone: without one, the site would make one and keep it in the image.
RUN SECRET_KEY=unused python manage.py collectstatic --no-input
USER 10001:10001
VOLUME ["/app/var", "/tmp"]
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s \
    CMD ["python", "docker/alive.py", "http://127.0.0.1:8000/healthz"]
# Heartbeat files lie in memory: on a slow disk the processes would be taken for dead.
CMD ["gunicorn", "leaderboard.wsgi:application", "--bind=0.0.0.0:8000", "--threads=4", \
     "--worker-tmp-dir=/dev/shm", "--no-control-socket", "--access-logfile=-"]
