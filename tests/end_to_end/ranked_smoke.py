"""The site's settings with its smallest protocol made a ranked one: a whole story of an entry fits into a minute."""

from dataclasses import replace

from evaluator.protocol import Examples
from evaluator.shipped import PROTOCOLS, SMOKE
from leaderboard.settings import *  # noqa: F403  # the very same site otherwise

_FEW = Examples(test=4, train=0)

PROTOCOLS["smoke"] = (
    replace(
        SMOKE,
        robust_loss_examples=Examples(test=12, train=0),
        autoattack_examples=_FEW,
        flatness_examples=_FEW,
        rankable=True,
    ),
)
