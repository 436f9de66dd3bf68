"""AutoAttack gives the reference package's outcome of every example, and leaves nothing of the package behind."""

import copy
import logging
import random
import sys

import numpy as np
import pytest
import torch
from pyautoattack import AutoAttack, checks

from evaluator.attacks.autoattack import Implementation, alias_package, first_broken_by
from evaluator.combine import BROKEN_BY
from evaluator.datasets import load_dataset
from evaluator.observed import observed
from evaluator.protocol import AutoAttackSettings
from evaluator.types import Norm, Split, ThreatModel
from tests.evaluator.attacks.parity import Masked, shortened
from tests.evaluator.models import small_cnn

BUDGET = ThreatModel(Norm.LINF, 0.05)
SETTINGS = AutoAttackSettings(chunk_size=24, seed=0)


def attacked(model, images, labels, **changes):
    with observed(model):
        return first_broken_by(model, images, labels, **({"threat_model": BUDGET, "settings": SETTINGS} | changes))


def numpy_state():
    return np.random.get_state()[1].tolist()  # noqa: NPY002  # the global one is what the package touches


def test_outcomes_equal_one_direct_call_of_the_package_in_l2():
    """In L∞ test_golden.py compares them, for a network that is robust."""
    budget = ThreatModel(Norm.L2, 0.3)
    model = small_cnn()
    images, labels = load_dataset("digits").examples(Split.TEST, 0, 10)
    ours, _ = attacked(model, images, labels, threat_model=budget)
    with torch.random.fork_rng():
        direct = AutoAttack(copy.deepcopy(model), norm="L2", eps=budget.epsilon, version="standard", seed=0)
        direct.verbose = False
        _, predictions = direct.run_standard_evaluation(images, labels, batch_size=10)
    assert [outcome == "robust" for outcome in ours] == (predictions == labels).tolist()
    assert len(set(ours)) >= 2, "a model that separates nothing compares nothing"


@pytest.mark.parametrize("implementation", Implementation)
def test_the_package_leaves_no_global_trace(implementation):
    model = small_cnn()
    images, labels = load_dataset("digits").examples(Split.TEST, 0, 4)
    torch.manual_seed(1)
    state = torch.random.get_rng_state(), random.getstate(), numpy_state()
    logger, tracer = logging.getLogger("auto-attack"), sys.gettrace()
    with shortened():
        attacked(model, images, labels, implementation=implementation)
    assert torch.equal(state[0], torch.random.get_rng_state())
    assert (random.getstate(), numpy_state()) == state[1:]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert logger.handlers == []
    assert sys.gettrace() is tracer
    assert set(checks.funcs.values()) == {0}
    assert not model._forward_hooks


@pytest.mark.parametrize("implementation", Implementation)
def test_the_globals_are_restored_after_an_error_too(implementation):
    class Broken(torch.nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls > 3:
                raise RuntimeError("on purpose")
            return torch.eye(10)[:1].expand(len(x), 10)

    state, tracer = torch.random.get_rng_state(), sys.gettrace()
    with pytest.raises(RuntimeError, match="on purpose"):
        attacked(Broken(), torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.long), implementation=implementation)
    assert torch.equal(state, torch.random.get_rng_state())
    assert sys.gettrace() is tracer
    assert logging.getLogger("auto-attack").handlers == []


def test_what_the_package_warns_of_is_recorded_with_the_outcome():
    model = torch.nn.Sequential(small_cnn(), torch.nn.Softmax(1))
    images, labels = load_dataset("digits").examples(Split.TEST, 0, 2)
    with shortened():
        outcomes, warnings = attacked(model, images, labels)
    assert set(outcomes) <= set(BROKEN_BY)
    assert any("probability distribution" in warning for warning in warnings)


def test_one_dynamic_model_does_not_flag_the_next():
    class Dynamic(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = small_cnn()

        def forward(self, x):
            with torch.enable_grad():
                probe = x.detach().clone().requires_grad_()
                torch.autograd.grad(self.inner(probe).sum(), probe)
            return self.inner(x)

    images, labels = load_dataset("digits").examples(Split.TEST, 0, 2)
    with shortened():
        _, flagged = attacked(Dynamic(), images, labels)
        _, honest = attacked(small_cnn(), images, labels)
    assert any("dynamic defense" in warning for warning in flagged)
    assert not any("dynamic defense" in warning for warning in honest)


def test_robustbench_finds_the_package_under_the_name_it_imports():
    alias_package()
    import autoattack
    from autoattack.state import EvaluationState

    assert autoattack.AutoAttack is AutoAttack
    assert EvaluationState.__module__ == "pyautoattack.state"


def test_square_breaking_what_gradients_could_not_is_recorded_as_a_warning():
    images, labels = load_dataset("digits").examples(Split.TEST, 0, 4)
    outcomes, warnings = attacked(Masked(small_cnn()), images, labels, threat_model=ThreatModel(Norm.LINF, 0.2))
    assert "square" in outcomes
    assert any("Square Attack has decreased" in warning for warning in warnings)
