"""How numbers are written for readers: errors in per cent, losses in nats."""

from collections.abc import Iterable

from django import template
from django.utils.safestring import mark_safe

from evaluator.metrics import Unit
from evaluator.results import Measurement
from leaderboard.columns import SHOWN

register = template.Library()


@register.filter
def shown(number: Measurement) -> str:
    """Return the value as the column's header announces it: `24.5` per cent, `1.234` nats."""
    return _written(number.value, number)


@register.filter
def interval(number: Measurement) -> str:
    """Return the 95 % interval in the unit of the value: `[22.0, 27.1]`."""
    return f"[{_written(number.low, number)}, {_written(number.high, number)}]"


@register.filter
def measured(number: Measurement | None) -> str:
    """Return a number as a cell shows it, its interval below it, or a dash; a table has hundreds of them."""
    if number is None:
        return "–"
    cell = f'<data value="{number.value}">{shown(number)}</data><span class="interval">{interval(number)}</span>'
    return mark_safe(cell)  # noqa: S308  # digits of ours; escaping them was a tenth of the board's page


@register.filter
def as_cells(numbers: Iterable[tuple[Measurement | None, Measurement | None]], version: int | None) -> str:
    """Return a row's numbers as table cells, each with that under the protocol's other `version`, where there is one.

    A loop of the template would take a fifth of the board's time.
    """
    return mark_safe(  # noqa: S308  # digits of ours
        "".join(
            f'<td class="text-end">{measured(number)}'
            + (f'<span class="beside">v{version}: {shown(beside)}</span>' if beside else "")
            + "</td>"
            for number, beside in numbers
        )
    )


@register.filter
def unit(key: str) -> str:
    """Return the unit in which `shown` writes a metric."""
    return "%" if SHOWN[key].unit is Unit.FRACTION else "nats"


@register.filter
def percent(fraction: float | None) -> str:
    """Return a fraction in per cent with one decimal, or a dash where there is none."""
    return "–" if fraction is None else f"{100 * fraction:.1f}"


@register.filter
def points(fraction: float) -> str:
    """Return a difference of fractions in percentage points, with its sign."""
    return f"{100 * fraction:+.1f}".replace("-", "−")


@register.filter
def nats(difference: float) -> str:
    """Return a difference of losses with its sign."""
    return f"{difference:+.3f}".replace("-", "−")


@register.filter
def probability(p: float) -> str:
    """Return a p-value as people write it."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


@register.filter
def of(values: dict[str, str], key: str) -> str:
    """Return what a dictionary holds under a key that a template has in a variable."""
    return values[key]


@register.filter
def grouped(count: int) -> str:
    """Return a count with thin spaces between thousands."""
    return f"{count:,}".replace(",", "\u202f")


@register.filter
def brief(number: float) -> str:
    """Return any number with three significant digits."""
    return f"{number:.3g}"


@register.filter
def words(name: str) -> str:
    """Return a name from the code as words: `robust loss` for `robust_loss`."""
    return name.replace("_", " ")


@register.filter
def duration(seconds: float) -> str:
    """Return seconds as people say them: `42 s`, `95 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, left = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {left} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _written(value: float, number: Measurement) -> str:
    if SHOWN[number.metric].unit is Unit.FRACTION:
        return f"{100 * value:.1f}".replace("-", "−")
    return f"{value:.3f}".replace("-", "−")
