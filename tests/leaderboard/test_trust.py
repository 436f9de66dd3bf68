"""What the trust checks found stands with the entry; one that fails a check takes no rank."""

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.numpy
from django.test import Client
from django.utils.html import escape

from evaluator.manifest import METADATA_KEY, Manifest
from evaluator.metrics import StageName
from evaluator.shipped import DIGITS_DEMO
from evaluator.trust.findings import CHECKS, Source
from evaluator.trust.judgement import CLAIM
from leaderboard import selectors, services
from leaderboard.models import Entry, Submission
from tests.leaderboard import factory

pytestmark = pytest.mark.django_db


def published(submission: Submission, **probes: float) -> Entry:
    """Publish a made entry whose probes say something else than an honest network's."""
    store = services.run_store()
    while claim := store.claim("forger", run_id=submission.run_id):
        report = factory.report(claim.protocol, claim.spec, quality=0.5, seed=0)
        if claim.spec.stage is StageName.TRUST:
            report = replace(report, values=report.values | {name: [value] for name, value in probes.items()})
        store.finish(claim, report)
    store.complete(submission.run_id)
    entry = services.publish_run(submission.run_id)
    assert entry is not None
    return entry


def test_an_entry_shows_every_finding_and_an_honest_one_ranks(client: Client, tmp_path: Path) -> None:
    entry = published(factory.submit(tmp_path))
    assert entry.rankable
    assert {finding["check"] for finding in entry.findings} == {
        check.key for check in CHECKS.values() if check.source is not Source.CLAIM
    }
    page = client.get(entry.submission.get_absolute_url()).content.decode()
    assert f"This entry passes all {len(entry.findings)} checks." in page
    for finding in entry.findings:
        assert escape(finding["sentence"]) in page
    (row,) = client.get("/api/v1/board?protocol=digits-demo").json()["entries"]
    assert (row["rank"], row["flags"]) == (1, [])


@pytest.mark.parametrize(
    ("probes", "ranks", "said"),
    [
        ({"randomness": 0.5}, False, "This entry fails 1 of 20 checks and takes no rank."),
        ({"tiny_gradients": 0.9}, True, "This entry passes all but 1 of 20 checks; it is flagged"),
    ],
)
def test_an_entry_that_fails_takes_no_rank_and_one_that_is_flagged_keeps_it(
    client: Client, tmp_path: Path, probes: dict[str, float], ranks: bool, said: str
) -> None:
    entry = published(factory.submit(tmp_path), **probes)
    assert entry.rankable == ranks
    assert said in client.get(entry.submission.get_absolute_url()).content.decode()
    (row,) = client.get("/api/v1/board?protocol=digits-demo").json()["entries"]
    (check,) = probes
    assert row["flags"] == [CHECKS[check].judge(probes[check]).sentence]
    assert (row["rank"] == 1) == ranks
    assert [one.flags for one in selectors.board(DIGITS_DEMO).rows] == [tuple(row["flags"])]


def test_a_claimed_clean_error_is_judged_at_publication_and_again_when_all_is_rebuilt(tmp_path: Path) -> None:
    path = tmp_path / "claims.safetensors"
    manifest = Manifest("digits-cnn", "digits", notes={CLAIM: "0.5"})
    weights = safetensors.numpy.load_file(factory.checkpoint(tmp_path, 0))
    safetensors.numpy.save_file(weights, path, metadata={METADATA_KEY: manifest.to_json()})
    entry = published(services.submit(path, title="AT", protocol=DIGITS_DEMO))
    assert not entry.rankable
    assert (entry.findings[-1]["check"], entry.findings[-1]["verdict"]) == ("claim", "fail")
    services.rebuild()
    assert Entry.objects.get().findings == entry.findings
