"""The documents name everything there is, with its exact numbers, and lead nowhere that does not exist."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from evaluator.environment import read_environment
from evaluator.metrics import CURVES
from evaluator.shipped import PROTOCOLS
from evaluator.types import Split
from leaderboard.columns import SHOWN
from tests.test_house import ROOT, modules
from trainers.recipe import list_recipes

DOCUMENTS = sorted(
    [*ROOT.glob("*.md")]
    + [path for folder in ("docs", "evaluator", "trainers", "leaderboard", "fixtures", "tests", "docker")
       for path in (ROOT / folder).rglob("*.md")]
)  # fmt: skip
ROOMS = r"(?:evaluator|trainers|leaderboard|fixtures|tests|docker|docs|\.ci)"
EVERY_PROTOCOL = [protocol for versions in PROTOCOLS.values() for protocol in versions]


def document(name):
    return (ROOT / name).read_text()


def row(text, key):
    """Return the cells after the first of the table row whose first cell begins with `key` in backticks."""
    for line in text.splitlines():
        if line.startswith(f"| `{key}`"):
            first, *others = (cell.strip() for cell in line.strip("|").split("|"))
            return [first.removeprefix(f"`{key}`").strip(), *others]
    pytest.fail(f"no table row begins with | `{key}`")


def variables_of_the_evaluator():
    class Asked(dict):
        def get(self, name, default=None):
            names.add(name)
            return default

    names = set()
    read_environment(Asked())
    return names


def variables_of_the_site():
    tree = ast.parse(document("leaderboard/settings.py"))
    return {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("environment.")
    }


def anchors(path):
    """Return the anchors of a document's headings, by GitHub's rule."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("metric", SHOWN.values(), ids=SHOWN)
def test_every_metric_is_defined_as_it_is_declared(metric):
    _, symbol, unit, arrow, stage, definition = row(document("docs/measurement.md"), metric.key)
    expected = (metric.symbol, metric.unit, metric.direction.arrow, f"`{metric.stage}`")
    assert (symbol, unit, arrow, stage) == expected
    assert definition


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_every_curve_is_defined_as_it_is_declared(curve):
    _, symbol, unit, stage, definition = row(document("docs/measurement.md"), curve.key)
    assert (symbol, unit, stage) == (curve.symbol, curve.unit, f"`{curve.stage}`")
    assert definition


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL, ids=lambda protocol: protocol.label)
def test_every_protocol_stands_there_with_its_exact_numbers_and_in_the_changelog(protocol):
    cells = row(document("docs/measurement.md"), protocol.name)
    attack, epsilon = protocol.robust_loss, protocol.threat_model.epsilon
    exact = str(epsilon) if len(str(epsilon)) < 7 else f"{epsilon * 255:g}/255"
    stages = ("clean", "robust_loss", "flatness", "autoattack")
    counts = [getattr(protocol, f"{stage}_examples") for stage in stages]
    assert cells == [
        f"v{protocol.version}",
        protocol.dataset,
        f"{protocol.threat_model.norm} {exact}",
        f"{attack.steps} × {attack.step_size}, {attack.restarts}",
        attack.initialization,
        attack.selection,
        f"{protocol.flatness.neighborhood.xi}, {protocol.flatness.samples}",
        f"{protocol.autoattack.chunk_size}, {protocol.autoattack.seed}",
        *(f"{n.count(Split.TEST)}/{n.count(Split.TRAIN)}" for n in counts),
        "yes" if protocol.rankable else "no",
        f"`{protocol.digest[:12]}`",
    ]
    assert f"`{protocol.label}`" in document("CHANGELOG.md")


@pytest.mark.parametrize("name", sorted(variables_of_the_evaluator() | variables_of_the_site()))
def test_every_environment_variable_has_its_default_and_meaning(name):
    _, default, meaning = row(document("docs/operating.md"), name)
    assert default
    assert meaning


def test_no_environment_variable_is_documented_that_nobody_reads():
    rows = [
        name for path in DOCUMENTS for name in re.findall(r"^\| `([A-Z]+_[A-Z_]+)` \|", path.read_text(), re.MULTILINE)
    ]
    assert set(rows) <= variables_of_the_evaluator() | variables_of_the_site()


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_every_recipe_is_documented(recipe):
    variant = recipe.name.partition("/")[2]
    texts = [path.read_text() for path in DOCUMENTS]
    assert any(f"`{recipe.name}`" in text or f"`{variant}`" in text for text in texts)


@pytest.mark.parametrize(
    "command", [path.stem for path in sorted((ROOT / "leaderboard/management/commands").glob("[!_]*.py"))]
)
def test_every_command_is_documented(command):
    pages = [document("README.md"), *(path.read_text() for path in (ROOT / "docs").glob("*.md"))]
    assert any(re.search(rf"manage\.py {command}\b", page) for page in pages)


@pytest.mark.parametrize(
    "module",
    [name for path in modules() if "__" not in (name := path.relative_to(ROOT).as_posix())
     and not name.startswith(("leaderboard/management/", "leaderboard/migrations/"))],
)  # fmt: skip
def test_every_module_has_its_line_in_the_map_of_the_house(module):
    assert row(document("docs/architecture.md"), module)[1]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if not re.match(r"[a-z]+:", target):
            name, _, anchor = target.partition("#")
            found = (path.parent / name).resolve() if name else path
            assert found.exists(), f"{target} leads nowhere"
            assert not anchor or anchor in anchors(found), f"{target} names no heading"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_path_in_backticks_exists(path):
    for name in re.findall(rf"`({ROOMS}/[\w./*-]*)`", path.read_text()):
        assert any(ROOT.glob(name.rstrip("/"))), f"there is no {name}"


def test_citation_and_changelog_name_the_version_there_is():
    version = tomllib.loads(document("pyproject.toml"))["project"]["version"]
    assert re.search(rf"^version: {re.escape(version)}$", document("CITATION.cff"), re.MULTILINE)
    assert f"## [{version}]" in document("CHANGELOG.md")
    assert Path(ROOT / "LICENSE").read_text().startswith("MIT License")
