"""What the site's worker does: publish what is complete, and sweep up what no message announced."""

from uuid import UUID

from leaderboard import services
from leaderboard.celery import app


@app.task(name="site.publish")
def publish(run_id: str) -> None:
    """Publish a run that a worker says is complete."""
    services.publish_run(UUID(run_id))


@app.task(name="site.sweep")
def sweep() -> None:
    """Find unseen, unpublished and failed runs."""
    services.sweep()
