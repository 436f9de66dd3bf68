"""Units for systemd and the script for SLURM: accepted by the programs that read them, and alike with the image."""

import re
import shlex
import shutil
import subprocess
import sys

import pytest

from leaderboard.management.commands.worker import Command
from tests.docker.dockerfile import DOCKER, ROOT, instructions

UNITS = sorted((DOCKER / "systemd").iterdir())
every_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)


def start(unit):
    """Return the words of a unit's command."""
    text = unit.read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)
    return shlex.split(command)


def systemd_analyze(*arguments):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed: nothing here says whether systemd can read the units")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def installed(tmp_path):
    """Put a unit where its program exists; a template becomes the instance for GPU 0."""

    def install(unit):
        text = unit.read_text().replace("/opt/robust-leaderboard/.venv/bin/python", sys.executable)
        place = tmp_path / unit.name.replace("@.", "@0.")
        place.write_text(text)
        return place

    return install


@every_unit
def test_systemd_reads_a_unit_without_complaint(unit, installed):
    finished = systemd_analyze("verify", "--man=no", installed(unit))
    assert (finished.returncode, finished.stdout + finished.stderr) == (0, "")


@every_unit
def test_systemd_finds_little_that_a_unit_exposes(unit, installed):
    # A measuring worker needs devices, and namespaces for a sandbox; the site needs neither.
    most = 50 if "evaluation" in unit.name else 15
    finished = systemd_analyze("security", "--no-pager", "--offline=true", f"--threshold={most}", installed(unit))
    assert finished.returncode == 0, finished.stdout + finished.stderr


@every_unit
def test_a_unit_starts_as_its_own_user_and_again_when_it_ends(unit):
    lines = unit.read_text().splitlines()
    assert {"User=robust-leaderboard", "Restart=always", "NoNewPrivileges=yes", "ProtectSystem=strict"} <= set(lines)


def test_a_measuring_unit_has_one_gpu_and_nothing_of_the_site():
    unit = DOCKER / "systemd" / "robust-leaderboard-evaluation@.service"
    assert re.findall(r"^EnvironmentFile=(.+)$", unit.read_text(), re.MULTILINE) == [
        "/etc/robust-leaderboard/worker.env"
    ]
    assert "Environment=CUDA_VISIBLE_DEVICES=%i EVALUATION_DEVICE=cuda" in unit.read_text().splitlines()


@pytest.mark.parametrize(
    ("unit", "image"), [("robust-leaderboard-evaluation@", "worker"), ("robust-leaderboard-web", "web")]
)
def test_a_unit_starts_what_the_image_starts(unit, image):
    command = start(DOCKER / "systemd" / f"{unit}.service")
    steps = instructions(DOCKER / f"{image}.Dockerfile")
    in_image = [word for name in ("ENTRYPOINT", "CMD") for step in steps if step.name == name for word in step.words]
    here = re.compile(r"--(hostname|bind|workers)=|python$|-m$|.*/python$")
    assert [word for word in command if not here.match(word)] == [word for word in in_image if not here.match(word)]


def test_the_site_worker_and_slurm_call_the_command_with_options_that_it_has():
    script = DOCKER / "slurm" / "evaluation.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    last = script.read_text().splitlines()[-1]
    for words in (start(DOCKER / "systemd" / "robust-leaderboard-site-worker.service"), shlex.split(last)):
        place = words.index("manage.py")
        assert (ROOT / words[place]).exists()
        assert words[place + 1] == "worker"
        options = Command().create_parser("manage.py", "worker").parse_args(words[place + 2 :])
        assert options.role in ("site", "evaluation")
    assert options.drain


def test_slurm_tells_the_worker_itself_that_its_time_is_up():
    script = (DOCKER / "slurm" / "evaluation.sbatch").read_text()
    assert script.startswith("#!/bin/bash\n")
    assert re.search(r"^#SBATCH --signal=B:TERM@\d+$", script, re.MULTILINE)
    assert script.splitlines()[-1].startswith("exec ")
