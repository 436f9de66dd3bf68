"""Networks may hold parameters that are never trained, such as the whitening of the paper's ResNet-18."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evaluator.architectures.resnet18_stutz2021 import Whitening
from evaluator.dataset_facts import DATASET_FACTS
from tests.trainers.recipes_for_tests import tiny
from trainers import assembly
from trainers.after_step import AFTER_STEP
from trainers.assembly import Assembly, assemble
from trainers.objectives import OBJECTIVES
from trainers.steppers import STEPPERS

OPTIMIZERS = {
    "sgd": '{"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.1}',
    "adam": '{"kind": "adam", "learning_rate": 0.1, "weight_decay": 0.1}',
}
PARTS: dict[str, dict[str, str]] = {
    "stepper": {
        "sgd": '{"kind": "sgd"}',
        "awp": '{"kind": "awp", "gamma": 0.5}',
        "entropy-sgd": """{
            "kind": "entropy-sgd", "steps": 2, "step_size": 0.1, "noise": 0.1, "gamma": 0.1, "averaging": 0.5
        }""",
    },
    "objective": {
        "cross-entropy": '{"kind": "cross-entropy"}',
        "trades": '{"kind": "trades", "beta": 6}',
        "mart": '{"kind": "mart", "weight": 5}',
        "self-supervision": '{"kind": "self-supervision", "weight": 4}',
    },
    "after_step": {
        "averaging": '[{"kind": "averaging", "decay": 0.5}]',
        "clipping": '[{"kind": "clipping", "maximum": 0.05, "layers": "all"}]',
    },
    "optimizer": OPTIMIZERS,
}


def network(*_chosen: object) -> nn.Module:
    """Return a small network whose whitening, first convolution and one bias are not trained."""
    whitening = Whitening(DATASET_FACTS["digits"])
    still, bent = nn.Conv2d(1, 2, 3).requires_grad_(False), nn.Conv2d(2, 3, 3)
    bent.bias.requires_grad_(False)
    return nn.Sequential(whitening, still, bent, nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 10))


def assembled(monkeypatch: pytest.MonkeyPatch, **changes: str) -> Assembly:
    monkeypatch.setattr(assembly, "build", network)
    recipe = tiny("at", options="{}", **changes)
    return assemble(recipe, seed=0, device=torch.device("cpu"), data_dir=None)


def values(model: nn.Module, *, trained: bool) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad == trained}


@pytest.mark.parametrize(("part", "kind"), [(part, kind) for part, kinds in PARTS.items() for kind in kinds])
def test_what_is_not_trained_stays_bit_for_bit_and_all_else_moves(
    part: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = assembled(monkeypatch, **({"optimizer": OPTIMIZERS["sgd"]} | {part: PARTS[part][kind]}))
    with torch.random.fork_rng():
        torch.manual_seed(0)  # as the assembly does
        untouched = values(network(), trained=False)
    assert set(untouched) == {"0.weight", "0.bias", "1.weight", "1.bias", "2.bias"}
    moving = values(parts.model, trained=True)
    parts.model.train()
    for _ in range(3):
        assert parts.step().isfinite()
    for model in (parts.model, parts.outcome):
        after: dict[str, Any] = dict(model.named_parameters())
        assert [name for name, value in untouched.items() if not torch.equal(after[name], value)] == []
        assert [name for name, value in moving.items() if torch.equal(after[name], value)] == []
    assert {n for n, p in parts.model.named_parameters() if not p.requires_grad} == set(untouched)


def test_no_kind_of_part_that_acts_on_weights_is_left_out() -> None:
    registries = {
        "stepper": STEPPERS, "objective": OBJECTIVES, "after_step": AFTER_STEP, "optimizer": assembly.OPTIMIZERS,
    }  # fmt: skip
    assert {part: set(kinds) for part, kinds in PARTS.items()} == {
        part: set(kinds) for part, kinds in registries.items()
    }
