"""The versions of a protocol stand beside each other, with what changed between them."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from django.test import Client

from evaluator.protocol import EvaluationProtocol, Examples
from evaluator.shipped import DIGITS_DEMO, PROTOCOLS, SMOKE
from leaderboard.protocol_history import Change, changes, flat, history, sentences
from leaderboard.views import CHANGELOG
from tests.leaderboard import factory

SECOND = replace(SMOKE, version=2, seed=7, robust_loss=replace(SMOKE.robust_loss, steps=5))


@pytest.mark.parametrize("protocol", [SMOKE, SECOND, DIGITS_DEMO], ids=lambda one: one.label)
def test_what_is_flat_has_every_field_once(protocol: EvaluationProtocol) -> None:
    def leaves(value: object) -> int:
        return sum(map(leaves, value.values())) if isinstance(value, dict) else 1

    assert len(flat(asdict(protocol))) == leaves(asdict(protocol))


def test_changes_are_exactly_the_fields_that_differ() -> None:
    assert set(changes(SMOKE, SECOND)) == {Change("seed", 0, 7), Change("robust_loss.steps", 3, 5)}
    assert changes(SMOKE, replace(SMOKE, version=9)) == ()
    more = replace(SECOND, clean_examples=Examples(test=1, train=16))
    assert Change("clean_examples.test", 24, 1) in changes(SECOND, more)


def test_history_is_newest_first_and_the_first_version_has_no_changes() -> None:
    newest, oldest = history((SMOKE, SECOND), {"smoke v2": "more steps"})
    assert (newest.protocol, newest.previous, newest.sentence) == (SECOND, SMOKE, "more steps")
    assert (oldest.protocol, oldest.previous, oldest.changes, oldest.sentence) == (SMOKE, None, (), "")


def test_the_changelog_says_something_of_every_protocol() -> None:
    said = sentences(CHANGELOG.read_text())
    assert said.keys() == {protocol.label for versions in PROTOCOLS.values() for protocol in versions}
    assert said["cifar10-l2 v1"] == "first versions, like cifar10-linf v1, 0.1.0."
    assert sentences("# Changelog\n\n## Added\n\n- `smoke v1`: nothing\n") == {}


@pytest.mark.django_db
def test_the_page_shows_versions_their_changes_and_since_when(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = client.get("/protocols/").content.decode()
    assert page.count("This is its only version: nothing has changed.") == len(PROTOCOLS)
    assert page.count("No entry stands under it.") == len(PROTOCOLS)
    monkeypatch.setitem(PROTOCOLS, "smoke", (SMOKE, SECOND))
    entry = factory.published(tmp_path, protocol=SMOKE)
    page = client.get("/protocols/").content.decode()
    assert page.index("smoke v2") < page.index("smoke v1")
    assert "<code>robust_loss.steps</code></th><td>3</td><td>5</td>" in page
    assert f'since <time datetime="{entry.published_at.isoformat()}"' in page
    assert page.count("This is its only version") == len(PROTOCOLS) - 1
