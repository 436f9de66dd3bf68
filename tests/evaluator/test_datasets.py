import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from evaluator.dataset_facts import DATASET_FACTS, DatasetFacts
from evaluator.datasets import DATASETS, load_dataset
from evaluator.exceptions import DatasetMissing, InvalidRequest
from evaluator.torchvision_operators import load_torchvision
from evaluator.types import Split


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def pickled_like_the_published_files(content: dict) -> bytes:
    new = pickle.dumps(content, protocol=2)
    old = new.replace(b"\x89\x88\x87", b"K\x00K\x01\x87")
    assert old != new, "the dtype's align and copy flags are no longer where old files had integers"
    return old


def write_cifar(folder: Path, monkeypatch, class_name: str, label_key: str) -> dict[str, np.ndarray]:
    reader = getattr(load_torchvision().datasets, class_name)
    generator = np.random.default_rng(0)
    (folder / reader.base_folder).mkdir()
    data, lists = {}, {"train_list": [], "test_list": []}
    for kind, names in (("train_list", [name for name, _ in reader.train_list]), ("test_list", ["t"])):
        for name in names:
            data[name] = generator.integers(0, 256, (3, 3072), dtype=np.uint8)
            file = folder / reader.base_folder / name
            file.write_bytes(pickled_like_the_published_files({"data": data[name], label_key: [0, 7, 9]}))
            lists[kind].append([name, md5(file)])
    meta = folder / reader.base_folder / "meta"
    meta.write_bytes(pickle.dumps({"names": ["a", "b"]}))
    monkeypatch.setattr(reader, "train_list", lists["train_list"])
    monkeypatch.setattr(reader, "test_list", lists["test_list"])
    monkeypatch.setattr(reader, "meta", {"filename": "meta", "key": "names", "md5": md5(meta)})
    return data


def test_every_dataset_has_facts_and_a_reader():
    assert DATASETS.keys() == DATASET_FACTS.keys()
    assert all(facts.name == name for name, facts in DATASET_FACTS.items())
    assert all(len(facts.mean) == len(facts.std) == facts.image_shape[0] for facts in DATASET_FACTS.values())


def test_digits_have_the_declared_sizes_shape_and_statistics():
    digits = load_dataset("digits")
    facts: DatasetFacts = digits.facts
    for split in Split:
        assert digits.size(split) == facts.size(split)
        images, labels = digits.examples(split, 0, digits.size(split))
        assert images.shape == (facts.size(split), *facts.image_shape)
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert images.min() == 0
        assert images.max() == 1
        assert labels.unique().tolist() == list(range(facts.classes))
    images, _ = digits.examples(Split.TRAIN, 0, 797)
    assert images.mean().item() == pytest.approx(facts.mean[0], abs=1e-4)
    assert images.std().item() == pytest.approx(facts.std[0], abs=1e-3)


def test_digits_keep_the_order_of_scikit_learn_and_the_splits_do_not_overlap():
    from sklearn.datasets import load_digits

    bundled, digits = load_digits(), load_dataset("digits")
    train = digits.examples(Split.TRAIN, 0, 797)
    test = digits.examples(Split.TEST, 0, 1000)
    assert torch.equal(torch.cat([train[0], test[0]])[:, 0], torch.from_numpy(bundled.images / 16).float())
    assert torch.cat([train[1], test[1]]).tolist() == bundled.target.tolist()


def test_a_range_is_the_same_examples_as_the_whole_and_writing_into_it_changes_nothing():
    digits = load_dataset("digits")
    images, labels = digits.examples(Split.TEST, 10, 20)
    whole = digits.examples(Split.TEST, 0, 1000)
    assert torch.equal(images, whole[0][10:20])
    assert torch.equal(labels, whole[1][10:20])
    images.zero_()
    labels.zero_()
    again = digits.examples(Split.TEST, 10, 20)
    assert torch.equal(again[0], whole[0][10:20])
    assert torch.equal(again[1], whole[1][10:20])


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (5, 5), (7, 3), (990, 1001)])
def test_a_range_outside_the_split_is_refused_with_its_size(start, stop):
    with pytest.raises(InvalidRequest, match=rf"{start} to {stop} of digits test .* 1000"):
        load_dataset("digits").examples(Split.TEST, start, stop)


def test_an_unknown_dataset_is_refused_with_the_list_of_known_ones():
    with pytest.raises(InvalidRequest, match="'mnist'; there are digits, cifar10, cifar100, svhn"):
        load_dataset("mnist")


@pytest.mark.parametrize(
    ("name", "class_name", "label_key"), [("cifar10", "CIFAR10", "labels"), ("cifar100", "CIFAR100", "fine_labels")]
)
def test_cifar_files_become_the_same_pixels_in_file_order(tmp_path, monkeypatch, name, class_name, label_key):
    written = write_cifar(tmp_path, monkeypatch, class_name, label_key)
    dataset = load_dataset(name, data_dir=tmp_path)
    for split, names in ((Split.TRAIN, [n for n in written if n != "t"]), (Split.TEST, ["t"])):
        images, labels = dataset.examples(split, 0, dataset.size(split))
        expected = np.concatenate([written[n] for n in names]).reshape(-1, 3, 32, 32)
        assert torch.equal(images, torch.from_numpy(expected) / 255)
        assert labels.tolist() == [0, 7, 9] * len(names)


def test_a_changed_cifar_file_is_refused(tmp_path, monkeypatch):
    write_cifar(tmp_path, monkeypatch, "CIFAR10", "labels")
    with (tmp_path / "cifar-10-batches-py" / "t").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DatasetMissing, match="checksum"):
        load_dataset("cifar10", data_dir=tmp_path)


def test_svhn_files_become_the_same_pixels_and_ten_means_zero(tmp_path, monkeypatch):
    reader = load_torchvision().datasets.SVHN
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    lists = {}
    for split in Split:
        file = tmp_path / f"{split}_32x32.mat"
        savemat(file, {"X": pixels, "y": np.array([[10], [1], [9], [10]])})
        lists[split.value] = ["https://example.org/svhn", file.name, md5(file)]
    monkeypatch.setattr(reader, "split_list", lists)
    images, labels = load_dataset("svhn", data_dir=tmp_path).examples(Split.TEST, 0, 4)
    assert torch.equal(images, torch.from_numpy(pixels.transpose(3, 2, 0, 1).copy()) / 255)
    assert labels.tolist() == [0, 1, 9, 0]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_missing_files_are_named_with_the_folder_looked_in_and_where_to_get_them(tmp_path, monkeypatch, name):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    with pytest.raises(DatasetMissing, match=rf"{tmp_path}.*http"):
        load_dataset(name)


def test_facts_are_importable_without_torch():
    code = "import sys; sys.modules['torch'] = None; import evaluator.dataset_facts"
    subprocess.run([sys.executable, "-c", code], check=True)
