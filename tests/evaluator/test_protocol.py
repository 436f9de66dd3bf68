"""Protocols: what they ask for, what they refuse to be, and that a part measures as the whole does."""

from dataclasses import fields, replace

import pytest

from evaluator.dataset_facts import find_dataset_facts
from evaluator.exceptions import InvalidRequest
from evaluator.metrics import StageName
from evaluator.plan import plan
from evaluator.protocol import Examples, from_json, to_json
from evaluator.shipped import (
    DIGITS_CURVE,
    DIGITS_DEMO,
    DIGITS_STOPPED,
    PROTOCOLS,
    SMOKE,
    STUTZ2021_CIFAR10,
    STUTZ2021_CURVE,
    STUTZ2021_STOPPED,
)
from evaluator.types import Split

NOTHING = Examples(test=0, train=0)
EVERY_PROTOCOL = [protocol for versions in PROTOCOLS.values() for protocol in versions]
FAMILIES = [
    (DIGITS_DEMO, DIGITS_CURVE, DIGITS_STOPPED),
    (STUTZ2021_CIFAR10, STUTZ2021_CURVE, STUTZ2021_STOPPED),
]


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL, ids=lambda protocol: protocol.label)
def test_every_protocol_plans_exactly_the_examples_it_asks_for_and_its_data_set_has_them(protocol):
    shards, facts = plan(protocol), find_dataset_facts(protocol.dataset)
    for stage in StageName:
        samples = protocol.weight_samples(stage) or (None,)
        for split in Split:
            assert protocol.count(stage, split) <= facts.size(split)
            for sample in samples:
                planned = [s for s in shards if (s.stage, s.split, s.weight_sample) == (stage, split, sample)]
                examples = [i for spec in planned for i in range(spec.start, spec.stop)]
                assert examples == list(range(protocol.count(stage, split)))


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL, ids=lambda protocol: protocol.label)
def test_a_protocol_survives_its_canonical_json_and_a_limit_keeps_what_is_measured(protocol):
    assert from_json(to_json(protocol)) == protocol
    limited = protocol.limited(2)
    assert limited.columns() == protocol.columns()
    assert not limited.rankable


@pytest.mark.parametrize("stage", ["autoattack", "robust_loss"])
def test_a_protocol_that_ranks_asks_for_what_ranks(stage):
    part = {f"{stage}_examples": Examples(test=0, train=4), "flatness_examples": NOTHING}
    with pytest.raises(InvalidRequest, match=f"rankable but asks for 0 test examples of {stage}"):
        replace(SMOKE, rankable=True, **part)
    assert f"{stage}_examples" in to_json(replace(SMOKE, **part))


def test_a_gap_needs_both_splits():
    one_sided = replace(SMOKE, autoattack_examples=Examples(test=4, train=0)).columns()
    assert "robust_error_test" in one_sided
    assert not {"robust_error_train", "robust_error_gap"} & set(one_sided)
    assert "robust_loss_gap" in one_sided


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"robust_loss_examples": NOTHING}, "flatness on test needs the robust loss of the same examples"),
        ({one.name: NOTHING for one in fields(SMOKE) if one.name.endswith("_examples")}, "measures nothing"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(changed, sentence):
    with pytest.raises(InvalidRequest, match=sentence):
        replace(SMOKE, **changed)


def test_a_negative_count_is_refused():
    with pytest.raises(InvalidRequest, match="got 4 of test and -1 of train"):
        Examples(test=4, train=-1)


@pytest.mark.parametrize(("full", "curve", "stopped"), FAMILIES, ids=["digits", "stutz2021"])
def test_the_parts_of_a_protocol_measure_by_its_definitions(full, curve, stopped):
    assert stopped.autoattack == full.autoattack
    assert stopped.autoattack_examples == Examples(full.autoattack_examples.test, 0)
    assert (stopped.robust_loss_examples, stopped.flatness_examples) == (NOTHING, NOTHING)
    assert curve.autoattack_examples == NOTHING
    assert curve.flatness == full.flatness
    assert replace(curve.robust_loss, restarts=full.robust_loss.restarts) == full.robust_loss
    for part in (curve, stopped):
        assert not part.rankable
        assert part.clean_examples == full.clean_examples
        assert (part.dataset, part.threat_model, part.seed) == (full.dataset, full.threat_model, full.seed)


def test_an_early_stopped_error_comes_from_the_same_chunk_as_the_final_one():
    def attacked(protocol):
        return [s for s in plan(protocol) if (s.stage, s.split) == (StageName.AUTOATTACK, Split.TEST)]

    for full, _, stopped in FAMILIES:
        assert attacked(stopped) == attacked(full)
