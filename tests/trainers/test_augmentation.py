import pytest
import torch
from torch import Tensor

from trainers.augmentation import cut_out, shifted

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def images(count: int = 200) -> Tensor:
    """Return images whose every pixel is another positive number, rows, columns and channels alike."""
    return torch.rand(count, 2, 8, 6, generator=torch.Generator().manual_seed(0)).clamp_min(1e-3)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_shifted_image_is_the_original_moved_with_black_behind_it(layout: torch.memory_format) -> None:
    originals = images().contiguous(memory_format=layout)
    moved = shifted(originals, 1, generator())
    padded = torch.nn.functional.pad(originals, [1, 1, 1, 1])
    candidates = torch.stack([padded[:, :, y : y + 8, x : x + 6] for y in range(3) for x in range(3)], dim=1)
    matches = (candidates == moved[:, None]).flatten(2).all(2)
    assert (matches.sum(1) == 1).all()
    assert (matches.sum(0) > 5).all()
    assert moved.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cutout_is_one_black_square_clipped_at_the_border(layout: torch.memory_format) -> None:
    originals = images().contiguous(memory_format=layout)
    cut = cut_out(originals, 3, generator())
    black = (cut == 0).all(1)
    assert torch.equal(cut, originals * ~black[:, None])
    rows, columns = black.any(2), black.any(1)
    assert torch.equal(black, rows[:, :, None] & columns[:, None, :])
    assert {*rows.sum(1).tolist()} == {*columns.sum(1).tolist()} == {2, 3}
    assert black.any(0).all()
    assert cut.is_contiguous(memory_format=layout)


def test_nothing_global_is_drawn_and_the_generator_decides() -> None:
    before = torch.get_rng_state()
    for change in (shifted, cut_out):
        assert torch.equal(change(images(), 2, generator()), change(images(), 2, generator()))
        assert not torch.equal(change(images(), 2, generator()), change(images(), 2, generator().manual_seed(9)))
    assert torch.equal(torch.get_rng_state(), before)
