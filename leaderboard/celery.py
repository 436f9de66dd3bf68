"""The Celery application of the site's own tasks: queue `site`, and a beat that sweeps."""

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging

from evaluator import logs
from evaluator.broker import SITE_QUEUE, broker_settings
from evaluator.environment import read_environment

SWEEP_SECONDS = 15.0

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "leaderboard.settings")

app = Celery("leaderboard", include=["leaderboard.tasks"])


def _settings() -> dict[str, Any]:
    return broker_settings(read_environment().broker_url) | {
        "task_default_queue": SITE_QUEUE,
        "beat_schedule": {"sweep": {"task": "site.sweep", "schedule": SWEEP_SECONDS, "options": {"expires": 15}}},
        "beat_scheduler": "celery.beat:Scheduler",  # in memory: a sweep too many does no harm
    }


app.add_defaults(_settings)  # read when first needed, not at import
setup_logging.connect(logs.set_up)
