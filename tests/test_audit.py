"""The audit of dependencies fails for a vulnerability, and is loud where it could not look."""

import json

from tests.audit import judge

GOOD = {"name": "django", "version": "5.2", "vulns": []}
BAD = {"name": "pillow", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
SKIPPED = {"name": "torch", "skip_reason": "not found"}


def judged(*dependencies: dict) -> tuple[int, list[str]]:
    return judge(json.dumps({"dependencies": dependencies, "fixes": []}))


def test_a_vulnerability_fails_and_is_named_with_its_remedy():
    assert judged(GOOD, BAD) == (1, ["pillow 1.0: PYSEC-1, fixed in 1.1"])


def test_nothing_known_is_silence():
    assert judged(GOOD) == (0, [])


def test_what_could_not_be_looked_up_is_said_and_does_not_fail():
    assert judged(GOOD, SKIPPED) == (0, ["NOT AUDITED: 1 of 2 packages, torch for one"])
    assert judged(SKIPPED, BAD)[0] == 1
    status, lines = judge("", "Traceback\nConnectionError: no route\n")
    assert status == 0
    assert lines[0].startswith("NOT AUDITED: nobody could be asked about vulnerabilities (ConnectionError: no route)")
