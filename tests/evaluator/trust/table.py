"""Print the table of docs/trust.md: each check's thresholds, and what honest networks and cheaters show today.

Run from the repository root: `python -m tests.evaluator.trust.table`. The ranges of honest networks are those declared
with the checks, from all networks that were ever looked at.
"""

from collections import defaultdict
from math import inf

from evaluator.trust.findings import CHECKS, EXAMPLES, Check
from tests.evaluator.trust.cheaters import BY_OUTCOMES, BY_PROBES
from tests.evaluator.trust.trials import HONEST, judged, probed, trial

HEADER = ("check", "passes", "fails", "honest networks", "cheaters")


def row(check: Check, cheaters: str) -> str:
    """Return the row of one check."""
    low, high = check.tolerated
    ends = [] if low == -inf else [f"below {low:{check.form}}"]
    ends += [] if high == inf else [f"above {high:{check.form}}"]
    fails = " or ".join(ends) or "never"
    honest = " to ".join(f"{end:.3g}" for end in dict.fromkeys(check.honest))
    return f"| `{check.key}` | {check.words(check.expected)} | {fails} | {honest} | {cheaters} |"


def main() -> None:
    """Measure everybody and print."""
    seen: defaultdict[str, list[str]] = defaultdict(list)
    for name, build in HONEST.items():
        for check, finding in judged(probed(build(), examples=EXAMPLES)).items():
            low, high = CHECKS[check].honest
            if not low <= finding.seen <= high:
                print(f"{name} shows {finding.seen:.3g} in {check}: outside {low} to {high}")
    for name, cheater in BY_PROBES.items():
        findings = judged(probed(cheater.build(HONEST["trained without an adversary"]()), examples=EXAMPLES))
        for check in cheater.caught_by:
            seen[check].append(f"{name} {findings[check].seen:.3g}")
    for name, cheater in BY_OUTCOMES.items():
        result = trial(cheater)
        for finding in result.findings:
            if finding.check in cheater.caught_by:
                seen[finding.check].append(f"{name} {finding.seen:.3g}")
    print("| " + " | ".join(HEADER) + " |", "|---|---|---|---|---|", sep="\n")
    for check in CHECKS.values():
        print(row(check, ", ".join(seen[check.key])))


if __name__ == "__main__":
    main()
