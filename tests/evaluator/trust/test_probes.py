"""Honest networks pass every probe; each cheater is caught by the probes that were made for it."""

import pytest
import torch
from torch import nn

from evaluator.trust.answers import temperature
from evaluator.trust.findings import CHECKS, OPTIONAL, PROBES, Source, Verdict
from tests.evaluator.models import small_cnn
from tests.evaluator.trust.cheaters import BY_PROBES, Cheater
from tests.evaluator.trust.trials import HONEST, judged, probed, tiny


@pytest.mark.parametrize("build", HONEST.values(), ids=HONEST)
def test_an_honest_network_passes_every_check_within_what_honest_ones_showed(build) -> None:
    probes = probed(build())
    assert probes.keys() == set(PROBES)
    assert {finding.verdict for finding in judged(probes).values()} == {Verdict.PASS}
    for name, seen in probes.items():
        if name in CHECKS:
            low, high = CHECKS[name].honest
            assert low - 0.1 * abs(low) <= seen <= high + 0.1 * abs(high), name


@pytest.mark.parametrize("cheater", BY_PROBES.values(), ids=BY_PROBES)
def test_a_cheater_is_caught(cheater: Cheater) -> None:
    found = judged(probed(cheater.build(tiny())))
    assert Verdict.PASS not in {found[name].verdict for name in cheater.caught_by}, found


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
    together, apart = judged(probed(tiny())), judged(probed(tiny(), batch_size=5))
    assert {name: one.verdict for name, one in together.items()} == {name: one.verdict for name, one in apart.items()}


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
