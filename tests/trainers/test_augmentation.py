from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter
from torch import Tensor

from trainers.augmentation import AUGMENTATIONS, augmented
from trainers.settings import AugmentationSettings

LAYOUTS = [torch.contiguous_format, torch.channels_last]
STEPS: dict[str, dict[str, Any]] = {
    "crop": {"pad": 1},
    "zoom-out": {"pad": 2},
    "flip": {},
    "auto-augment": {},
    "cutout": {"side": 3},
}
MEAN = torch.tensor([0.25, 0.5]).view(-1, 1, 1)


def images(count: int = 200, channels: int = 2, height: int = 8, width: int = 6) -> Tensor:
    """Return images whose every pixel is another positive number, rows, columns and channels alike."""
    shape = (count, channels, height, width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).clamp_min(1e-3)


def after(originals: Tensor, kind: str, *, seed: int = 1, **settings: Any) -> Tensor:
    step = TypeAdapter(AugmentationSettings).validate_python({"kind": kind} | STEPS[kind] | settings)
    mean = torch.full((originals.shape[1], 1, 1), 0.5) if originals.shape[1] != 2 else MEAN
    return augmented(originals, [step], mean, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("fill", ["black", "mean"])
def test_every_cropped_image_is_the_original_moved_with_the_fill_behind_it(fill: str) -> None:
    originals = images()
    moved = after(originals, "crop", fill=fill)
    padded = (MEAN * (fill == "mean")).expand(200, 2, 10, 8).clone()
    padded[:, :, 1:-1, 1:-1] = originals
    candidates = torch.stack([padded[:, :, y : y + 8, x : x + 6] for y in range(3) for x in range(3)], dim=1)
    matches = (candidates == moved[:, None]).flatten(2).all(2)
    assert (matches.sum(1) == 1).all()
    assert (matches.sum(0) > 5).all()


def test_a_row_of_two_pixels_zooms_out_to_means_of_neighbours() -> None:
    # With a pixel of border at both sides, (0, a, b, 0) becomes two by looking at 0.5 and 2.5: a/2 and b/2. At one
    # side, (0, a, b) or (a, b, 0) is looked at in 0.25 and 1.75. In height, one border halves and two change nothing.
    a, b = 0.8, 0.4
    zoomed = after(torch.tensor([a, b]).expand(400, 2, 1, 2).contiguous(), "zoom-out", pad=1)
    rows = [[a, b], [a / 2, b / 2], [a / 4, a / 4 + 3 * b / 4], [3 * a / 4 + b / 4, b / 4]]
    expected = {tuple(round(value / part, 4) for value in row) for row in rows for part in (1, 2)}
    assert {tuple(round(value, 4) for value in row) for row in zoomed[:, 0, 0].tolist()} == expected


def test_every_zoomed_image_is_the_padded_original_scaled_by_torchs_own_interpolation() -> None:
    originals = images(count=40, height=5, width=4)
    zoomed = after(originals, "zoom-out", pad=1)
    sides = [(left, right, top, bottom) for left in (0, 1) for right in (0, 1) for top in (0, 1) for bottom in (0, 1)]
    candidates = torch.stack([F.interpolate(F.pad(originals, pads), (5, 4), mode="bilinear") for pads in sides], dim=1)
    matches = ((candidates - zoomed[:, None]).abs() < 1e-6).flatten(2).all(2)
    assert (matches.sum(1) == 1).all()
    assert matches.any(0).sum() >= 12


def test_each_side_is_padded_by_a_number_of_its_own_up_to_the_largest() -> None:
    # White images show the border: rows and columns shrink by their own two pads out of 0 … 4 each.
    light = after(torch.ones(3000, 2, 32, 32), "zoom-out", pad=4)[:, 0]
    heights, widths = light.amax(2).sum(1), light.amax(1).sum(1)
    shares = torch.tensor([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 25
    for sizes in (heights, widths):
        pads = ((32 * 32 / sizes) - 32).round().long()
        assert (torch.bincount(pads, minlength=9) / 3000 - shares).abs().max() < 0.03
    assert abs(torch.corrcoef(torch.stack([heights, widths]))[0, 1]) < 0.06


def test_about_half_of_the_images_are_mirrored_left_to_right() -> None:
    originals = images(2000)
    flipped = after(originals, "flip")
    kept = (flipped == originals).flatten(1).all(1)
    mirrored = (flipped == originals.flip(3)).flatten(1).all(1)
    assert (kept ^ mirrored).all()
    assert kept.float().mean().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("fill", ["black", "mean"])
def test_a_cutout_is_one_square_of_the_fill_clipped_at_the_border(fill: str) -> None:
    originals = images()
    cut = after(originals, "cutout", fill=fill)
    covered = (cut == MEAN * (fill == "mean")).all(1)
    assert torch.equal(cut, torch.where(covered[:, None], MEAN * (fill == "mean"), originals))
    rows, columns = covered.any(2), covered.any(1)
    assert torch.equal(covered, rows[:, :, None] & columns[:, None, :])
    assert {*rows.sum(1).tolist()} == {*columns.sum(1).tolist()} == {2, 3}
    assert covered.any(0).all()


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 8), (3, 32)])
def test_auto_augment_changes_images_one_by_one_and_stays_on_256_levels(channels: int, side: int) -> None:
    originals = (images(60, channels, side, side) * 255).round() / 255
    changed = after(originals, "auto-augment")
    assert torch.equal((changed * 255).round() / 255, changed)
    differs = (changed != originals).flatten(1).any(1)
    assert 20 < differs.sum() < 60
    same = after(originals[:1].expand(60, -1, -1, -1), "auto-augment")
    assert len(same.flatten(1).unique(dim=0)) > 10


@pytest.mark.parametrize("kind", AUGMENTATIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_step_keeps_shape_layout_and_range_and_its_input(kind: str, layout: torch.memory_format) -> None:
    originals = images(64, channels=3).contiguous(memory_format=layout)
    before = originals.clone()
    changed = after(originals, kind)
    assert changed.shape == originals.shape
    assert changed.dtype == torch.float32
    assert changed.is_contiguous(memory_format=layout)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.equal(originals, before)


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_nothing_global_is_drawn_and_the_generator_decides(kind: str) -> None:
    originals, before = images(channels=3), torch.get_rng_state()
    assert torch.equal(after(originals, kind), after(originals, kind))
    assert not torch.equal(after(originals, kind), after(originals, kind, seed=9))
    assert torch.equal(torch.get_rng_state(), before)


def test_steps_happen_in_the_order_given() -> None:
    # A crop of mean fill over a black cutout leaves black squares whole; the other way round they reach the border.
    adapter = TypeAdapter(tuple[AugmentationSettings, ...])
    first, second = {"kind": "crop", "pad": 1, "fill": "mean"}, {"kind": "cutout", "side": 40}
    for steps, shade in (((first, second), 0.0), ((second, first), 0.5)):
        light = augmented(
            torch.ones(50, 1, 8, 8),
            adapter.validate_python(steps),
            torch.tensor(0.5).view(1, 1, 1),
            torch.Generator().manual_seed(1),
        )
        assert {*light.unique().tolist()} == {0.0, shade}


def test_no_step_is_left_untested() -> None:
    assert set(STEPS) == set(AUGMENTATIONS)
