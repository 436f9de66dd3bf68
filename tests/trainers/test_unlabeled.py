import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from evaluator.dataset_facts import DatasetFacts
from evaluator.exceptions import DatasetMissing, InvalidRequest
from trainers.unlabeled import read_pseudo_labelled, spread_labels

FACTS = DatasetFacts("tiny", "Tiny", 10, (3, 4, 5), test=0, train=0, mean=(0.5,) * 3, std=(1.0,) * 3, white=200)
IMAGES = np.random.default_rng(0).integers(0, 201, (6, 3, 4, 5), dtype=np.uint8)
LABELS = np.arange(6) % 10


def write(path: Path, **arrays: Any) -> None:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_file(arrays, path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_file_gives_its_pixels_and_labels_however_its_channels_lie(
    suffix: str, channels_last: bool, tmp_path: Path
) -> None:
    stored = np.ascontiguousarray(IMAGES.transpose(0, 2, 3, 1)) if channels_last else IMAGES
    (tmp_path / "below").mkdir()
    write(tmp_path / f"below/more{suffix}", image=stored, label=LABELS.astype(np.uint8))
    pixels, labels = read_pseudo_labelled(f"below/more{suffix}", FACTS, tmp_path)
    assert torch.equal(pixels, torch.from_numpy(IMAGES))
    assert torch.equal(labels, torch.arange(6))
    assert labels.dtype == torch.int64


def test_the_data_folder_is_the_environments_unless_said_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    write(tmp_path / "more.npz", image=IMAGES, label=LABELS)
    assert len(read_pseudo_labelled("more.npz", FACTS, None)[1]) == 6


@pytest.mark.parametrize("name", ["../more.npz", "/more.npz", "a/../../more.npz"])
def test_a_name_that_leaves_the_data_folder_is_refused(name: str, tmp_path: Path) -> None:
    write(tmp_path / "more.npz", image=IMAGES, label=LABELS)
    (tmp_path / "data").mkdir()
    with pytest.raises(InvalidRequest, match="leaves the data folder"):
        read_pseudo_labelled(name, FACTS, tmp_path / "data")


def test_another_kind_of_file_is_refused_with_the_kinds_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"there are \.npz, \.safetensors"):
        read_pseudo_labelled("more.pickle", FACTS, tmp_path)


def test_a_missing_file_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(DatasetMissing, match=r"more\.npz is not there; put"):
        read_pseudo_labelled("more.npz", FACTS, tmp_path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image": IMAGES[:, :, :, :4]}, r"uint8 \[6, 3, 4, 4\]; tiny needs uint8 \[n, 3, 4, 5\] or \[n, 4, 5, 3\]"),
        ({"image": IMAGES.astype(np.float32)}, "float32"),
        ({"image": IMAGES[0]}, r"uint8 \[3, 4, 5\]"),
        ({"image": np.full_like(IMAGES, 201)}, "pixels up to 201 .* pixels up to 200"),
        ({"label": LABELS[:5]}, r"\[5\] beside 6 images"),
        ({"label": LABELS.astype(np.float32)}, "whole number"),
        ({"image": IMAGES[:0], "label": LABELS[:0]}, "beside 0 images"),
        ({"label": LABELS + 5}, "labels 5 … 10; .* labels 0 … 9"),
        ({"label": LABELS - 1}, "labels -1 … 4"),
    ],
)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_images_and_labels_that_do_not_fit_the_data_set_are_refused(
    suffix: str, changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    write(tmp_path / f"more{suffix}", **({"image": IMAGES, "label": LABELS} | changes))
    with pytest.raises(DatasetMissing, match=sentence):
        read_pseudo_labelled(f"more{suffix}", FACTS, tmp_path)


class Opened:
    """What a pickle would do to whoever opens it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was opened",)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps(Opened()), b"PK\x03\x04 not a whole archive"])
def test_a_file_of_other_bytes_is_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / f"more{suffix}").write_bytes(content)
    with pytest.raises(DatasetMissing, match="without pickle"):
        read_pseudo_labelled(f"more{suffix}", FACTS, tmp_path)


def test_pickled_arrays_are_never_opened(tmp_path: Path) -> None:
    write(tmp_path / "more.npz", image=np.array([Opened()], dtype=object), label=LABELS)
    with pytest.raises(DatasetMissing, match="without pickle"):
        read_pseudo_labelled("more.npz", FACTS, tmp_path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("absent", ["image", "label"])
def test_a_file_without_one_of_the_arrays_is_refused(suffix: str, absent: str, tmp_path: Path) -> None:
    arrays = {"image": IMAGES, "label": LABELS}
    arrays["other"] = arrays.pop(absent)
    write(tmp_path / f"more{suffix}", **arrays)
    with pytest.raises(DatasetMissing, match=absent):
        read_pseudo_labelled(f"more{suffix}", FACTS, tmp_path)


def test_labels_spread_along_chains_of_neighbours_and_no_further() -> None:
    # Two rows of images with labels at one end each: their other ends are told by neighbours of neighbours. The eight
    # in the middle are each other's nearest, and no label finds the way.
    steps = torch.arange(30, dtype=torch.uint8)
    low, high = steps.view(-1, 1, 1, 1), (255 - steps).view(-1, 1, 1, 1)
    middle = torch.arange(120, 128, dtype=torch.uint8).view(-1, 1, 1, 1)
    labelled, unlabeled = torch.cat([low[:5], high[:5]]), torch.cat([low[5:], middle, high[5:]])
    guesses = spread_labels(labelled, torch.tensor([7] * 5 + [2] * 5), unlabeled)
    assert guesses.tolist() == [7] * 25 + [-1] * 8 + [2] * 25
    assert guesses.dtype == torch.int64
