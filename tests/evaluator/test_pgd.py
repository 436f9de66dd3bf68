"""PGD raises the loss it is given, keeps the best iterate of each example, and starts where the protocol says."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from evaluator.attacks import pgd
from evaluator.attacks.budget import norms
from evaluator.datasets import load_dataset
from evaluator.exceptions import InvalidCheckpoint
from evaluator.metrics import StageName
from evaluator.protocol import Initialization, PgdSettings
from evaluator.results import ShardSpec
from evaluator.seeding import ExampleNoise, Purpose
from evaluator.shipped import SMOKE
from evaluator.stages import measure
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


def written_out(model, images, labels, threat_model, settings, draws):
    """Return losses, confidences and correctness [n, restarts] by the definition: a restart at a time, as one batch."""
    columns = []
    for source in draws:
        x = images + pgd.initial_perturbation(images.shape, settings.initialization, threat_model, source)
        worst, best = torch.full((len(images),), -torch.inf), images
        for step in range(settings.steps + 1):
            x = x.detach().clamp(0, 1)
            if threat_model.norm is Norm.LINF:
                x = torch.clamp(x, images - threat_model.epsilon, images + threat_model.epsilon)
            else:
                length = norms(x - images, Norm.L2)
                x = images + (x - images) * (threat_model.epsilon / length.clamp_min(threat_model.epsilon))
            x.requires_grad_()
            losses = F.cross_entropy(model(x), labels, reduction="none")
            better = losses.detach() > worst
            worst = torch.maximum(worst, losses.detach())
            best = torch.where(better[:, None, None, None], x.detach(), best)
            if step < settings.steps:
                (gradient,) = torch.autograd.grad(losses.sum(), x)
                ahead = gradient.sign() if threat_model.norm is Norm.LINF else gradient / norms(gradient, Norm.L2)
                x = x.detach() + settings.step_size * ahead
        logits = model(best).detach()
        wrong = logits.softmax(1).scatter(1, labels[:, None], 0.0).amax(1)
        columns.append((F.cross_entropy(logits, labels, reduction="none"), wrong, logits.argmax(1) == labels))
    return [torch.stack(column, dim=1) for column in zip(*columns, strict=True)]


@pytest.mark.parametrize("threat_model", [LINF, L2], ids=lambda t: t.norm.value)
def test_every_batch_size_from_four_on_gives_the_bits_of_the_definition_written_out(threat_model):
    model = small_cnn()
    images, labels = load_dataset("digits").examples(Split.TEST, 0, 13)
    settings = PgdSettings(steps=5, step_size=0.05, restarts=3)
    expected = written_out(model, images, labels, threat_model, settings, noise(13, 3))
    model.requires_grad_(False)
    for batch_size in (None, 4, 7, 13, 20, 38, 39, 1000):
        found = pgd.attack(
            model, images, labels, threat_model=threat_model, settings=settings, noise=noise(13, 3),
            batch_size=batch_size,
        )  # fmt: skip
        for name, values in zip(("loss", "wrong_class_confidence", "correct"), expected, strict=True):
            assert torch.equal(getattr(found, name), values), (batch_size, name)


def test_no_batch_is_larger_than_asked_for_and_the_work_is_looked_at_before_each():
    model = small_cnn()
    images, labels = load_dataset("digits").examples(Split.TEST, 0, 13)
    settings, happened = PgdSettings(steps=2, step_size=0.05, restarts=3), []
    model.register_forward_hook(lambda _module, inputs, _logits: happened.append(len(inputs[0])))
    pgd.attack(
        model, images, labels, threat_model=LINF, settings=settings, noise=noise(13, 3), batch_size=10,
        tick=lambda: happened.append("tick"),
    )  # fmt: skip
    assert happened == 4 * ["tick", 10, 10, 10]  # 39 rows; one is attacked twice


def test_a_loss_that_is_no_number_is_not_hidden():
    images, labels = torch.full((4, 1, 2, 2), 0.5), torch.zeros(4, dtype=torch.int64)
    settings = PgdSettings(steps=1, step_size=0.05, restarts=1)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    torch.nn.init.constant_(model[1].weight, torch.nan)
    found = pgd.attack(
        model.requires_grad_(False), images, labels, threat_model=LINF, settings=settings, noise=noise(4)
    )
    assert found.loss.isnan().all()


class OverflowsOutside(nn.Module):
    """Answers clean digits, whose pixels are sixteenths, and is no number anywhere else."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, images):
        between = (16 * images).frac().flatten(1).amax(1, keepdim=True)
        return self.linear(images.flatten(1)) + torch.where(between > 0, torch.nan, 0.0)


@pytest.mark.parametrize("stage", [StageName.ROBUST_LOSS, StageName.FLATNESS])
def test_a_network_that_answers_no_number_inside_the_budget_is_refused_as_its_senders_fault(stage):
    spec = ShardSpec(stage, Split.TEST, 4, 12, 0 if stage is StageName.FLATNESS else None)
    with pytest.raises(InvalidCheckpoint, match="loss of test example 4 under attack is not finite"):
        measure(OverflowsOutside(), load_dataset("digits"), SMOKE, spec)
