"""Committed checkpoints keep their committed numbers, and the robust one its AutoAttack outcomes image by image."""

import copy
import json
from pathlib import Path

import pytest
import torch
from pyautoattack import AutoAttack

from evaluator.attacks.autoattack import first_broken_by
from evaluator.checkpoints import load_model, open_checkpoint
from evaluator.datasets import load_dataset
from evaluator.metrics import METRICS, Unit
from evaluator.observed import observed
from evaluator.shipped import DIGITS_DEMO
from evaluator.types import Split
from fixtures import make_golden

GOLDEN = json.loads(make_golden.GOLDEN.read_text())
ROBUST = Path(make_golden.FOLDER) / "digits-at.safetensors"


@pytest.mark.parametrize("name", make_golden.CASES)
def test_numbers_equal_the_golden_ones(name):
    result = make_golden.measure(name)
    assert set(GOLDEN["values"][name]) == {m.column for m in result.measurements}
    for m in result.measurements:
        tolerance = 0 if METRICS[m.metric].unit is Unit.FRACTION else GOLDEN["loss_tolerance_nats"]
        assert m.value == pytest.approx(GOLDEN["values"][name][m.column], abs=tolerance), m.column


def test_the_demos_robust_network_falls_to_autoattack_image_by_image_as_by_the_package_itself():
    model = load_model(open_checkpoint(ROBUST))
    settings, budget = DIGITS_DEMO.autoattack, DIGITS_DEMO.threat_model
    images, labels = load_dataset("digits").examples(Split.TEST, 0, 24)
    with observed(model):
        ours, _ = first_broken_by(model, images, labels, threat_model=budget, settings=settings)
    with torch.random.fork_rng():
        direct = AutoAttack(
            copy.deepcopy(model), norm=budget.norm.value, eps=budget.epsilon, version="standard", seed=settings.seed
        )
        direct.verbose = False
        _, predictions = direct.run_standard_evaluation(images, labels, batch_size=settings.chunk_size)
    assert [outcome == "robust" for outcome in ours] == (predictions == labels).tolist()
    assert 0.2 < ours.count("robust") / len(ours) < 0.9
