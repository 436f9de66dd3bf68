"""The paper's figures from our numbers: each is declared once, and says in a sentence what it shows (pure)."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import log
from typing import Any

from evaluator.dataset_facts import find_dataset_facts
from evaluator.shipped import find_protocol
from leaderboard.analysis import Evidence, Spread, Study, Variant
from leaderboard.figures import AXES, Drawing, Figure, Mark
from leaderboard.findings import correlation
from leaderboard.statistics import SIGNIFICANCE, Correlation, correlation_within_groups, rank_correlation, sign_test
from trainers.recipe import Recipe


@dataclass(frozen=True)
class Specification:
    """How a figure is made of evidence: whose protocol it shows, its points, and its sentence."""

    key: str
    number: str
    title: str
    shows: str
    x: str
    y: str
    drawing: Drawing
    protocol: Callable[[Study], str]
    marks: Callable[[Evidence, str, str], Iterator[Mark]]
    finding: Callable[[Evidence, str, str], str]
    bend: Callable[[Evidence], float | None] = lambda evidence: None
    trends: bool = False

    def figure(self, evidence: Evidence) -> Figure:
        """Return the figure with its numbers."""
        return Figure(
            self.key, self.number, self.title, self.shows, self.x, self.y, self.drawing,
            protocol=find_protocol(self.protocol(evidence.study)).label,
            marks=tuple(self.marks(evidence, self.x, self.y)),
            finding=self.finding(evidence, self.x, self.y),
            bend=self.bend(evidence),
            trends=self.trends,
        )  # fmt: skip  # what is copied stands on one line


def draw_up(evidence: Evidence) -> tuple[Figure, ...]:
    """Return every figure, those without numbers as well."""
    return tuple(specification.figure(evidence) for specification in FIGURES.values())


def said(found: Correlation | None) -> str:
    """Return a correlation as readers see it."""
    if found is None:
        return "too few points"
    return f"ρ = {found.rho:.2f} [{found.low:.2f}, {found.high:.2f}], n = {found.n}".replace("-", "−")


def _variants(evidence: Evidence, x: str, y: str) -> Iterator[Mark]:
    for v in evidence.variants:
        if x in v.numbers and y in v.numbers:
            control = evidence.is_control(v.recipe)
            yield Mark(v.recipe.name, v.recipe.title, v.url, v.numbers[x], v.numbers[y], control)


def _correlated(evidence: Evidence, x: str, y: str) -> str:
    found = correlation(evidence.defended, x, y)
    if found is None:
        return f"Too few points: {len(evidence.defended)} variants, at least 4 are needed."
    names = f"{AXES[y].name} with {AXES[x].name}"
    return f"{_verdict(found)}: {names}, Spearman’s {said(found)} variants trained against the adversary."


def _verdict(found: Correlation) -> str:
    if found.low > 0:
        return "Agrees with the paper"
    return "Contradicts the paper" if found.high < 0 else "Settles nothing, as the interval holds 0"


def _blind(evidence: Evidence) -> float:
    """Return the loss of a guess that gives every class the same probability."""
    return log(find_dataset_facts(evidence.protocol.dataset).classes)


def _bent(evidence: Evidence, x: str, y: str) -> str:
    """Say the correlation, and that of the variants on either side of a blind guess."""
    blind = _blind(evidence)
    telling = [v for v in evidence.defended if x in v.numbers and y in v.numbers]
    sides = {
        "below": [v for v in telling if v.numbers[x].value < blind],
        "above": [v for v in telling if v.numbers[x].value >= blind],
    }
    bend = "; ".join(
        f"{name} it {said(found) if (found := correlation(side, x, y)) else f'too few points: {len(side)}'}"
        for name, side in sides.items()
    )
    return f"{_correlated(evidence, x, y)} A blind guess loses {blind:.2f} nats; {bend}."


def _overfitting(evidence: Evidence, x: str, y: str) -> Iterator[Mark]:
    for split in ("test", "train"):
        for epoch, v in evidence.curves.get(evidence.baseline, {}).items():
            if (number := v.numbers.get(f"{y}_{split}")) is not None:
                yield Mark(split, str(epoch), v.url, _at(epoch, number), number)


def _overfits(evidence: Evidence, x: str, y: str) -> str:
    path = evidence.curves.get(evidence.baseline, {})
    if len(path) < 2:
        return f"Too few points: {len(path)} of {evidence.baseline}’s epochs measured."
    test, train = f"{y}_test", f"{y}_train"
    best = min(path, key=lambda epoch: path[epoch].numbers[test].value)
    last = max(path)
    seeds = sorted(path[best].by_seed.keys() & path[last].by_seed.keys())
    pairs = [(path[best].by_seed[seed].numbers, path[last].by_seed[seed].numbers) for seed in seeds]
    rises = [after[test].low > before[test].high for before, after in pairs]
    falls = [after[train].value < before[train].value for before, after in pairs]
    before, after = path[best].numbers, path[last].numbers
    verdict = "Agrees with the paper" if all(rises) and all(falls) and pairs else "Does not agree with the paper"
    return (
        f"{verdict}: on test the loss is lowest after epoch {best} ({before[test].value:.2f}) and "
        f"{after[test].value:.2f} after epoch {last}, beyond both intervals in {sum(rises)} of {len(seeds)} seeds; "
        f"meanwhile on train it goes from {before[train].value:.2f} to {after[train].value:.2f}."
    )


def _paths(evidence: Evidence, x: str, y: str) -> Iterator[Mark]:
    for path in evidence.curves.values():
        for epoch, v in path.items():
            if x in v.numbers and y in v.numbers:
                yield Mark(v.recipe.label(0), str(epoch), v.url, v.numbers[x], v.numbers[y])


def _sharpens(evidence: Evidence, x: str, y: str) -> str:
    """Count the paths on which flatness worsens while the loss rises from its lowest to the end (sign test)."""
    worse, both = 0, 0
    for path in evidence.curves.values():
        points = [v.numbers for v in path.values() if x in v.numbers and y in v.numbers]
        lowest = min(points, key=lambda numbers: numbers[y].value, default=None)
        if lowest is not None and points[-1][y].value > lowest[y].value:
            worse += 1
            both += points[-1][x].value > lowest[x].value
    counted = f"on {both} of {worse} paths that end above their lowest loss, flatness has worsened as well"
    if not worse or sign_test(worse, worse) > SIGNIFICANCE:
        return f"Too few points for a sign test, which needs 6 such paths: {counted}."
    if sign_test(both, worse) > SIGNIFICANCE:
        return f"Settles nothing: {counted}."
    return f"{'Agrees with' if 2 * both > worse else 'Contradicts'} the paper: {counted}."


def _sweeps(evidence: Evidence, x: str, y: str) -> Iterator[Mark]:
    for title, path in _swept(evidence).items():
        for value, v in path:
            if x in v.numbers and y in v.numbers:
                yield Mark(title, value, v.url, v.numbers[x], v.numbers[y])


def _swept(evidence: Evidence) -> dict[str, list[tuple[str, Variant]]]:
    """Return the variants by what was swept, in the order of its values; the unchanged variant is one of them."""
    groups: dict[tuple[str, tuple[str, ...]], list[Variant]] = defaultdict(list)
    for v in evidence.swept:
        name = v.recipe.name.split()[0]
        if (origin := evidence.origins.get(name)) is not None:
            own, old = _leaves(v.recipe), _leaves(origin.recipe)
            if own.keys() == old.keys():
                groups[name, tuple(path for path in own if own[path] != old[path])].append(v)
    found = {}
    for (name, paths), swept in groups.items():
        valued = [([_leaves(v.recipe)[path] for path in paths], v) for v in (evidence.origins[name], *swept)]
        valued.sort(key=lambda one: [(isinstance(value, str), value) for value in one[0]])
        setting = ", ".join(".".join(path.split(".")[-1:]) for path in paths).replace("_", " ")
        title = f"{evidence.origins[name].recipe.title}: {setting}"
        found[title] = [(", ".join(_shown(value) for value in values), v) for values, v in valued]
    return found


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _leaves(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that decide the weights, each number or word by its dotted path."""

    def flat(value: Any, place: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Mapping | list):
            for key, part in value.items() if isinstance(value, Mapping) else enumerate(value):
                yield from flat(part, f"{place}.{key}")
        else:
            yield place.removeprefix("."), value

    return dict(flat(recipe.training, ""))


def _swept_together(evidence: Evidence, x: str, y: str) -> str:
    points = [
        (title, v.recipe.name, v.numbers[x].value, v.numbers[y].value)
        for title, path in _swept(evidence).items()
        for _, v in path
        if x in v.numbers and y in v.numbers
    ]
    found = correlation_within_groups(*zip(*points, strict=True)) if points else None
    if found is None:
        return "Too few points: no setting with at least 4 values."
    names = f"{AXES[y].name} with {AXES[x].name}"
    settings = f"{found.groups} setting{'s' if found.groups > 1 else ''} of 4 values and more"
    return f"{_verdict(found)}: {names} within {settings}, Spearman’s {said(found)}."


def _each_setting(evidence: Evidence, x: str, y: str) -> str:
    """Say what all settings together show, and then the trend of each."""
    trends = []
    for title, path in _swept(evidence).items():
        points = [(v.numbers[x].value, v.numbers[y].value) for _, v in path if x in v.numbers and y in v.numbers]
        if (found := rank_correlation(*zip(*points, strict=True))) if points else None:
            rho = f"{found.rho:.2f}".replace("-", "−")
            trends.append(f"{title} ρ = {rho} over {found.n} values")
    each = f" Setting by setting: {'; '.join(trends)}." if trends else ""
    return _swept_together(evidence, x, y) + each


def _at(epoch: int, like: Spread) -> Spread:
    return Spread(epoch, epoch, epoch, like.seeds)


def _full(study: Study) -> str:
    return study.protocol


def _curve(study: Study) -> str:
    return study.curve


_ALL = (
    Specification(
        "rloss-flatness", "Fig. 1", "Robust loss against flatness",
        "Each point is a variant at the end of its training. The paper: what is flatter has the lower robust loss.",
        "flatness_test", "robust_loss_test", "points", _full, _variants, _correlated,
    ),
    Specification(
        "robust-overfitting", "Fig. 2", "Robust overfitting",
        "Plain adversarial training on its way. The paper: on train the robust loss keeps falling, on test it rises.",
        "epoch", "robust_loss", "lines", _curve, _overfitting, _overfits,
    ),
    Specification(
        "flatness-in-training", "Fig. 5", "Robust loss and flatness along training",
        "One frame a variant, from epoch to epoch. The paper: as a variant overfits, its minima become sharper.",
        "flatness_test", "robust_loss_test", "panels", _curve, _paths, _sharpens,
    ),
    Specification(
        "sweeps", "Fig. 6", "Swept settings",
        "One frame a setting, from value to value. The paper: what makes a method more robust also makes it flatter.",
        "flatness_test", "robust_loss_test", "panels", _curve, _sweeps, _each_setting, trends=True,
    ),
    Specification(
        "rloss-train-flatness", "Fig. 7a", "Robust loss on test against flatness on train",
        "The paper: flatness on training images says as much of the robust loss on test.",
        "flatness_train", "robust_loss_test", "points", _full, _variants, _correlated,
    ),
    Specification(
        "gap-flatness", "Fig. 7b", "Robust generalization gap against flatness",
        "The gap is the robust loss on test minus that on train. The paper: flatter variants generalize better.",
        "flatness_test", "robust_loss_gap", "points", _full, _variants, _correlated,
    ),
    Specification(
        "rerr-rloss", "Fig. 7c", "Robust error against robust loss",
        "Error counts examples, loss weighs how badly they are lost. The upright line, where it is in the frame, is "
        "what a blind guess loses, the logarithm of the number of classes; right of it a network loses more than that.",
        "robust_loss_test", "robust_error_test", "points", _full, _variants, _bent, _blind,
    ),
)  # fmt: skip  # one figure a paragraph

FIGURES: dict[str, Specification] = {one.key: one for one in _ALL}
"""Every figure by the name of its files."""
