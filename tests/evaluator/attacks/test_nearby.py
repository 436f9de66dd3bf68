"""A network asked about a window answers as if asked in full, and takes fewer multiplications for it."""

import pytest
import torch
from torch import nn

from evaluator.attacks.autoattack import nearby
from evaluator.attacks.autoattack.folding import folded
from evaluator.attacks.autoattack.nearby import Nearby, largest_worthwhile
from tests.evaluator.attacks.parity import larger

IMAGES = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
PLACES = torch.tensor([7, 0, 3, 1, 5, 2])
SIDES = [29, 14, 7, 4, 3]


def strided():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(3, 4, 5, padding=2, dilation=1), nn.BatchNorm2d(4), nn.SiLU(),
            nn.Conv2d(4, 4, 3, stride=2, bias=False), nn.Conv2d(4, 6, 3, padding=2, dilation=2), nn.GELU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(10),
        ).eval()  # fmt: skip


def network(kind):
    model = {"residual": larger, "strided": strided}[kind]()
    model(IMAGES)
    graph = folded(model, IMAGES)
    assert graph is not model
    return graph


def changed(images, side, seed):
    """Return images with another square in each, the first in a corner, the second in the opposite one."""
    generator = torch.Generator().manual_seed(seed)
    top, left = torch.randint(0, 33 - side, (2, len(images)), generator=generator)
    top[:2] = left[:2] = torch.tensor([0, 32 - side])
    images = images.clone()
    for i in range(len(images)):
        square = images[i, :, top[i] : top[i] + side, left[i] : left[i] + side]
        square.copy_(torch.rand(square.shape, generator=generator))
    return images, top, left


@pytest.mark.parametrize("kind", ["residual", "strided"])
@torch.no_grad()
def test_answers_are_those_in_full_also_after_some_were_accepted(kind):
    graph = network(kind)
    near = Nearby(graph, capacity=8)
    assert torch.equal(near.remember(IMAGES, PLACES), graph(IMAGES))
    best = IMAGES
    for seed, side in enumerate(SIDES):
        proposed, top, left = changed(best, side, seed)
        answers = near.answer(proposed, PLACES, top, left, side)
        assert torch.allclose(answers, graph(proposed), atol=1e-5)
        assert not torch.allclose(answers, graph(best), atol=1e-5)
        accepted = torch.tensor([0, 1, 4])
        near.accept(accepted)
        best = best.clone()
        best[accepted] = proposed[accepted]


@torch.no_grad()
def test_an_answer_does_not_depend_on_who_else_is_asked_about():
    near = Nearby(network("residual"), capacity=8)
    near.remember(IMAGES, PLACES)
    proposed, top, left = changed(IMAGES, 4, 0)
    together = near.answer(proposed, PLACES, top, left, 4)
    fewer = near.answer(proposed[:4], PLACES[:4], top[:4], left[:4], 4)
    assert torch.equal(together[:4], fewer)


@torch.no_grad()
def test_the_smaller_the_square_the_fewer_multiplications(monkeypatch):
    monkeypatch.setattr(nearby, "LEAST_MULTIPLICATIONS", 0)
    near = Nearby(network("residual"), capacity=8)
    shares = [near.share(IMAGES, side) for side in SIDES]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.3
    assert shares[0] == 1


def test_squares_are_asked_about_as_windows_only_where_this_saves_work_and_is_right(monkeypatch):
    graph = network("residual")
    assert largest_worthwhile(graph, IMAGES, SIDES) == 0, "a small network"
    monkeypatch.setattr(nearby, "LEAST_MULTIPLICATIONS", 0)
    assert 4 <= largest_worthwhile(graph, IMAGES, SIDES) < 29
    assert largest_worthwhile(graph, IMAGES[:, :, :8, :8], SIDES) == 0
    assert largest_worthwhile(larger(), IMAGES, SIDES) == 0, "no graph"

    class Pooled(nn.Module):
        def forward(self, images):
            return torch.cat([images.mean((2, 3)), images.amax((2, 3))], 1)

    assert largest_worthwhile(torch.fx.symbolic_trace(Pooled()), IMAGES, SIDES) == 0, "no convolution"
