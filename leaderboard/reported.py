"""Numbers that others published, read from their files: reported, not measured here, and never ranked.

A clone of RobustBench's repository holds what strangers contributed, so that its files are read as hostile: small
regular ones alone, each value bounded and checked; what is not as it should be is left out with a reason.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidationError

from evaluator.dataset_facts import DATASET_FACTS
from evaluator.exceptions import InvalidRequest
from evaluator.types import Norm

ROBUSTBENCH = "RobustBench"
"""The source of the rows of RobustBench's board."""

COLUMNS = {
    "clean_error_test": "Error test",
    "robust_error_test": "RErr test",
    "robust_error_train": "RErr train",
    "robust_error_test_early_stopped": "RErr test, early stopped",
    "flatness": "Flatness",
}
"""What is reported, errors as fractions, with the titles of its columns."""

_LONGEST_FILE = 1 << 16
_MOST_FILES = 2000


@dataclass(frozen=True)
class Reported:
    """One row: numbers by column name, what they were measured against, and where they come from."""

    position: int
    method: str
    group: str
    values: dict[str, float]
    setting: str
    dataset: str
    norm: str
    epsilon: float
    title: str = ""
    authors: str = ""
    link: str = ""
    architecture: str = ""
    venue: str = ""
    extra_data: bool | None = None


def table1(path: Path) -> list[Reported]:
    """Read the paper's Table 1, whose percentages become fractions.

    Raises:
        InvalidRequest: it is not the table that fixtures/README.md describes.
    """
    return _table(path, _of_table1)


def model_zoo(path: Path) -> list[Reported]:
    """Read the tables of RobustBench's model zoo, whose accuracies become errors.

    Raises:
        InvalidRequest: it is not the table that fixtures/README.md describes.
    """
    return _table(path, _of_model_zoo)


def model_infos(folder: Path) -> tuple[list[Reported], list[str]]:
    """Read the model_info of a clone of RobustBench's repository; return rows by robust error, and what was left out.

    Where others broke a model further than AutoAttack did, their number counts, as on RobustBench's own board.

    Raises:
        InvalidRequest: there is no such folder, too much in it, or nothing of use.
    """
    if not (folder / "model_info").is_dir():
        raise InvalidRequest(f"{folder} has no folder model_info; name a clone of RobustBench's repository")
    paths = [path for name in DATASET_FACTS for norm in Norm for path in _files(folder / "model_info" / name / norm)]
    if len(paths) > _MOST_FILES:
        raise InvalidRequest(f"{folder} has {len(paths)} models; at most {_MOST_FILES} are read")
    rows, left_out = [], []
    for path in paths:
        try:
            rows.append(_model_info(path))
        except (OSError, ValueError, RecursionError, InvalidRequest) as error:
            left_out.append(f"left out {path.name!r}: {_reason(error)}")
    if not rows:
        raise InvalidRequest(f"{folder} has no model on {', '.join(DATASET_FACTS)} that can be read")
    rows.sort(key=lambda row: (row.setting, row.values["robust_error_test"], row.method))
    return [replace(row, position=number) for number, row in enumerate(rows, 1)], left_out


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it holds characters that cannot be printed")
    return text


def _radius(text: str) -> float:
    found = re.fullmatch(r"(\d{1,4}(?:\.\d{1,9})?)(?:/(\d{1,4}))?", text)
    radius = float(found[1]) / float(found[2] or 1) if found and found[2] != "0" else 0.0
    if not 0 < radius < 100:
        raise ValueError(f"a radius is a number or a fraction such as 8/255, got {text[:20]!r}")
    return radius


_Line = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500), AfterValidator(_printable)]
_Accuracy = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class _ModelInfo(BaseModel):
    """What is read of one of RobustBench's files; it holds more."""

    name: _Line
    authors: _Line = ""
    link: _Line = ""
    venue: _Line = ""
    architecture: _Line = ""
    dataset: str
    eps: str
    clean_acc: _Accuracy
    autoattack_acc: _Accuracy
    external: _Accuracy | None = None
    additional_data: bool | None = None
    unreliable: bool = False


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.suffix == ".json")


def _model_info(path: Path) -> Reported:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _LONGEST_FILE:
        raise InvalidRequest(f"it is no regular file of up to {_LONGEST_FILE} bytes")
    dataset, norm = path.parent.parent.name, path.parent.name
    found = _ModelInfo.model_validate(json.loads(path.read_text(encoding="utf-8")))
    if found.dataset != dataset:
        raise InvalidRequest(f"it is about {found.dataset[:20]!r}, but lies under {dataset}")
    robust = found.autoattack_acc if found.external is None else min(found.autoattack_acc, found.external)
    return _of_robustbench(
        0, _printable(path.stem), dataset, norm, _radius(found.eps), found.clean_acc, robust,
        "as in model_info of their repository",
        title=found.name, authors=found.authors, link=found.link, architecture=found.architecture, venue=found.venue,
        extra_data=found.additional_data, group="unreliable" if found.unreliable else "",
    )  # fmt: skip


def _of_robustbench(
    position: int, method: str, dataset: str, norm: str, epsilon: float, clean: float, robust: float, origin: str,
    *, link: str, group: str = "", **about: Any,
) -> Reported:  # fmt: skip
    radius = f"{round(255 * epsilon)}/255" if norm == Norm.LINF else f"{epsilon:g}"
    errors = {"clean_error_test": clean, "robust_error_test": robust}
    return Reported(
        position=position,
        method=method[:100],
        group=group,
        values={name: round(1 - accuracy / 100, 6) for name, accuracy in errors.items()},
        setting=f"{DATASET_FACTS[dataset].title}, {norm} ≤ {radius}, AutoAttack, {origin}",
        dataset=dataset,
        norm=Norm(norm),
        epsilon=epsilon,
        link=link if re.fullmatch(r"https?://[!-~]{1,290}", link) else "",
        **about,
    )


def _table(path: Path, read: Callable[[dict[str, str]], Reported]) -> list[Reported]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return [read(row) for row in csv.DictReader(stream)]
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise InvalidRequest(
            f"{path} cannot be read as the table that fixtures/README.md describes: {error}"
        ) from error


def _of_table1(row: dict[str, str]) -> Reported:
    return Reported(
        position=int(row["row"]),
        method=row["method"],
        group=row["group"],
        values={
            "robust_error_test": float(row["rerr_test"]) / 100,
            "robust_error_train": float(row["rerr_train"]) / 100,
            "robust_error_test_early_stopped": float(row["rerr_test_early_stopped"]) / 100,
            "flatness": float(row["flatness_avg"]),
        },
        setting="CIFAR-10, ResNet-18, average-case flatness at ξ = 0.5",
        dataset="cifar10",
        norm=Norm.LINF,
        epsilon=0.0314,
    )


def _of_model_zoo(row: dict[str, str]) -> Reported:
    return _of_robustbench(
        int(row["row"]), row["model"], row["dataset"], row["norm"], _radius(row["epsilon"]),
        float(row["clean_accuracy"]), float(row["robust_accuracy"]), "as in the README of robustbench 1.1.1",
        title=row["paper"], link=row["link"], architecture=row["architecture"], venue=row["venue"],
    )  # fmt: skip


def _reason(error: Exception) -> str:
    """Return in few printable words why a file was left out."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
    return str(error)[:200].encode("unicode_escape").decode()
