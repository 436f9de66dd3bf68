"""Images without labels and the labels put in their place: by label spreading, or from a file of somebody's guesses."""

import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
from safetensors import SafetensorError
from torch import Tensor

from evaluator.dataset_facts import DatasetFacts
from evaluator.environment import read_environment
from evaluator.exceptions import DatasetMissing, InvalidRequest

_Array = npt.NDArray[Any]


def spread_labels(labelled: Tensor, labels: Tensor, unlabeled: Tensor) -> Tensor:
    """Return labels [m] for `unlabeled` pixels [m, c, h, w], spread from `labelled` [n, c, h, w] and `labels` [n].

    Zhou et al. (2004) on the graph of seven nearest neighbours in pixel space, by scikit-learn and with its values;
    nothing is random. An image that no label reaches has the label −1.
    """
    from sklearn.semi_supervised import LabelSpreading

    known = np.concatenate([labels.numpy(), np.full(len(unlabeled), -1)])
    spreading = LabelSpreading(kernel="knn", n_neighbors=7, tol=1e-9)  # an earlier end would leave remote images out
    spreading.fit(torch.cat([labelled, unlabeled]).flatten(1).double().numpy(), known)
    reached = spreading.label_distributions_.any(1)
    return torch.from_numpy(np.where(reached, spreading.transduction_, -1)[len(labels) :]).long()


def read_pseudo_labelled(name: str, facts: DatasetFacts, data_dir: Path | None) -> tuple[Tensor, Tensor]:
    """Return pixels (uint8 [n, c, h, w] of 0 … `facts.white`) and labels (int64 [n]) of the file `name`.

    `data_dir` is the data folder (default: the environment's). The file may keep its images as [n, h, w, c] too.

    Raises:
        InvalidRequest: `name` leaves the data folder, or is no .npz or .safetensors.
        DatasetMissing: the file is not there, or not such images and labels as the data set's.
    """
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise InvalidRequest(f"{name!r} leaves the data folder; name a file below it")
    if (reader := _READERS.get(PurePath(name).suffix)) is None:
        raise InvalidRequest(f"{name!r} is not a file of a kind that is read here; there are {', '.join(_READERS)}")
    path = (data_dir or read_environment().data_dir) / name
    if not path.is_file():
        raise DatasetMissing(f"{path} is not there; put pseudo-labelled images there, as arrays `image` and `label`")
    try:
        arrays = reader(path)
        images, labels = arrays["image"], arrays["label"]
    except (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile, zlib.error, SafetensorError) as error:
        raise DatasetMissing(
            f"{path} does not hold arrays `image` and `label` that can be read without pickle: {error}"
        ) from error
    return _checked(path, images, labels, facts)


def _npz(path: Path) -> Mapping[str, _Array]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in ("image", "label")}


_READERS: dict[str, Callable[[Path], Mapping[str, _Array]]] = {
    ".npz": _npz,
    ".safetensors": safetensors.numpy.load_file,
}


def _checked(path: Path, images: _Array, labels: _Array, facts: DatasetFacts) -> tuple[Tensor, Tensor]:
    channels, height, width = facts.image_shape
    if images.shape[1:] == (height, width, channels):
        images = images.transpose(0, 3, 1, 2)
    if images.dtype != np.uint8 or images.shape[1:] != facts.image_shape:
        raise DatasetMissing(
            f"`image` of {path} is {images.dtype} {list(images.shape)}; {facts.name} needs uint8 "
            f"[n, {channels}, {height}, {width}] or [n, {height}, {width}, {channels}]"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (len(images),) or not len(labels):
        raise DatasetMissing(
            f"`label` of {path} is {labels.dtype} {list(labels.shape)} beside {len(images)} images; "
            "give each image a whole number"
        )
    if images.max() > facts.white or labels.min() < 0 or labels.max() >= facts.classes:
        raise DatasetMissing(
            f"{path} has pixels up to {images.max()} and labels {labels.min()} … {labels.max()}; {facts.name} has "
            f"pixels up to {facts.white} and labels 0 … {facts.classes - 1}"
        )
    return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64))
