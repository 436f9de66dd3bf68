import pytest

from trainers.schedules import factor
from trainers.settings import CyclicSettings, MultiStepSettings


def test_multi_step_drops_at_its_milestones() -> None:
    schedule = MultiStepSettings(kind="multi-step", milestones=(0.4, 0.6), factor=0.1)
    seen = [factor(schedule, step / 10) for step in range(10)]
    assert seen == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01])


def test_cyclic_climbs_and_falls_in_straight_lines() -> None:
    schedule = CyclicSettings(kind="cyclic", cycles=2)
    seen = [factor(schedule, step / 8) for step in range(8)]
    assert seen == pytest.approx([0, 0.5, 1, 0.5, 0, 0.5, 1, 0.5])
