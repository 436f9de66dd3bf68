"""The web image's own steps, taken from its Dockerfile and carried out in a folder: no torch, and the site works."""

import importlib.metadata
import os
import re
import shlex
import shutil
import socket
import string
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.dockerfile import DOCKER, instructions
from tests.test_docs import variables_of_the_evaluator, variables_of_the_site

pytestmark = pytest.mark.slow
START_SECONDS = 120


class Image:
    """What a Dockerfile makes, under a folder instead of `/`; its account is left out, for it would need root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        known = variables_of_the_evaluator() | variables_of_the_site()
        self.environment = {name: value for name, value in os.environ.items() if name not in known}
        self.environment["PATH"] = f"{Path(sys._base_executable).parent}:/usr/bin:/bin"
        self.place = root
        self.command: list[str] = []
        self.files: set[str] = set()

    def build(self, dockerfile: Path) -> None:
        for step in instructions(dockerfile):
            match step.name:
                case "WORKDIR":
                    self.place = Path(self.here(step.value))
                    self.place.mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self.copy(step.sources, step.value.split()[-1])
                case "ENV":
                    for assignment in shlex.split(step.value):
                        name, _, value = assignment.partition("=")
                        self.environment[name] = string.Template(self.here(value)).substitute(self.environment)
                case "RUN" if not step.value.startswith("useradd "):
                    self.run("sh", "-c", step.value)
                case "CMD":
                    self.command = [self.here(word) for word in step.words]
        self.files = {path.relative_to(self.place).as_posix() for path in self.place.rglob("*")}

    def here(self, text: str) -> str:
        """Move the image's folders under the root."""
        return re.sub(r"(?<![\w./])/(app|build|venv)\b", rf"{self.root}/\1", text)

    def copy(self, sources: list[Path], target: str) -> None:
        for source in sources:
            if source.is_dir():
                shutil.copytree(source, self.place / target, ignore=shutil.ignore_patterns("__pycache__"))
                continue
            place = self.place / target / source.name if target.endswith("/") else self.place / target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)

    def run(self, *command: str, **environment: str) -> str:
        finished = subprocess.run(
            [self.here(word) for word in command], cwd=self.place, env=self.environment | environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert finished.returncode == 0, finished.stdout
        return finished.stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    image = Image(tmp_path_factory.mktemp("image"))
    image.build(DOCKER / "web.Dockerfile")
    return image


@pytest.fixture(scope="module")
def site(image: Image) -> Iterator[str]:
    """Serve the image's site by its own command, and yield the address."""
    image.run("python", "manage.py", "migrate", "--no-input", "--verbosity=0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [word.replace("0.0.0.0:8000", address) for word in image.command]
    assert address in " ".join(command)
    with (image.root / "web.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=image.place, env=image.environment, stdout=log, stderr=log)
        try:
            wait_for(f"http://{address}/", image.root / "web.log")
            yield f"http://{address}"
        finally:
            server.terminate()
            server.wait(60)


def wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return urllib.request.urlopen(url, timeout=START_SECONDS).close()
        except OSError:  # refused, unfinished, or an error page
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


def test_torch_and_what_comes_with_it_are_not_installed(image):
    packages = image.run("python", "-c", "import importlib.metadata as m; print(*(d.name for d in m.distributions()))")
    names = set(packages.lower().split())
    assert {"django", "gunicorn", "sqlalchemy"} <= names
    assert not names & {"torch", "torchvision", "robustbench", "pyautoattack", "scikit-learn", "timm", "pytest"}


def test_the_packages_have_the_versions_that_tests_were_made_with(image):
    code = "import django, sqlalchemy; print(django.__version__, sqlalchemy.__version__)"
    expected = [importlib.metadata.version(name) for name in ("django", "sqlalchemy")]
    assert image.run("python", "-c", code).split() == expected


def test_the_image_holds_no_secret(image):
    assert "manage.py" in image.files
    assert image.files.isdisjoint({"var/secret_key", "docker/.env"})


def test_django_finds_no_fault_and_no_file_is_left_to_collect(image):
    environment = {
        "SECRET_KEY": "for tests only, and long enough for Django's own check, which wants fifty: 0123456789"
    }
    deployed = environment | {"HTTPS": "on", "BEHIND_PROXY": "on", "ALLOWED_HOSTS": "board.example.org"}
    image.run("python", "manage.py", "check", "--deploy", "--fail-level=WARNING", **deployed)
    assert "0 static files copied" in image.run(
        "python", "manage.py", "collectstatic", "--dry-run", "--no-input", **environment
    )


def test_the_site_worker_loads_and_sweeps(image, site):
    image.run("python", "-c", "import leaderboard.celery, django; django.setup(); import leaderboard.tasks")
    image.run("python", "manage.py", "publish")


def test_the_server_answers_with_the_board_and_hashed_static_files(site):
    with urllib.request.urlopen(f"{site}/", timeout=START_SECONDS) as response:
        page = response.read().decode()
    (stylesheet,) = re.findall(r'href="(/static/leaderboard/site\.[0-9a-f]+\.css)"', page)
    with urllib.request.urlopen(site + stylesheet, timeout=START_SECONDS) as response:
        assert "immutable" in response.headers["Cache-Control"]
        assert response.headers["Content-Type"].startswith("text/css")


def test_the_image_says_that_it_is_well_while_it_serves(image, site):
    image.run("python", "docker/alive.py", f"{site}/healthz", ALLOWED_HOSTS="localhost,127.0.0.1")
