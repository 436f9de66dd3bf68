"""The stores of each test in a folder of their own, as in the tests of the site."""

from tests.leaderboard.conftest import nudges

__all__ = ["nudges"]
