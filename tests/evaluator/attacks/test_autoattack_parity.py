"""Our AutoAttack gives the reference package's outcome of every example, in any batches, with fewer passes."""

import pytest
import torch
from pyautoattack.fab_projections import projection_l2, projection_linf

from evaluator.attacks.autoattack import Implementation, first_broken_by, nearby
from evaluator.attacks.autoattack.draws import Draws
from evaluator.attacks.autoattack.nearby import Nearby
from evaluator.attacks.autoattack.passes import Passes
from evaluator.attacks.autoattack.projections import length, to_hyperplane
from evaluator.exceptions import InvalidRequest
from evaluator.protocol import AutoAttackSettings
from evaluator.types import Norm, ThreatModel
from tests.evaluator.attacks import parity
from tests.evaluator.attacks.parity import CASES, LARGER, SQUARES, attacked, by_reference, shortened

COARSE = 1e-5


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.norm}")
def test_outcomes_and_warnings_are_the_references(case):
    ours, warnings, _ = attacked(case)
    reference, said, _ = by_reference(case)
    assert ours == reference
    assert set(warnings) == set(said)


def test_the_compared_cases_hold_every_outcome():
    assert {outcome for case in CASES for outcome in by_reference(case)[0]} >= {"clean", "apgd-ce", "square", "robust"}


@pytest.mark.parametrize("case", CASES[:2], ids=lambda case: case.norm)
def test_neither_the_batch_nor_what_else_is_in_it_changes_an_outcome(case):
    together, _, _ = attacked(case, batch_size=7)
    assert together == attacked(case)[0]
    assert together == by_reference(case)[0]


@pytest.mark.parametrize("wrong", [12, 5], ids=["all", "a whole chunk"])
def test_examples_that_are_wrong_before_any_attack_leave_nothing_to_attack(wrong):
    model, images, labels = CASES[1].load()
    labels = labels.clone()
    labels[:wrong] = (model(images).argmax(1)[:wrong] + 1) % 10
    arguments = {"threat_model": CASES[1].threat_model, "settings": AutoAttackSettings(5)}
    with shortened():
        ours, reference = (
            first_broken_by(model, images, labels, implementation=implementation, **arguments)
            for implementation in Implementation
        )
    assert ours[0] == reference[0]
    assert set(ours[1]) == set(reference[1])
    assert ours[0][:wrong] == ["clean"] * len(images[:wrong])


def test_a_tick_ends_an_attack_between_two_batches():
    class Stop(Exception):
        pass

    ticks = []

    def tick():
        ticks.append(1)
        if len(ticks) == 40:
            raise Stop

    state = torch.random.get_rng_state()
    with pytest.raises(Stop):
        attacked(CASES[0], tick=tick)
    assert torch.equal(state, torch.random.get_rng_state())


def test_passes_whose_answer_is_known_are_not_taken():
    _, _, passes = attacked(CASES[0])
    outcomes, _, reference = by_reference(CASES[0])
    assert reference.forward - passes.forward > outcomes.count("robust") * SQUARES / 2
    assert passes.backward < reference.backward


def test_a_model_of_too_few_classes_is_refused_in_one_sentence():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    images, labels = torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)
    with pytest.raises(InvalidRequest, match="9 other classes, but the model knows 3"):
        first_broken_by(model, images, labels, threat_model=ThreatModel(Norm.LINF, 0.1), settings=AutoAttackSettings(4))


@pytest.mark.parametrize("sampler", [torch.rand, torch.randn])
def test_a_chunk_draws_what_the_reference_draws_for_it_alone(sampler):
    draws = Draws(chunk_size=4, seed=3)
    left = torch.tensor([0, 2, 3, 9, 12, 13, 14])
    found = [draws.of_examples(left, (2, 3), sampler), draws.of_examples(left[1:], (2, 3), sampler)]
    with torch.random.fork_rng():
        for rows, fewer in ((slice(0, 3), slice(0, 2)), (slice(3, 4), slice(2, 3)), (slice(4, 7), slice(3, 6))):
            torch.manual_seed(3)
            assert torch.equal(found[0][rows], sampler(rows.stop - rows.start, 2, 3))
            assert torch.equal(found[1][fewer], sampler(fewer.stop - fewer.start, 2, 3))


@pytest.mark.parametrize("norm", Norm)
def test_the_way_to_a_hyperplane_stays_in_the_box_reaches_it_and_is_the_references(norm):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(200, 12, generator=generator).round(decimals=1)  # ties, and pixels at the bounds
    normals = torch.randn(200, 12, generator=generator) * torch.rand(200, 12, generator=generator).round()
    normals[:3] = 0
    offsets = (normals * points).sum(1) + 2 * torch.randn(200, generator=generator)
    steps = to_hyperplane(points, normals, offsets, norm)
    moved = points + steps
    assert moved.min() >= -COARSE
    assert moved.max() <= 1 + COARSE
    corner = torch.where(normals * ((normals * points).sum(1) < offsets).float()[:, None].mul(2).sub(1) > 0, 1.0, 0.0)
    reachable = ((normals * points).sum(1) - offsets) * ((normals * corner).sum(1) - offsets) <= 0
    assert 0.2 < reachable.float().mean() < 0.95
    assert ((normals * moved).sum(1) - offsets)[reachable].abs().max() < 1e-4
    theirs = (projection_linf if norm is Norm.LINF else projection_l2)(points, normals, offsets)
    assert torch.allclose(steps, theirs, atol=COARSE)
    assert torch.allclose(length(steps, norm), length(theirs, norm), atol=COARSE)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 5, 100])
def test_passes_come_in_batches_no_larger_than_asked_and_no_smaller_than_four(batch_size):
    class Model(torch.nn.Module):
        def forward(self, images):
            sizes.append(len(images))
            return images.flatten(1) ** 2

    sizes, images = [], torch.rand(11, 1, 2, 2)
    passes = Passes(Model(), batch_size=batch_size, tick=lambda: None)
    logits, values, gradient = passes.ascent(images, lambda logits, rows: logits.sum(1) * (rows.start or 1))
    assert torch.equal(logits, passes.logits(images))
    assert torch.equal(logits, images.flatten(1) ** 2)
    assert gradient.shape == images.shape
    assert len(values) == 11
    assert all(4 <= size <= max(batch_size, 4) for size in sizes)


def test_squares_of_larger_images_are_asked_about_as_windows(monkeypatch):
    """And the outcomes are the reference's; batches of 4 are fewer than the 5 images."""
    answered = []
    whole = Nearby.answer

    def answer(near, proposed, places, top, left, side):
        answered.append(len(proposed))
        return whole(near, proposed, places, top, left, side)

    monkeypatch.setattr(parity, "SQUARES", 300)  # squares of 14 and 10 pixels from the fiftieth on
    monkeypatch.setattr(nearby, "LEAST_MULTIPLICATIONS", 0)
    monkeypatch.setattr(Nearby, "answer", answer)
    outcomes, _, _ = attacked(LARGER, batch_size=4)
    assert outcomes == by_reference(LARGER)[0]
    assert outcomes.count("robust") > 0
    assert sum(answered) > outcomes.count("robust") * 200
