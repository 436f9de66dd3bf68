"""Badges, citations and the feed say what the board says, and nothing of what is not on it."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from django.contrib.auth.models import User
from django.test import Client

from evaluator.shipped import SMOKE
from leaderboard import services, sharing
from leaderboard.models import Submission
from tests.leaderboard import crowd, factory

pytestmark = pytest.mark.django_db

ATOM = "{http://www.w3.org/2005/Atom}"


def label(response) -> str:
    return ElementTree.fromstring(response.content).attrib["aria-label"]


def feed(client: Client) -> ElementTree.Element:
    return ElementTree.fromstring(client.get("/feed.atom").content)


def test_a_badge_tells_the_rank_among_all_that_are_ranked(client: Client, tmp_path: Path) -> None:
    better, worse = (
        factory.published(tmp_path, f"<{quality}>", number=number, quality=quality)
        for number, quality in enumerate((0.9, 0.1))
    )
    for submission, rank in ((better, 1), (worse, 2)):
        response = client.get(f"{submission.get_absolute_url()}badge.svg")
        assert response["Content-Type"] == "image/svg+xml"
        assert label(response) == f"digits-demo v1: rank {rank} of 2"


def test_a_badge_of_a_protocol_that_is_never_ranked_says_so(client: Client, tmp_path: Path) -> None:
    submission = factory.published(tmp_path, protocol=SMOKE)
    assert label(client.get(f"{submission.get_absolute_url()}badge.svg")) == "smoke v1: not ranked"


def test_a_citation_survives_any_title_and_stands_on_the_page(client: Client, tmp_path: Path) -> None:
    submission = factory.published(tmp_path, r"50 % of {x}_1 \ & more", protocol=SMOKE)
    said = client.get(f"{submission.get_absolute_url()}cite.bib").content.decode()
    assert said.startswith(f"@misc{{{submission.slug},\n")
    assert r"50 \% of \{x\}\_1 \textbackslash{} \& more" in said
    assert f"url = {{http://testserver{submission.get_absolute_url()}}}" in said
    plain = re.sub(r"\\[{}]", "", said)
    assert plain.count("{") == plain.count("}")
    page = client.get(submission.get_absolute_url()).content.decode()
    assert submission.slug in page.partition('id="cite"')[2]


@pytest.mark.parametrize("end", [services.hide, services.withdraw])
def test_what_is_hidden_or_withdrawn_has_neither_badge_nor_citation_nor_place_in_the_feed(
    client: Client, tmp_path: Path, end
) -> None:
    submission = factory.published(tmp_path, protocol=SMOKE)
    assert len(feed(client).findall(f"{ATOM}entry")) == 1
    submission.owner = User.objects.create_user("owner")
    submission.save()
    end(submission)
    for name in ("badge.svg", "cite.bib"):
        assert client.get(f"{submission.get_absolute_url()}{name}").status_code == 404
    assert feed(client).findall(f"{ATOM}entry") == []


def test_the_feed_holds_the_newest_entries_first_in_few_queries(client: Client, django_assert_num_queries) -> None:
    crowd.publish(sharing.NEWEST + 3, SMOKE)
    with django_assert_num_queries(2):
        entries = feed(client).findall(f"{ATOM}entry")
    newest = Submission.objects.order_by("-published_at")[: sharing.NEWEST]
    assert [one.findtext(f"{ATOM}title") for one in entries] == [one.title for one in newest]
    ids = [one.findtext(f"{ATOM}id") for one in entries]
    assert ids == [f"urn:uuid:{one.run_id}" for one in newest]
