"""What changed from one version of a protocol to the next: in its fields, from the code, and in words (pure)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluator.protocol import EvaluationProtocol, to_fields

ABSENT = "–"
"""What stands for a field that a version does not have."""

_SECTION = re.compile(r"^## Protocols\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
_ITEM = re.compile(r"^- (.*?)(?=^- |\Z)", re.DOTALL | re.MULTILINE)
_LABEL = re.compile(r"`([\w-]+ v\d+)`")


@dataclass(frozen=True)
class Change:
    """One field that two versions have differently."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Version:
    """One version of a protocol, what is new in it, and what the changelog says of it."""

    protocol: EvaluationProtocol
    fields: tuple[tuple[str, Any], ...]
    previous: EvaluationProtocol | None
    changes: tuple[Change, ...]
    sentence: str


def history(versions: Sequence[EvaluationProtocol], sentences: Mapping[str, str]) -> tuple[Version, ...]:
    """Return all versions of a protocol, given oldest first, newest first; `sentences` are by label."""
    found = [
        Version(
            protocol=protocol,
            fields=tuple(flat(to_fields(protocol)).items()),
            previous=previous,
            changes=changes(previous, protocol) if previous else (),
            sentence=sentences.get(protocol.label, ""),
        )
        for previous, protocol in zip((None, *versions), versions, strict=False)
    ]
    return tuple(reversed(found))


def changes(before: EvaluationProtocol, after: EvaluationProtocol) -> tuple[Change, ...]:
    """Return every field that differs, but for the version itself."""
    old, new = flat(to_fields(before)), flat(to_fields(after))
    pairs = {name: (old.get(name, ABSENT), new.get(name, ABSENT)) for name in (*new, *old) if name != "version"}
    return tuple(Change(name, *pair) for name, pair in pairs.items() if pair[0] != pair[1])


def flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested fields under dotted names."""
    rows: dict[str, Any] = {}
    for name, value in fields.items():
        rows |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return rows


def sentences(changelog: str) -> dict[str, str]:
    """Return what the changelog's section on protocols says of each label; an item names its labels before a colon."""
    section = _SECTION.search(changelog)
    found: dict[str, str] = {}
    for item in _ITEM.findall(section[1]) if section else ():
        labels, _, sentence = " ".join(item.split()).partition(": ")
        found |= dict.fromkeys(_LABEL.findall(labels), sentence.replace("`", ""))
    return found
