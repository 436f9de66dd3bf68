"""PGD raises the loss it is given, keeps the best iterate of each example, and starts where the protocol says."""

import pytest
import torch
import torch.nn.functional as F

from evaluator.attacks import pgd
from evaluator.attacks.budget import norms
from evaluator.datasets import load_dataset
from evaluator.protocol import Initialization, PgdSettings
from evaluator.seeding import ExampleNoise, Purpose
from evaluator.types import Norm, Split, ThreatModel
from tests.evaluator.models import small_cnn

LINF = ThreatModel(Norm.LINF, 0.15)
L2 = ThreatModel(Norm.L2, 1.0)


def noise(n, restarts=1):
    return [ExampleNoise(0, Purpose.ROBUST_LOSS_START, Split.TEST, range(n), r) for r in range(restarts)]


@pytest.mark.parametrize("initialization", Initialization)
@pytest.mark.parametrize("threat_model", [LINF, L2], ids=lambda t: t.norm.value)
def test_starts_fill_the_ball_and_never_leave_it(initialization, threat_model):
    starts = pgd.initial_perturbation((200, 1, 3, 3), initialization, threat_model, noise(200)[0])
    lengths = norms(starts, threat_model.norm).flatten()
    assert lengths.max() <= threat_model.epsilon * (1 + 1e-6)
    assert lengths.max() > 0.9 * threat_model.epsilon
    if initialization is Initialization.NORM_UNIFORM:  # the radius is uniform: its mean is half the budget
        assert abs(lengths.mean() / threat_model.epsilon - 0.5) < 5 * (1 / 12 / 200) ** 0.5


def test_on_a_linear_loss_one_long_step_reaches_the_corner_of_the_ball():
    weights = torch.tensor([1.0, -2.0, 0.5, -0.25]).reshape(1, 1, 2, 2)
    images = torch.full((3, 1, 2, 2), 0.5)
    best, gain = pgd.ascend(
        lambda x: (x * weights).sum((1, 2, 3)), images, images, threat_model=LINF, step_size=1.0, steps=1
    )
    torch.testing.assert_close(best, images + 0.15 * weights.sign())
    torch.testing.assert_close(gain, (best * weights).sum((1, 2, 3)))


def test_the_best_iterate_is_kept_even_when_later_ones_are_worse():
    # The gain peaks at 0.55 and a step of 0.1 from 0.5 overshoots it to and fro: 0.5 and 0.6 tie, 0.53 starts better.
    images = torch.full((1, 1, 1, 1), 0.5)
    best, gain = pgd.ascend(
        lambda x: -(x - 0.55).abs().flatten(), images, images + 0.03, threat_model=LINF, step_size=0.1, steps=5
    )
    assert best.item() == pytest.approx(0.53, abs=1e-6)
    assert gain.item() == pytest.approx(-0.02, abs=1e-6)


def test_more_steps_and_more_restarts_never_weaken_the_attack():
    model = small_cnn()
    images, labels = load_dataset("digits").examples(Split.TEST, 0, 64)

    def loss(steps, restarts):
        settings = PgdSettings(steps=steps, step_size=0.03, restarts=restarts)
        return pgd.attack(model, images, labels, threat_model=LINF, settings=settings, noise=noise(64, restarts)).loss

    assert (loss(8, 1) >= loss(2, 1)).all()
    assert torch.equal(loss(3, 3)[:, :1], loss(3, 1))
    clean = F.cross_entropy(model(images), labels, reduction="none")
    assert loss(8, 1)[:, 0].mean() > clean.mean() + 0.1


def test_confidence_and_correctness_belong_to_the_same_iterate_as_the_loss():
    model = small_cnn()
    images, labels = load_dataset("digits").examples(Split.TEST, 0, 32)
    settings = PgdSettings(steps=4, step_size=0.05, restarts=2)
    found = pgd.attack(model, images, labels, threat_model=LINF, settings=settings, noise=noise(32, 2))
    right_class_confidence = torch.exp(-found.loss)
    assert ((found.wrong_class_confidence < right_class_confidence) == found.correct).all()
    assert (found.wrong_class_confidence + right_class_confidence <= 1 + 1e-5).all()
