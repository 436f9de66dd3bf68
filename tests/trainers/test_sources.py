from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluator.dataset_facts import DatasetFacts
from evaluator.datasets import Dataset, load_dataset
from evaluator.exceptions import InvalidRequest
from evaluator.types import Split
from trainers.settings import LabelledSettings, Range, UnlabeledSettings
from trainers.sources import SOURCES, Labelled, Source, Unlabeled

CPU = torch.device("cpu")


def numbered(count: int = 60, classes: int = 10) -> Dataset:
    """Return a data set whose example i has the one pixel i / 255 and the label i modulo `classes`."""
    facts = DatasetFacts("numbered", "Numbered", classes, (1, 1, 1), test=0, train=count, mean=(0.5,), std=(1.0,))
    pixels = (torch.arange(count) % 256).to(torch.uint8).reshape(-1, 1, 1, 1)
    return Dataset(facts, {Split.TRAIN: pixels}, {Split.TRAIN: torch.arange(count) % classes})


def built(settings: LabelledSettings, dataset: Dataset, order: torch.Generator, data_dir: Path | None = None) -> Source:
    noise = torch.Generator().manual_seed(2)
    return SOURCES[settings.kind](settings, dataset, data_dir=data_dir, device=CPU, order=order, noise=noise)


def source(*, count: int = 50, classes: int = 10, order: torch.Generator | None = None, **settings: Any) -> Labelled:
    chosen = LabelledSettings(kind="labelled", examples=Range(start=0, stop=count), **({"batch_size": 16} | settings))
    stream = built(chosen, numbered(max(count, 60), classes), order or torch.Generator().manual_seed(1))
    assert isinstance(stream, Labelled)
    return stream


def numbers(images: Tensor) -> Tensor:
    return (images.flatten() * 255).round().long()


def test_every_pass_shows_each_example_once_in_a_new_order() -> None:
    stream = source()
    assert stream.batches_per_epoch == 4
    passes = [torch.cat([numbers(stream.draw().images) for _ in range(4)]) for _ in range(2)]
    assert all(torch.equal(seen.sort().values, torch.arange(50)) for seen in passes)
    assert not torch.equal(*passes)


def test_images_keep_their_labels() -> None:
    batch = source().draw()
    assert torch.equal(batch.labels, numbers(batch.images) % 10)
    assert torch.equal(batch.targets, batch.labels)


@pytest.mark.parametrize("steps", [(), ({"kind": "flip"},)])
def test_images_are_bit_for_bit_those_of_the_data_set_and_lie_channels_last(steps: tuple[Any, ...]) -> None:
    settings = LabelledSettings(kind="labelled", examples=Range(start=7, stop=207), batch_size=200, augmentation=steps)
    dataset = load_dataset("digits")
    drawn = built(settings, dataset, torch.Generator().manual_seed(1)).draw()
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    images, labels = dataset.examples(Split.TRAIN, 7, 207)
    same = (
        (drawn.images == images[order]) | (drawn.images == images[order].flip(3))
        if steps
        else drawn.images == images[order]
    )
    assert same.all()
    assert torch.equal(drawn.labels, labels[order])
    assert drawn.images.is_contiguous(memory_format=torch.channels_last)


def test_label_noise_touches_targets_alone_and_not_the_order() -> None:
    clean, noisy = source().draw(), source(label_noise=0.9).draw()
    assert torch.equal(clean.images, noisy.images)
    assert torch.equal(clean.labels, noisy.labels)
    assert not torch.equal(noisy.targets, noisy.labels)


def test_label_noise_redraws_uniformly_the_true_class_included() -> None:
    # A redrawn label is the true one in 1 of 4 cases: 0.4 · 3/4 = 30 % differ.
    targets = source(count=20_000, label_noise=0.4, batch_size=20_000, classes=4).draw()
    wrong = targets.targets != targets.labels
    assert wrong.float().mean().item() == pytest.approx(0.3, abs=0.015)
    shares = torch.bincount(targets.targets[wrong], minlength=4) / wrong.sum()
    assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.025)


def test_label_noise_is_fresh_in_every_pass() -> None:
    stream = source(label_noise=0.5, batch_size=50)
    passes = [stream.draw() for _ in range(2)]
    first, second = (batch.targets[batch.images.flatten().argsort()] for batch in passes)
    assert not torch.equal(first, second)


def test_augmentation_changes_images_afresh_and_leaves_order_and_labels() -> None:
    steps = ({"kind": "cutout", "side": 1, "fill": "mean"}, {"kind": "crop", "pad": 1})
    plain, changed, again = (source(augmentation=chosen) for chosen in ((), steps, steps))
    shown = []
    for _ in range(8):
        before, after, repeated = plain.draw(), changed.draw(), again.draw()
        assert torch.equal(before.labels, after.labels)
        assert torch.equal(before.targets, after.targets)
        assert torch.equal(after.images, repeated.images)
        shown.append(after.images.flatten())
    assert {*torch.cat(shown).unique().tolist()} == {0.0, 0.5}
    assert not torch.equal(shown[0], shown[4])


def unlabeled(
    *,
    dataset: Dataset | None = None,
    order: torch.Generator | None = None,
    data_dir: Path | None = None,
    **settings: Any,
) -> Unlabeled:
    """Return a source of examples 0 … 29 with labels and 30 … 49 without."""
    chosen = {
        "kind": "unlabeled",
        "examples": {"start": 0, "stop": 30},
        "batch_size": 8,
        "fraction": 0.3,
        "unlabeled": {"kind": "withheld", "examples": {"start": 30, "stop": 50}},
    } | settings
    stream = built(
        UnlabeledSettings.model_validate(chosen),
        dataset or numbered(),
        order or torch.Generator().manual_seed(1),
        data_dir,
    )
    assert isinstance(stream, Unlabeled)
    return stream


@pytest.mark.parametrize(("fraction", "share"), [(0.3, 2), (0.7, 6), (0.5, 4)])
def test_every_batch_is_full_and_has_exactly_its_share_of_unlabeled_images(fraction: float, share: int) -> None:
    stream = unlabeled(fraction=fraction)
    assert stream.batches_per_epoch == 4
    for _ in range(25):
        shown = numbers(stream.draw().images)
        assert len(shown) == 8
        assert (shown >= 30).sum() == share


def test_both_kinds_come_in_passes_of_their_own_and_mixed_within_the_batch() -> None:
    stream = unlabeled()
    batches = [numbers(stream.draw().images) for _ in range(50)]
    shown = torch.cat(batches)
    for kind, size in ((shown[shown < 30], 30), (shown[shown >= 30] - 30, 20)):
        assert len(kind) == 50 * 6 if size == 30 else 50 * 2
        passes = kind.view(-1, size).sort(1)
        assert torch.equal(passes.values, torch.arange(size).expand(len(passes.values), size))
        assert len(passes.indices.unique(dim=0)) == len(passes.values)
    places = torch.stack(batches) >= 30
    assert places.any(0).all()


def test_an_epoch_is_as_long_as_without_the_additional_images() -> None:
    assert unlabeled(batch_size=7).batches_per_epoch == source(count=30, batch_size=7).batches_per_epoch == 5


def test_labels_of_withheld_examples_are_never_read() -> None:
    honest, poisoned = numbered(), numbered()
    poisoned.labels[Split.TRAIN][30:] = -(10**6)
    for _ in range(3):
        one, other = unlabeled(dataset=honest).draw(), unlabeled(dataset=poisoned).draw()
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.targets, other.targets)


def test_label_noise_reaches_the_targets_of_unlabeled_images_too_and_never_their_labels() -> None:
    clean, noisy = unlabeled(), unlabeled(label_noise=1.0)
    changed = []
    for _ in range(20):
        before, after = clean.draw(), noisy.draw()
        assert torch.equal(before.images, after.images)
        assert torch.equal(before.labels, after.labels)
        changed.append((after.targets != after.labels)[numbers(after.images) >= 30])
    assert torch.cat(changed).any()


def test_images_of_a_file_come_with_its_labels(tmp_path: Path) -> None:
    pixels = np.arange(100, 120, dtype=np.uint8).reshape(-1, 1, 1, 1)
    np.savez(tmp_path / "more.npz", image=pixels, label=np.full(20, 3))
    stream = unlabeled(unlabeled={"kind": "file", "name": "more.npz"}, data_dir=tmp_path)
    batches = [stream.draw() for _ in range(10)]
    shown, labels = (torch.cat(parts) for parts in zip(*((numbers(b.images), b.labels) for b in batches), strict=True))
    assert torch.equal(shown[shown >= 100].sort().values, torch.arange(100, 120))
    assert (labels[shown >= 100] == 3).all()
    assert torch.equal(labels[shown < 100], shown[shown < 100] % 10)


@pytest.mark.parametrize(("fraction", "share"), [(0.01, 0), (0.99, 8)])
def test_a_batch_without_one_of_the_kinds_is_refused(fraction: float, share: int) -> None:
    with pytest.raises(InvalidRequest, match=f"is {share} of a batch of 8; a batch needs at least one"):
        unlabeled(fraction=fraction)


STREAMS = {"labelled": source, "unlabeled": unlabeled}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_restored_source_goes_on_where_it_was_within_a_pass(kind: str) -> None:
    order, another_order = torch.Generator().manual_seed(1), torch.Generator()
    stream, other = STREAMS[kind](order=order), STREAMS[kind](order=another_order)
    for _ in range(3):
        stream.draw()
    other.load_state_dict(stream.state_dict())
    another_order.set_state(order.get_state())
    for _ in range(12):
        one, another = stream.draw(), other.draw()
        assert torch.equal(one.images, another.images)
        assert torch.equal(one.labels, another.labels)


def test_withheld_examples_that_no_label_reaches_are_left_out_and_refused_when_nothing_is_left() -> None:
    # Seven nearest neighbours of 30 and 31 are labelled ones; the eight or more from 50 on have but each other.
    pixels = torch.tensor([*range(32), *range(150, 178)]).to(torch.uint8).view(-1, 1, 1, 1)
    dataset = numbered()
    split = Dataset(dataset.facts, {Split.TRAIN: pixels}, dataset.labels)
    reached = unlabeled(dataset=split)
    shown = torch.cat([numbers(reached.draw().images) for _ in range(20)])
    assert {*shown[shown >= 30].tolist()} == {30, 31}
    with pytest.raises(InvalidRequest, match="no label reaches any of the withheld examples 32 … 60"):
        unlabeled(dataset=split, unlabeled={"kind": "withheld", "examples": {"start": 32, "stop": 60}})


def test_examples_beyond_the_training_split_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="60"):
        unlabeled(unlabeled={"kind": "withheld", "examples": {"start": 40, "stop": 61}})


def test_withheld_digits_mostly_get_the_label_they_would_have_had() -> None:
    dataset = load_dataset("digits")
    stream = unlabeled(
        dataset=dataset,
        examples={"start": 0, "stop": 400},
        unlabeled={"kind": "withheld", "examples": {"start": 597, "stop": 797}},
        batch_size=400,
        fraction=0.5,
    )
    drawn = stream.draw()
    images, labels = dataset.examples(Split.TRAIN, 0, 797)
    truth = torch.stack([labels[(images == image).flatten(1).all(1)][0] for image in drawn.images])
    assert 0.9 < (drawn.labels == truth).float().mean() < 1
