"""The demo as a process: real training, real workers, a published board; killed with -9, it goes on where it was."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 300

SCRIPT = """
import sys
from pathlib import Path

if __name__ == "__main__":
    import django
    django.setup()
    from django.core.management import call_command
    from evaluator.protocol import SMOKE
    from leaderboard import demo
    from trainers.recipe import load_recipe, override

    small = {
        "architecture": "digits-cnn", "options": "{}", "epochs": sys.argv[2],
        "source.examples": '{"start": 0, "stop": 64}', "monitor.examples": '{"start": 400, "stop": 432}',
    }
    demo.FOLDER = Path(sys.argv[1])
    demo.PROTOCOL = demo.CURVE = SMOKE
    demo.VARIANTS = ("digits/at", "digits/trades", demo.CONTROL)
    demo.load_recipe = lambda name: override(load_recipe(name), small)
    call_command("demo", processes=2)
"""


def test_a_demo_killed_while_it_evaluates_goes_on_and_ends_with_every_entry_once(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    script = tmp_path / "small_demo.py"
    script.write_text(SCRIPT)
    variables = variables | {"PYTHONPATH": str(ROOT), "TRAINING_DIR": str(tmp_path / "training")}
    command = [sys.executable, str(script), str(tmp_path / "demo"), "6"]
    printed = tmp_path / "printed"
    with printed.open("wb") as stream:
        first = subprocess.Popen(command, cwd=tmp_path, env=variables, stdout=stream, stderr=stream)
    log = tmp_path / "demo" / "workers.log"
    until = time.monotonic() + DEADLINE_SECONDS
    while not (log.exists() and b"attempt 1" in log.read_bytes()):
        assert first.poll() is None, printed.read_text()
        assert time.monotonic() < until, "no worker began to measure"
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    weights = {path: path.stat().st_mtime_ns for path in tmp_path.glob("training/*/final.safetensors")}
    assert len(weights) == 3

    again = subprocess.run(
        command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert {path: path.stat().st_mtime_ns for path in weights} == weights, "a finished training was done again"
    board = json.loads((tmp_path / "demo" / "board.json").read_text())
    assert sorted(entry["title"] for entry in board["entries"]) == ["AT", "Clean training", "TRADES"]
    assert all(entry["numbers"]["robust_error_test"]["n"] == 4 for entry in board["entries"])
    assert "<svg" in (tmp_path / "demo" / "rloss-flatness.svg").read_text()
    assert (tmp_path / "demo" / "rloss-flatness.png").read_bytes().startswith(b"\x89PNG")
    for said in ("TRADES", "Spearman's ρ", "make serve"):
        assert said in again.stdout
