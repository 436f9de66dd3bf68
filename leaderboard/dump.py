"""Everything published as data: entries, numbers, outcomes by example, protocols and reported results."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from uuid import UUID

from evaluator.metrics import StageName
from evaluator.protocol import EvaluationProtocol, from_json, to_json
from evaluator.shipped import PROTOCOLS
from leaderboard import selectors, services
from leaderboard.board import SAID
from leaderboard.figures import as_text
from leaderboard.listing import Listing, listing, stamps
from leaderboard.models import Entry, Submission
from leaderboard.reported import Reported

Rows = Sequence[dict[str, Any]]

WITHOUT_PARQUET = (
    "No Parquet: pyarrow is not installed; `pip install -e '.[parquet]'` brings it. CSV and JSON are whole."
)


def write(folder: Path) -> list[str]:
    """Write all of it below `folder`; return a sentence for each thing that is left out."""
    folder.mkdir(parents=True)
    boards = [(protocol, listing(protocol, stamps())) for protocol in _protocols()]
    results = {one.submission.slug: one for one in Entry.objects.select_related("submission").defer("stages", "curves")}
    entries = [row for board in boards for row in _entries(*board, results)]
    numbers = [row for _, found in boards for row in _numbers(found)]
    documents = {
        "entries": entries,
        "measurements": numbers,
        "protocols": [{"digest": one.digest, **json.loads(to_json(one))} for one, _ in boards],
        "reported": [
            {name: getattr(row, name) for name in ("source", *(one.name for one in fields(Reported)))}
            for row in selectors.reported()
        ],
    }
    for name, document in documents.items():
        _write_json(folder / f"{name}.json", document)
    for name, rows in (("entries", entries), ("measurements", numbers)):
        _write_csv(folder / f"{name}.csv", rows)
    _write_outcomes(folder / "outcomes", entries)
    return _write_parquet(folder, {"entries": entries, "measurements": numbers})


def _protocols() -> list[EvaluationProtocol]:
    """Return what is or was measured under, also what the code has dropped since."""
    every = {protocol.digest: protocol for versions in PROTOCOLS.values() for protocol in versions}
    for document in Submission.objects.filter(entry__isnull=False).values_list("protocol", flat=True).distinct():
        protocol = from_json(json.dumps(document))
        every.setdefault(protocol.digest, protocol)
    return list(every.values())


def _entries(protocol: EvaluationProtocol, found: Listing, results: dict[str, Entry]) -> list[dict[str, Any]]:
    return [
        {
            "slug": row.slug,
            "title": row.title,
            "run_id": str(results[row.slug].run_id),
            "protocol": protocol.name,
            "protocol_version": protocol.version,
            "protocol_digest": protocol.digest,
            "rank": row.standing.rank if row.standing else None,
            "tied_with": row.standing.tied_with if row.standing else None,
            "on_pareto_front": row.on_front,
            "architecture": row.architecture,
            "extra_data": row.extra_data,
            **{name: getattr(row.said, name) for name in SAID},
            "is_reference": row.is_reference,
            "checkpoint_sha256": row.checkpoint,
            "stored_numbers": row.stored_numbers,
            "published_at": row.published_at.isoformat(),
            "seed": results[row.slug].seed,
            "seconds": row.seconds,
            "versions": results[row.slug].versions,
            "flags": list(row.flags),
            "robust_on_test": results[row.slug].robust_on_test,
        }
        for row in found.rows
        if row.slug in results
    ]


def _numbers(found: Listing) -> list[dict[str, Any]]:
    return [
        {
            "slug": row.slug,
            "column": column,
            "metric": number.metric,
            "split": number.split,
            **{name: getattr(number, name) for name in ("value", "low", "high", "n")},
        }
        for row in found.rows
        for column, number in row.numbers.items()
    ]


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_csv(path: Path, rows: Rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        if rows:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(
                {name: as_text(cell) if name in ("title", *SAID) else cell for name, cell in _flat(row).items()}
                for row in rows
            )


def _write_outcomes(folder: Path, entries: Rows) -> None:
    """Write what happened to each example, one shard a line, as far as the run store still has it; no preview."""
    folder.mkdir()
    stages = [stage for stage in StageName if stage is not StageName.PREVIEW]
    store = services.run_store()
    for entry in entries:
        lines = [
            json.dumps({"shard": asdict(shard.spec), "values": shard.values})
            for shard in store.shard_results(UUID(entry["run_id"]), *stages)
        ]
        if lines:
            (folder / f"{entry['slug']}.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")


def _write_parquet(folder: Path, tables: dict[str, Rows]) -> list[str]:
    try:
        import pyarrow  # an extra of some hundred megabytes that no other part needs
        import pyarrow.parquet
    except ImportError:
        return [WITHOUT_PARQUET]
    for name, rows in tables.items():
        if rows:
            table = pyarrow.Table.from_pylist([_flat(row) for row in rows])
            pyarrow.parquet.write_table(table, folder / f"{name}.parquet")
    return []


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose lists and objects are JSON in a cell."""
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
        for name, value in row.items()
    }
