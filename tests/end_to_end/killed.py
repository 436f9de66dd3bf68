"""A command that trains and then evaluates, killed with -9 while it evaluates, and started again."""

import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 600


def killed_and_started_again(
    script: str, *arguments: str, log: Path, trainings: int, folder: Path, variables: dict[str, str]
) -> str:
    """Run a script twice, killed once its workers measure; return what the second run, which must succeed, prints.

    After the first all `trainings` are done, and the second does none of them again.
    """
    file, printed = folder / "script.py", folder / "printed"
    file.write_text(script)
    variables = variables | {"PYTHONPATH": str(ROOT), "TRAINING_DIR": str(folder / "training")}
    command = [sys.executable, str(file), *arguments]
    with printed.open("wb") as stream:
        first = subprocess.Popen(command, cwd=folder, env=variables, stdout=stream, stderr=stream)
    until = time.monotonic() + DEADLINE_SECONDS
    while not (log.exists() and b"attempt 1" in log.read_bytes()):
        assert first.poll() is None, printed.read_text()
        assert time.monotonic() < until, "no worker began to measure"
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    weights = {path: path.stat().st_mtime_ns for path in folder.glob("training/*/final.safetensors")}
    assert len(weights) == trainings

    again = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert {path: path.stat().st_mtime_ns for path in weights} == weights, "a finished training was done again"
    return again.stdout
