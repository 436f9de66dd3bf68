"""AutoAttack that searches in bfloat16 believes no success that float32 does not confirm, and is never ranked."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from evaluator.attacks.autoattack import Implementation, first_broken_by
from evaluator.attacks.autoattack.passes import in_bfloat16
from evaluator.evaluation import evaluate
from evaluator.exceptions import InvalidRequest
from evaluator.observed import observed
from evaluator.protocol import AutoAttackSettings, from_json, to_json
from evaluator.results import evaluation_from_json, evaluation_to_json
from evaluator.shipped import PROTOCOLS, SMOKE
from evaluator.types import AutoAttackVersion, Norm, ThreatModel
from tests.evaluator.attacks.parity import CASES, attacked, by_reference, shortened
from tests.evaluator.models import small_cnn

LOW = AutoAttackVersion.LOW_PRECISION


class CoarseLogits(nn.Linear):
    """Logits of some hundreds that differ by less than a unit of bfloat16 there, whatever the image."""

    def __init__(self):
        super().__init__(64, 10, bias=False)
        nn.init.constant_(self.weight, 8.0)
        self.weight.data[5] += 0.01

    def forward(self, images):
        return super().forward(images.flatten(1))


@pytest.mark.parametrize("norm", Norm)
def test_what_only_bfloat16_takes_for_misclassified_stays_robust(norm):
    model = CoarseLogits().requires_grad_(False)
    images, labels = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.full((4,), 5)
    assert (in_bfloat16(model)(images).argmax(1) != labels).all()
    with shortened():
        outcomes, _ = first_broken_by(
            model, images, labels, threat_model=ThreatModel(norm, 1e-3), settings=AutoAttackSettings(4, version=LOW)
        )
    assert outcomes == ["robust"] * 4


def test_the_search_breaks_nearly_what_the_standard_one_breaks():
    case = CASES[0]
    found, _, _ = attacked(case, settings=replace(case.settings, version=LOW))
    standard = by_reference(case)[0]
    assert sum((ours == "robust") != (theirs == "robust") for ours, theirs in zip(found, standard, strict=True)) <= 1
    assert len(set(found)) >= 3


def test_confirming_passes_are_counted_and_the_network_answers_itself_again():
    model = CoarseLogits().requires_grad_(False)
    images, labels = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.full((4,), 5)
    passes = []
    for version in AutoAttackVersion:
        with observed(model) as counter, shortened():
            first_broken_by(
                model, images, labels, threat_model=ThreatModel(Norm.LINF, 1e-3),
                settings=AutoAttackSettings(4, version=version),
            )  # fmt: skip
        passes.append(counter.passes.forward)
    assert passes[1] > 1.5 * passes[0], "each step of each example asks float32, too"
    assert "forward" not in vars(model)


def test_such_a_result_says_so_has_another_digest_and_is_not_rankable():
    protocol = replace(SMOKE, flatness_examples=replace(SMOKE.flatness_examples, test=0, train=0))
    with shortened():
        result = evaluate(small_cnn(), protocol, limit=4, low_precision=True)
    low = protocol.limited(4).in_low_precision()
    assert (result.autoattack, result.rankable, result.protocol_digest) == (LOW, False, low.digest)
    assert evaluation_from_json(evaluation_to_json(result)) == result
    assert from_json(to_json(low)) == low
    assert low.digest != protocol.limited(4).digest


def test_every_shipped_protocol_asks_for_the_standard_one_and_none_that_ranks_may_ask_for_another():
    shipped = [protocol for versions in PROTOCOLS.values() for protocol in versions]
    assert {protocol.autoattack.version for protocol in shipped} == {AutoAttackVersion.STANDARD}
    low = AutoAttackSettings(4, version=LOW)
    with pytest.raises(InvalidRequest, match="ranked by AutoAttack standard"):
        replace(next(protocol for protocol in shipped if protocol.rankable), autoattack=low)


def test_the_reference_package_knows_no_low_precision():
    with pytest.raises(AssertionError, match="knows no AutoAttack low-precision"):
        attacked(CASES[0], settings=AutoAttackSettings(4, version=LOW), implementation=Implementation.REFERENCE)
