"""A study for readers: what its page shows, and the same as files that need no site."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import mark_safe

from leaderboard import charts, findings, selectors
from leaderboard.analysis import Evidence, Study
from leaderboard.figures import AXES, Figure
from leaderboard.paper_figures import draw_up, said
from leaderboard.statistics import Difference
from leaderboard.study_charts import study_figure, study_notes, study_svg


def write(study: Study, folder: Path) -> list[str]:
    """Write index.html, which opens from disk, each figure as SVG, PNG and CSV, table-1.csv and numbers.json.

    Returns what each figure says, and where all of it lies, as lines to print.
    """
    evidence = selectors.evidence(study)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files(evidence).items():
        (folder / name).write_bytes(content())
    page = contents(evidence, base="", linked=False)
    (folder / "index.html").write_text(render_to_string("leaderboard/report.html", page), encoding="utf-8")
    lines = [f"{shown['figure'].number}: {shown['figure'].finding}" for shown in page["figures"]]
    return [*lines, f"Table 1: {page['overfitting']}", f"report: {folder / 'index.html'}"]


def files(evidence: Evidence) -> dict[str, Callable[[], bytes]]:
    """Return what makes each file of a study, by its name."""
    rows = findings.table(evidence)
    found: dict[str, Callable[[], bytes]] = {
        "numbers.json": lambda: (json.dumps(_numbers(evidence), indent=2, ensure_ascii=False) + "\n").encode(),
        "table-1.csv": lambda: _table_csv(rows).encode(),
    }
    for figure in draw_up(evidence):
        if figure.marks:
            found[f"{figure.key}.csv"] = lambda figure=figure: figure.csv().encode()
            found[f"{figure.key}.svg"] = lambda figure=figure: charts.render_svg(_alone(figure)).encode()
            found[f"{figure.key}.png"] = lambda figure=figure: charts.render_png(_alone(figure))
    return found


def contents(evidence: Evidence, *, base: str, linked: bool) -> dict[str, Any]:
    """Return what the templates show; files lie under `base`, points lead to entries where they are `linked`."""
    rows = findings.table(evidence)
    return {
        "evidence": evidence,
        "base": base,
        "linked": linked,
        "figures": [
            {
                "figure": figure,
                "svg": inline(study_svg(figure, linked=linked)),
                "notes": study_notes(figure),
            }
            for figure in draw_up(evidence)
        ],
        "related": [
            (
                f"{AXES[one.y].name} with {AXES[one.x].name}",
                [said(found) for found in (one.defended, one.everything, one.equal_schedules)],
            )
            for one in findings.related(evidence)
        ],
        "overfitting": _overfitting(evidence),
        "columns": list(findings.TABLE),
        "rows": [(row, [_cell(column, cell) for column, cell in _cells(row)]) for row in rows],
        "order": [said(found) for found in findings.order(rows).values()],
    }


def _numbers(evidence: Evidence) -> dict[str, Any]:
    return {
        "study": asdict(evidence.study),
        "variants": {v.recipe.name: sorted(v.by_seed) for v in (*evidence.variants, *evidence.swept)},
        "correlations": [asdict(related) for related in findings.related(evidence)],
        "robust_overfitting": asdict(findings.overfitting(evidence)),
        "order_with_the_paper": {
            title: found and asdict(found) for title, found in findings.order(findings.table(evidence)).items()
        },
        "findings": {figure.key: figure.finding for figure in draw_up(evidence)},
    }


def _table_csv(rows: tuple[findings.TableRow, ...]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    ends = ("ours", "ours_low", "ours_high", "seeds", "paper")
    writer.writerow(["row", "method", "variant", *(f"{title}, {end}" for title in findings.TABLE for end in ends)])
    for row in rows:
        line: list[Any] = [row.number, row.method, row.title]
        for cell in row.cells:
            line += (cell.ours.value, cell.ours.low, cell.ours.high, cell.ours.seeds) if cell.ours else ("",) * 4
            line.append("" if cell.paper is None else cell.paper)
        writer.writerow(line)
    return text.getvalue()


def _cells(row: findings.TableRow) -> list[tuple[str, findings.Cell]]:
    return [(column, cell) for (column, _), cell in zip(findings.TABLE.values(), row.cells, strict=True)]


def _cell(column: str, cell: findings.Cell) -> tuple[str, str, str]:
    """Return our number, the range and count of its seeds, and the paper's number."""
    axis = AXES[column]
    paper = "–" if cell.paper is None else axis.written(cell.paper)
    if cell.ours is None:
        return "–", "", paper
    middle, _, seeds = axis.ranged(cell.ours).partition(" ")
    return middle, f"{seeds} n = {cell.ours.seeds}".strip(), paper


def _overfitting(evidence: Evidence) -> str:
    found = findings.overfitting(evidence)
    return (
        f"Robust error on test at the end minus that of the early-stopped snapshot: {_points(found.baseline, 'seeds')} "
        f"for plain adversarial training, {_points(found.every_variant, 'variants')} for all."
    )


def _points(found: Difference | None, of: str) -> str:
    if found is None:
        return f"too few {of}"
    value, low, high = (f"{100 * end:+.1f}" for end in (found.value, found.low, found.high))
    return f"{value} points [{low}, {high}] over {found.n} {of}".replace("-", "−")


def _alone(figure: Figure) -> dict[str, Any]:
    return study_figure(figure, "light", linked=False)


def inline(svg: str) -> str:
    """Return a drawing as markup that stands in a page."""
    # The renderer escapes every text; tests/leaderboard sends it a title full of markup.
    return mark_safe(svg)  # noqa: S308
