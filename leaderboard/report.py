"""A study for readers: what its page shows, and the same as files that need no site."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.template.loader import render_to_string

from leaderboard import charts, drawings, findings, selectors
from leaderboard.analysis import Evidence, Study
from leaderboard.figures import AXES, Figure, as_csv
from leaderboard.page_charts import Chart, Source, inline
from leaderboard.paper_figures import draw_up, said
from leaderboard.statistics import Difference
from leaderboard.study_charts import study_figure, study_notes, study_size, study_svg


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
    lines = [f"{figure.number}: {figure.finding}" for figure, _ in page["figures"]]
    return [*lines, f"Table 1: {page['overfitting']}", f"report: {folder / 'index.html'}"]


def files(evidence: Evidence) -> dict[str, Callable[[], bytes]]:
    """Return what makes each file of a study, by its name."""
    rows = findings.table(evidence)
    found: dict[str, Callable[[], bytes]] = {
        "numbers.json": lambda: (json.dumps(_numbers(evidence), indent=2, ensure_ascii=False) + "\n").encode(),
        "table-1.csv": lambda: _table_csv(rows).encode(),
        "groups.csv": lambda: _groups_csv(evidence).encode(),
    }
    for figure in draw_up(evidence):
        if figure.marks:
            found[f"{figure.key}.csv"] = lambda figure=figure: figure.csv().encode()
            found[f"{figure.key}.svg"] = lambda figure=figure: charts.render_svg(_alone(figure)).encode()
            found[f"{figure.key}.png"] = lambda figure=figure: charts.render_png(_alone(figure))
            found[f"{figure.key}.vl.json"] = lambda figure=figure: json.dumps(_alone(figure)).encode()
    return found


def contents(evidence: Evidence, *, base: str, linked: bool) -> dict[str, Any]:
    """Return what the templates show; files lie under `base`, points lead to entries where they are `linked`."""
    rows, figures = findings.table(evidence), draw_up(evidence)
    return {
        "evidence": evidence,
        "base": base,
        "linked": linked,
        "figures": list(zip(figures, _charts(figures, evidence, base, linked=linked), strict=True)),
        "related": [
            (
                f"{AXES[one.y].name} with {AXES[one.x].name}",
                [said(found) for found in (one.defended, one.everything, one.equal_schedules)],
            )
            for one in findings.related(evidence)
        ],
        "overfitting": _overfitting(evidence),
        "grouped": [AXES[key] for key in findings.GROUPED],
        "groups": [
            (group, [AXES[key].ranged(number) for key, number in group.numbers.items()])
            for group in findings.groups(evidence)
        ],
        "columns": list(findings.TABLE),
        "rows": [(row, [_cell(column, cell) for column, cell in _cells(row)]) for row in rows],
        "order": [said(found) for found in findings.order(rows).values()],
    }


def _numbers(evidence: Evidence) -> dict[str, Any]:
    return {
        "study": asdict(evidence.study),
        "variants": {v.recipe.name: sorted(v.by_seed) for v in (*evidence.variants, *evidence.swept)},
        "correlations": [asdict(related) for related in findings.related(evidence)],
        "groups": [asdict(group) for group in findings.groups(evidence)],
        "robust_overfitting": asdict(findings.overfitting(evidence)),
        "order_with_the_paper": {
            title: found and asdict(found) for title, found in findings.order(findings.table(evidence)).items()
        },
        "findings": {figure.key: figure.finding for figure in draw_up(evidence)},
    }


def _groups_csv(evidence: Evidence) -> str:
    head = ["group", "variants", *(f"{key}{end}" for key in findings.GROUPED for end in ("", "_low", "_high"))]
    return as_csv(
        head,
        (
            (group.name, len(group.variants), *(e for n in group.numbers.values() for e in (n.value, n.low, n.high)))
            for group in findings.groups(evidence)
        ),
    )


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


def source(figure: Figure, study: Study) -> Source:
    """Return what the files of a study's figure are made from; on the page its points lead to entries."""
    return Source(
        made_of=figure,
        specify=lambda theme: study_figure(figure, theme, linked=theme == "page"),
        numbers=figure.csv,
        place=f"{study.family}/{figure.key}",
    )


def draw(evidence: Evidence) -> None:
    """Make those drawings of a study's page that no process has made yet."""
    for figure in draw_up(evidence):
        if figure.marks:
            source(figure, evidence.study).for_the_page()


def _charts(figures: Sequence[Figure], evidence: Evidence, base: str, *, linked: bool) -> list[Chart]:
    """Return the charts of figures: on the site as far as they have been drawn, in a report that has no site all."""
    if linked:
        sources = {figure.key: source(figure, evidence.study) for figure in figures if figure.marks}
        found = drawings.find({one.place: one.digest for one in sources.values()})
        svgs = {key: found[one.place].svg for key, one in sources.items() if one.place in found}
    else:
        svgs = {figure.key: study_svg(figure, linked=False) for figure in figures}
    return [
        Chart(
            label=figure.title,
            address=base + figure.key,
            table=figure.table,
            svg=inline(svgs.get(figure.key, "")),
            live=linked,
            notes=study_notes(figure),
            finding=figure.finding,
            size=study_size(figure),
        )
        for figure in figures
    ]
