"""What others report is read with care, kept apart, and shown where the same thing is measured."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from evaluator.exceptions import InvalidRequest
from evaluator.shipped import find_protocol
from evaluator.types import Norm
from leaderboard import reported, selectors
from leaderboard.models import ReportedResult

FIXTURE = settings.BASE_DIR / "fixtures/robustbench.csv"
GOOD = {
    "link": "https://example.org/paper",
    "name": "A paper",
    "authors": "A, B",
    "additional_data": True,
    "number_forward_passes": 1,
    "dataset": "cifar10",
    "venue": "ICCV 2021",
    "architecture": "WideResNet-28-10",
    "eps": "8/255",
    "clean_acc": "90.00",
    "reported": "61.00",
    "autoattack_acc": "60.00",
}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return how to write one model's file into a clone of RobustBench's repository."""

    def write(name: str, content: object = GOOD, where: str = "cifar10/Linf") -> Path:
        path = tmp_path / "model_info" / where / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write


def test_accuracies_of_the_model_zoo_become_errors() -> None:
    rows = reported.model_zoo(FIXTURE)
    with FIXTURE.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert len(rows) == len(lines) == 135
    for row, line in zip(rows, lines, strict=True):
        errors = [row.values["clean_error_test"], row.values["robust_error_test"]]
        assert errors == pytest.approx([1 - float(line[name]) / 100 for name in ("clean_accuracy", "robust_accuracy")])
        assert errors[0] <= errors[1]
        assert row.link == line["link"]


def test_a_model_of_the_repository_is_read_with_all_that_is_said_of_it(write: Write, tmp_path: Path) -> None:
    write("Worse", GOOD | {"external": "58.00", "unreliable": True, "additional_data": False})
    write("Better", GOOD)
    write("Small", GOOD | {"eps": "0.5"}, "cifar10/L2")
    write("Fog", GOOD | {"corruptions_acc": "50"}, "cifar10/corruptions")
    rows, left_out = reported.model_infos(tmp_path)
    assert left_out == []
    found = {row.method: row for row in rows}
    assert list(found) == ["Small", "Better", "Worse"]
    assert found["Worse"].values == {"clean_error_test": 0.1, "robust_error_test": 0.42}, "the better attack counts"
    assert (found["Worse"].group, found["Worse"].extra_data) == ("unreliable", False)
    better, small = found["Better"], found["Small"]
    assert (better.norm, better.epsilon, small.norm, small.epsilon) == (Norm.LINF, 8 / 255, Norm.L2, 0.5)
    said = (better.title, better.authors, better.venue, better.architecture, better.link)
    assert said == tuple(GOOD[name] for name in ("name", "authors", "venue", "architecture", "link"))


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"name":',
        b"[]",
        b" " * 70_000 + json.dumps(GOOD).encode(),
        GOOD | {"autoattack_acc": "NaN"},
        GOOD | {"autoattack_acc": 1e400},
        GOOD | {"clean_acc": "101"},
        GOOD | {"clean_acc": None},
        GOOD | {"eps": "8/0"},
        GOOD | {"eps": "-1"},
        GOOD | {"eps": "9" * 5000},
        GOOD | {"name": "turned \u202e round"},
        GOOD | {"authors": "x" * 501},
        GOOD | {"dataset": "cifar100"},
        {name: value for name, value in GOOD.items() if name != "autoattack_acc"},
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_left_out_with_a_reason(
    write: Write, tmp_path: Path, content: object
) -> None:
    write("good")
    write("bad", content)
    rows, (reason,) = reported.model_infos(tmp_path)
    assert [row.method for row in rows] == ["good"]
    assert reason.startswith("left out 'bad.json': ")
    assert reason.isprintable()
    assert len(reason) < 400


def test_no_link_to_a_file_elsewhere_is_followed(write: Write, tmp_path: Path) -> None:
    elsewhere = write("elsewhere", GOOD, "other")
    write("good").with_name("link.json").symlink_to(elsewhere)
    rows, (reason,) = reported.model_infos(tmp_path)
    assert [row.method for row in rows] == ["good"]
    assert "no regular file" in reason


@given(link=st.text(max_size=30) | st.sampled_from(["javascript:alert(1)", "N/A", "https://a b", "http://x"]))
def test_only_addresses_of_pages_become_links(link: str) -> None:
    row = reported._of_robustbench(1, "m", "cifar10", "Linf", 8 / 255, 90, 50, "here", link=link)
    assert row.link in ("", link)
    assert not row.link or row.link.startswith(("http://", "https://"))


def test_a_folder_that_is_no_clone_changes_nothing(tmp_path: Path, write: Write, db: None) -> None:
    call_command("import_reference", verbosity=0)
    for sentence, prepare in (("has no folder model_info", lambda: None), ("has no model on", lambda: write("x", b""))):
        prepare()
        with pytest.raises(CommandError, match=sentence):
            call_command("import_reference", "--robustbench", str(tmp_path))
    assert ReportedResult.objects.count() == 154


def test_a_clone_replaces_the_table(tmp_path: Path, write: Write, db: None, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("import_reference", verbosity=0)
    write("good"), write("bad", b"")
    call_command("import_reference", "--robustbench", str(tmp_path))
    assert list(ReportedResult.objects.filter(source=reported.ROBUSTBENCH).values_list("method", flat=True)) == ["good"]
    assert "left out 'bad.json'" in capsys.readouterr().err


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    for content in ("model\nx\n", FIXTURE.read_text().replace("93.68", "high")):
        path.write_text(content)
        with pytest.raises(InvalidRequest, match="cannot be read as the table"):
            reported.model_zoo(path)


def test_a_board_shows_what_is_reported_under_its_threat_model_alone(client: Client, db: None) -> None:
    call_command("import_reference", verbosity=0)
    expected = {"cifar10-linf": 95, "stutz2021-cifar10": 95, "cifar10-l2": 21, "cifar100-linf": 38, "digits-linf": 0}
    for name, count in expected.items():
        assert len(selectors.reported_under(find_protocol(name))) == count
        page = client.get("/", {"protocol": name, "version": "1"}).content.decode()
        assert page.count('<th scope="row"') == count
        assert ("Reported elsewhere" in page) == bool(count)
