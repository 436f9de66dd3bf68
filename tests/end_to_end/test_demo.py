"""The demo as a process: real training, real workers, a published board; killed with -9, it goes on where it was."""

import json
from pathlib import Path

from tests.end_to_end.killed import killed_and_started_again

SCRIPT = """
import sys
from pathlib import Path

if __name__ == "__main__":
    import django
    django.setup()
    from django.core.management import call_command
    from dataclasses import replace
    from evaluator.protocol import Examples, LandscapeSettings
    from evaluator.shipped import SMOKE
    from leaderboard import demo
    from trainers.recipe import load_recipe, override

    small = {
        "architecture": "digits-cnn", "options": "{}", "epochs": sys.argv[2],
        "source.examples": '{"start": 0, "stop": 64}', "monitor.examples": '{"start": 400, "stop": 432}',
    }
    demo.FOLDER = Path(sys.argv[1])
    demo.PROTOCOL = demo.CURVE = demo.STOPPED = SMOKE
    few = Examples(test=4, train=4)
    demo.SHAPE = replace(
        SMOKE, name="shape", clean_examples=few, robust_loss_examples=few, autoattack_examples=Examples(0, 0),
        flatness_examples=Examples(0, 0), landscape=LandscapeSettings((-0.25, 0.25), few),
    )
    demo.VARIANTS = ("digits/at", "digits/trades", demo.CONTROL)
    demo.load_recipe = lambda name: override(load_recipe(name), small)
    call_command("demo", processes=2)
"""


def test_a_demo_killed_while_it_evaluates_goes_on_and_ends_with_every_entry_once(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    printed = killed_and_started_again(
        SCRIPT, str(tmp_path / "demo"), "6",
        log=tmp_path / "demo" / "workers.log", trainings=3, folder=tmp_path, variables=variables,
    )  # fmt: skip  # the command, then what is expected of it
    board = json.loads((tmp_path / "demo" / "board.json").read_text())
    assert sorted(entry["title"] for entry in board["entries"]) == [
        "AT", "Clean training", "TRADES", "TRADES, early stopped",
    ]  # fmt: skip
    assert all(entry["numbers"]["robust_error_test"]["n"] == 4 for entry in board["entries"])
    assert "<svg" in (tmp_path / "demo" / "rloss-flatness.svg").read_text()
    assert (tmp_path / "demo" / "rloss-flatness.png").read_bytes().startswith(b"\x89PNG")
    for said in ("evaluate TRADES · smoke: ", "Spearman's ρ", "make serve"):
        assert said in printed
