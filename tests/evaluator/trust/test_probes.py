"""Honest networks pass every probe; each cheater is caught by the probes that were made for it."""

from functools import cache

import pytest
import torch
from torch import nn

from evaluator.checkpoints import load_model, open_checkpoint
from evaluator.datasets import load_dataset
from evaluator.observed import full_float32, observed
from evaluator.protocol import DIGITS_LINF
from evaluator.trust.answers import temperature
from evaluator.trust.findings import CHECKS, OPTIONAL, PROBES, Source, Verdict
from evaluator.trust.probes import probe
from evaluator.types import Split
from fixtures.make_golden import FOLDER
from fixtures.make_tiny import TINY
from tests.evaluator.models import small_cnn
from tests.evaluator.trust.cheaters import BY_PROBES, Cheater

IMAGES, LABELS = load_dataset("digits").examples(Split.TEST, 0, 24)


def probed(model: nn.Module, *, batch_size: int = 24) -> dict[str, float]:
    with full_float32(), observed(model):
        return probe(model, IMAGES, LABELS, protocol=DIGITS_LINF, batch_size=batch_size)


def verdicts(probes: dict[str, float]) -> dict[str, Verdict]:
    return {name: CHECKS[name].judge(seen).verdict for name, seen in probes.items() if name in CHECKS}


@cache
def tiny() -> nn.Module:
    return load_model(open_checkpoint(TINY))


HONEST = {
    "tiny": tiny,
    "adversarially trained": lambda: load_model(open_checkpoint(FOLDER / "digits-at.safetensors")),
    "without an adversary": lambda: small_cnn(1, steps=200),
}


@pytest.mark.parametrize("build", HONEST.values(), ids=HONEST)
def test_an_honest_network_passes_every_check_within_what_honest_ones_showed(build) -> None:
    probes = probed(build())
    assert probes.keys() == set(PROBES)
    assert set(verdicts(probes).values()) == {Verdict.PASS}
    for name, seen in probes.items():
        if name in CHECKS:
            low, high = CHECKS[name].honest
            assert low - 0.1 * abs(low) <= seen <= high + 0.1 * abs(high), name


@pytest.mark.parametrize("cheater", BY_PROBES.values(), ids=BY_PROBES)
def test_a_cheater_is_caught(cheater: Cheater) -> None:
    found = verdicts(probed(cheater.build(tiny()).eval()))
    assert Verdict.PASS not in {found[name] for name in cheater.caught_by}, found


def test_every_check_by_probes_has_a_cheater() -> None:
    by_probes = {check.key for check in CHECKS.values() if check.source is Source.PROBE}
    assert by_probes == {name for cheater in BY_PROBES.values() for name in cheater.caught_by}


def test_probing_leaves_no_trace_and_gives_the_same_numbers_again() -> None:
    model = small_cnn(steps=0)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.get_rng_state()
    first = probed(model)
    assert probed(model) == first
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_batch_size_changes_no_verdict() -> None:
    assert verdicts(probed(tiny(), batch_size=5)) == verdicts(probed(tiny()))


def test_a_network_without_batchnorm_has_no_rescaled_copy() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert probed(network).keys() == set(PROBES) - OPTIONAL


def test_the_temperature_is_the_scale_of_the_logits() -> None:
    logits = 3 * torch.randn(50, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = (logits + torch.randn(50, 10, generator=torch.Generator().manual_seed(1))).argmax(1)
    once = temperature(logits, labels)
    assert temperature(100 * logits, labels) == pytest.approx(100 * once, rel=1e-6)
    right = temperature(logits, logits.argmax(1))
    assert 0.01 < right < once
