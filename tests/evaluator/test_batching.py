"""The batch is what memory bears and time rewards, it leaves no trace, and no network makes the choice fail."""

import itertools

import torch
from torch import nn

from evaluator import batching
from evaluator.batching import fastest_batch_size, free_bytes, kept_bytes
from tests.evaluator.models import small_cnn

CPU, SHAPE = torch.device("cpu"), (1, 8, 8)


def seconds(monkeypatch, of_size):
    """Let passes take what `of_size` says; return the sizes that are tried."""
    tried = []

    def taken(_model, _shape, _device, size):
        tried.append(size)
        return of_size(size)

    monkeypatch.setattr(batching, "_seconds", taken)
    return tried


def test_the_smallest_batch_is_chosen_in_which_images_cost_about_the_least(monkeypatch):
    tried = seconds(monkeypatch, lambda size: 0.001 + size * (1e-4 if size <= 64 else 2e-4))
    assert fastest_batch_size(small_cnn(), SHAPE, CPU, most=1000) == 64
    assert tried == [8, 16, 32, 64, 128, 256, 512]
    seconds(monkeypatch, lambda size: 1e-5 * size)
    assert fastest_batch_size(small_cnn(), SHAPE, CPU, most=1000) == 8


def test_a_long_pass_ends_the_search_and_no_size_is_larger_than_asked_for(monkeypatch):
    tried = seconds(monkeypatch, lambda size: 0.08 + size * 1e-3)
    assert fastest_batch_size(small_cnn(), SHAPE, CPU, most=1000) == 32
    assert tried == [8, 16, 32]
    for most in (1, 5, 20):
        tried = seconds(monkeypatch, lambda size: 0.001)
        assert fastest_batch_size(small_cnn(), SHAPE, CPU, most=most) == max(tried) <= most


def test_what_would_fill_memory_is_not_tried(monkeypatch):
    tried = seconds(monkeypatch, lambda size: 0.001)
    kept = kept_bytes(small_cnn(), SHAPE, CPU)
    monkeypatch.setattr(batching, "free_bytes", lambda device: 40 * 4 * kept)
    assert fastest_batch_size(small_cnn(), SHAPE, CPU, most=1000) == 32
    assert tried == [8, 16, 32]


def test_memory_that_runs_out_ends_the_search(monkeypatch):
    def exhausted(size):
        if size > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 0.001

    seconds(monkeypatch, exhausted)
    assert fastest_batch_size(small_cnn(), SHAPE, CPU, most=1000) == 16


def test_a_network_that_fails_or_has_no_gradient_gets_a_small_batch():
    class Failing(nn.Module):
        def forward(self, images):
            raise TypeError("on purpose")

    class Constant(nn.Module):
        def forward(self, images):
            return torch.zeros(len(images), 10)

    assert fastest_batch_size(Failing(), SHAPE, CPU, most=1000) == 8
    assert fastest_batch_size(Constant(), SHAPE, CPU, most=1000) == 8


def test_what_a_pass_keeps_is_counted_without_weights():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1000, bias=False), nn.Tanh()).requires_grad_(False)
    assert kept_bytes(model, SHAPE, CPU) == 4 * 1000  # of tanh, its output


def test_a_limit_of_the_process_bounds_free_memory(monkeypatch):
    free = free_bytes(CPU)
    own = batching._kilobytes("/proc/self/status", "VmData")
    assert free > 0
    assert own is not None
    monkeypatch.setattr("resource.getrlimit", lambda _: (own + 10_000_000, own + 10_000_000))
    assert free_bytes(CPU) <= 10_000_000 + 64_000_000 < max(free, 100_000_000)


def test_choosing_leaves_modes_flags_hooks_and_generators_as_they_were():
    model = small_cnn().train()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    noisy = nn.Sequential(model, nn.Dropout()).train()
    size = fastest_batch_size(noisy, SHAPE, CPU, most=64)
    assert size in (8, 16, 32, 64)
    assert torch.equal(before, torch.random.get_rng_state())
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in itertools.chain(noisy.parameters()))
    assert not noisy._forward_hooks
