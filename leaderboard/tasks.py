"""What the site's worker does: publish, take in what was trained, and sweep up what no message announced."""

from uuid import UUID

from leaderboard import services
from leaderboard.celery import app


@app.task(name="site.publish")
def publish(run_id: str) -> None:
    """Publish a run that a worker says is complete."""
    services.publish_run(UUID(run_id))


@app.task(name="site.take_in")
def take_in() -> None:
    """Submit what a worker says it has trained."""
    services.take_in()


@app.task(name="site.sweep")
def sweep() -> None:
    """Find unseen, unpublished and failed runs, and trainings that nobody took in."""
    services.sweep()
