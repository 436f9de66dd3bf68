"""Passes launched as graphs: captured when a size comes again, bit for bit, and given up where they are not.

Where there is no GPU a stand-in has what matters of CUDA graphs: it answers for one size, in memory it uses again.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from evaluator.attacks import graphs, pgd
from evaluator.attacks.autoattack import driver
from evaluator.attacks.graphs import Forward, Replayed, replayed
from evaluator.shipped import SMOKE
from tests.evaluator.attacks.parity import CASES, attacked
from tests.evaluator.models import small_cnn, without_autoattack


class Graphs:
    """Captures as a GPU does, and counts captures and replays."""

    def __init__(self, *, off_by: float = 0.0) -> None:
        self.captured = self.replays = 0
        self._off_by = off_by

    def __call__(self, forward: Forward, sample: tuple[Tensor]) -> Forward:
        self.captured += 1
        memory: dict[str, Tensor] = {}
        graphs, off_by = self, self._off_by

        def in_place(name: str, value: Tensor) -> Tensor:
            return memory.setdefault(name, torch.empty_like(value)).copy_(value).detach()

        class Replay(torch.autograd.Function):
            @staticmethod
            def forward(ctx, images):  # type: ignore[no-untyped-def]  # torch's own shape
                assert images.shape == sample[0].shape
                with torch.enable_grad():
                    ctx.images = images.detach().requires_grad_(sample[0].requires_grad)
                    ctx.logits = forward(ctx.images)
                graphs.replays += 1
                return in_place("logits", ctx.logits.detach() + off_by)

            @staticmethod
            def backward(ctx, gradient):  # type: ignore[no-untyped-def]
                return in_place("gradient", torch.autograd.grad(ctx.logits, ctx.images, gradient)[0])

        return Replay.apply  # type: ignore[no-any-return]


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 5)).requires_grad_(False).eval()


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


def ascent(forward: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    logits = forward(x)
    return logits.detach(), torch.autograd.grad(logits.exp().sum(), x)[0]


def test_off_a_gpu_the_network_answers_itself(network: nn.Module) -> None:
    assert replayed(network.forward, torch.device("cpu")) == network.forward


def test_only_what_comes_again_is_captured(network: nn.Module) -> None:
    capture = Graphs()
    forward = Replayed(network, capture)
    for count in (8, 7, 8, 6, 8, 5):
        forward(images(count))
    assert capture.captured == 0
    for count in (8, 8, 7, 8):
        forward(images(count))
    assert (capture.captured, capture.replays) == (1, 1 + 3)  # one to see whether it is right


def test_sizes_gradients_and_layouts_are_captured_apart_and_nothing_is_overwritten(network: nn.Module) -> None:
    capture = Graphs()
    forward = Replayed(network, capture)
    asked = [images(8, seed) for seed in range(6)] + [
        images(4, seed).to(memory_format=torch.channels_last) for seed in range(6)
    ]
    with torch.no_grad():
        answers = [forward(x) for x in asked]
    ascents = [ascent(forward, x) for x in asked]
    assert capture.captured == 4
    for x, answer, found in zip(asked, answers, ascents, strict=True):
        assert torch.equal(answer, network(x))
        for value, expected in zip(found, ascent(network, x), strict=True):
            assert torch.equal(value, expected)


def test_a_graph_that_gives_other_bits_is_never_used(network: nn.Module) -> None:
    capture = Graphs(off_by=1e-7)
    forward = Replayed(network, capture)
    for seed in range(8):
        assert torch.equal(forward(images(8, seed)), network(images(8, seed)))
    assert (capture.captured, capture.replays) == (1, 1)


def test_what_cannot_be_captured_is_asked_as_before_and_tried_once(network: nn.Module) -> None:
    tried = []

    def capture(forward: Forward, sample: tuple[Tensor]) -> Forward:
        tried.append(sample)
        raise RuntimeError("operation not permitted when stream is capturing")

    forward = Replayed(network, capture)
    for seed in range(8):
        assert torch.equal(forward(images(8, seed)), network(images(8, seed)))
    assert len(tried) == 1


def test_batches_that_shrink_for_ever_are_not_all_captured(network: nn.Module) -> None:
    capture = Graphs()
    forward = Replayed(network, capture)
    for count in range(1, 50):
        for _ in range(5):
            forward(images(count))
    assert capture.captured == graphs._MOST


def capturing(monkeypatch: pytest.MonkeyPatch) -> Graphs:
    """Let PGD and AutoAttack launch graphs, as on a GPU."""
    capture = Graphs()
    for module in (pgd, driver):
        monkeypatch.setattr(module, "replayed", lambda forward, device: Replayed(forward, capture))
    return capture


def test_pgd_and_flatness_find_the_same_with_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_cnn()
    protocol = replace(
        SMOKE,
        robust_loss=replace(SMOKE.robust_loss, steps=8),
        flatness=replace(SMOKE.flatness, attack=replace(SMOKE.flatness.attack, steps=8)),
    )
    expected = without_autoattack(model, protocol)
    capture = capturing(monkeypatch)
    found = without_autoattack(model, protocol)
    assert found.measurements == expected.measurements
    assert [stage.passes for stage in found.stages] == [stage.passes for stage in expected.stages]
    assert capture.replays > 20


def test_autoattack_finds_the_same_in_as_many_passes_with_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = attacked(CASES[0])
    capture = capturing(monkeypatch)
    assert attacked(CASES[0]) == expected
    assert capture.replays > 100


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_s_graphs_give_its_kernels_bits() -> None:
    device = torch.device("cuda")
    model = small_cnn().to(device).requires_grad_(False)
    forward = replayed(model, device)
    for seed in range(8):
        x = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(seed)).to(device)
        for value, expected in zip(ascent(forward, x), ascent(model, x), strict=True):
            assert torch.equal(value, expected)
    assert isinstance(forward, Replayed)
    assert all(graph is not model for graph in forward._graphs.values())
    assert len(forward._graphs) == 1
