"""Tests of the site; importing this package sets Django up, once."""

import os

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "leaderboard.settings"
os.environ.setdefault("SECRET_KEY", "for tests only")
django.setup()
