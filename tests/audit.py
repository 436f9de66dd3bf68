"""`python -m tests.audit`: whether a known vulnerability is in what constraints.txt pins, as far as anybody can say.

A vulnerability ends with status 1. Where the database of vulnerabilities cannot be reached, one line says so, loudly,
and the status is 0: a check that needs no network must not fail for want of one.
"""

import json
import subprocess
import sys

from tests.test_house import ROOT

COMMAND = (
    sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv", "--requirement", "constraints.txt",
    "--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", "5", "--format", "json",
)  # fmt: skip
SECONDS = 120


def judge(output: str, complaint: str = "") -> tuple[int, list[str]]:
    """Return the exit status and the lines to print, of what pip-audit wrote; no JSON means that it reached nobody."""
    try:
        dependencies = json.loads(output)["dependencies"]
    except json.JSONDecodeError:
        why = complaint.strip().rpartition("\n")[2]
        return 0, [f"NOT AUDITED: nobody could be asked about vulnerabilities ({why:.200}); run this where they can"]
    skipped = [one["name"] for one in dependencies if "skip_reason" in one]
    lines = [
        f"{one['name']} {one['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'no release yet'}"
        for one in dependencies
        for flaw in one.get("vulns", ())
    ]
    status = int(bool(lines))
    if skipped:
        lines.append(f"NOT AUDITED: {len(skipped)} of {len(dependencies)} packages, {skipped[0]} for one")
    return status, lines


def main() -> int:
    """Audit, print what was found and return the exit status."""
    try:
        finished = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS)
        status, lines = judge(finished.stdout, finished.stderr)
    except subprocess.TimeoutExpired:
        status, lines = judge("", f"no answer within {SECONDS} seconds")
    print(*lines, sep="\n", end="\n" if lines else "")
    return status


if __name__ == "__main__":
    sys.exit(main())
