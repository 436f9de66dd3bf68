"""The images as far as they can be checked unbuilt: linted, from pinned bases, without root, with all they need."""

import importlib.util
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from evaluator.broker import EVALUATION_QUEUE
from leaderboard.management.commands.worker import APPLICATIONS, celery_command
from tests.docker.dockerfile import DOCKER, IMAGES, ROOT, instructions

every_image = pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.name)


def values(image, name):
    return [instruction.value for instruction in instructions(image) if instruction.name == name]


@every_image
def test_the_linter_finds_nothing_in_a_dockerfile(image):
    hadolint = Path(sys.executable).with_name("hadolint")
    finished = subprocess.run([hadolint, image], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


@every_image
def test_each_stage_of_an_image_starts_from_one_exact_version(image):
    bases = {value.partition(" AS ")[0] for value in values(image, "FROM")}
    (base,) = bases
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base)


@every_image
def test_an_image_runs_without_root_under_the_one_number_that_owns_the_volumes(image):
    steps = instructions(image)
    assert values(image, "USER") == ["10001:10001"]
    user = next(index for index, step in enumerate(steps) if step.name == "USER")
    assert not [step for step in steps[user:] if step.name in ("RUN", "COPY")], "what the user writes it could change"
    (accounts,) = (step.value for step in steps if step.name == "RUN" and "useradd" in step.value)
    assert "useradd --uid 10001 " in accounts
    assert "--owner=leaderboard --group=leaderboard /app/var /app/var/artifacts" in accounts
    assert values(image, "VOLUME") == ['["/app/var", "/tmp"]']


@every_image
def test_the_last_stage_installs_nothing_but_walls_and_takes_its_packages_from_the_first(image):
    steps = instructions(image)
    last = max(index for index, step in enumerate(steps) if step.name == "FROM")
    assert ("COPY", "--from=build /venv /venv") in steps[last:]
    installing = [step.value for step in steps[last:] if re.search(r"\b(pip|apt-get)\b", step.value)]
    assert len(installing) == (image.name == "worker.Dockerfile")
    assert all(re.search(r"apt-get install --yes --no-install-recommends bubblewrap\s", step) for step in installing)
    assert not values(image, "ADD")


@every_image
def test_what_an_image_copies_is_there_and_is_sent_to_the_build(image):
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [source for step in instructions(image) if step.name == "COPY" for source in step.sources]
    assert len(sources) >= 6
    for source in sources:
        assert source.exists()
        assert source.relative_to(ROOT).as_posix() in allowed


def test_no_secret_and_no_state_is_sent_to_the_build():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    for secret in ("var", "docker/.env", ".git"):
        assert not any(fnmatch(secret, line[1:]) or fnmatch(secret, f"{line[1:]}/*") for line in lines[1:])
    assert "docker/.env" in (ROOT / ".gitignore").read_text().splitlines()


@every_image
def test_an_image_says_by_itself_whether_it_is_well(image):
    (check,) = values(image, "HEALTHCHECK")
    assert re.search(r"--interval=\d+s --timeout=\d+s --start-period=\d+s CMD \[", check)


def test_the_web_image_serves_the_site():
    (command,) = (step.words for step in instructions(DOCKER / "web.Dockerfile") if step.name == "CMD")
    assert command[:2] == ["gunicorn", "leaderboard.wsgi:application"]
    assert importlib.util.find_spec("leaderboard.wsgi")


def test_the_worker_image_measures_as_the_command_does_and_knows_nothing_of_the_site():
    image = DOCKER / "worker.Dockerfile"
    steps = instructions(image)
    (entry,) = (step.words for step in steps if step.name == "ENTRYPOINT")
    (command,) = (step.words for step in steps if step.name == "CMD")
    assert entry == ["python", "-m", "celery"]
    expected = celery_command("evaluation", 1)[3:]
    assert without_name(command) == without_name(expected)
    assert APPLICATIONS["evaluation"] == "evaluator.worker"
    assert f"--queues={EVALUATION_QUEUE}" in command
    copied = {source.name for step in steps if step.name == "COPY" for source in step.sources}
    assert not copied & {"leaderboard", "manage.py"}


def without_name(options):
    return [option for option in options if not option.startswith("--hostname=")]
