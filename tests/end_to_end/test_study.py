"""The study as a process: real trainings, real workers, a report; killed with -9, it goes on where it was."""

import json
from pathlib import Path

from tests.end_to_end.killed import killed_and_started_again

SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    import django
    django.setup()
    from django.core.management import call_command
    from evaluator.protocol import Examples
    from evaluator.shipped import PROTOCOLS, SMOKE
    from leaderboard.management.commands import study
    from trainers import recipe

    small, nothing = Path(sys.argv[1]), Examples(test=0, train=0)
    study.FOLDER = small / "study"
    recipe.FOLDER = small / "recipes"
    full = replace(
        SMOKE, name="digits-demo", rankable=True, autoattack_examples=Examples(test=2, train=2),
        robust_loss_examples=Examples(test=8, train=4), flatness_examples=Examples(test=8, train=4),
    )
    PROTOCOLS["digits-demo"] = (full,)
    PROTOCOLS["digits-curve"] = (replace(full, name="digits-curve", rankable=False, autoattack_examples=nothing),)
    PROTOCOLS["digits-stopped"] = (
        replace(full, name="digits-stopped", rankable=False, robust_loss_examples=nothing, flatness_examples=nothing),
    )
    call_command("study", "digits", seeds=2, processes=2)
"""

RECIPES = """
[base]
dataset = "digits"
architecture = "digits-cnn"
epochs = 4
snapshot_every = 2
source = { kind = "labelled", examples = { start = 0, stop = 64 }, batch_size = 32 }
attack = { kind = "pgd", norm = "Linf", epsilon = 0.15, steps = 2, step_size = 0.1, initialization = "uniform" }
objective = { kind = "cross-entropy" }
stepper = { kind = "sgd" }
optimizer = { kind = "sgd", learning_rate = 0.1 }
schedule = { kind = "multi-step", milestones = [0.5] }

[base.monitor]
examples = { start = 400, stop = 432 }
criterion = "robust_error"
every = 2
attack = { kind = "pgd", norm = "Linf", epsilon = 0.15, steps = 2, step_size = 0.1, initialization = "uniform" }

[variants.at]
row = 19
title = "AT"

[variants.trades]
row = 7
title = "TRADES"
objective = { kind = "trades", beta = 6.0 }

[sweeps]
trades = { "objective.beta" = [1.0] }
"""


def test_a_study_killed_while_it_evaluates_goes_on_and_ends_with_its_report(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "digits.toml").write_text(RECIPES)
    printed = killed_and_started_again(
        SCRIPT, str(tmp_path),
        log=tmp_path / "study/digits/workers.log",
        trainings=5,  # two variants with two seeds each, and one swept setting
        folder=tmp_path, variables=variables,
    )  # fmt: skip  # the command, then what is expected of it
    assert " failed " not in printed, printed
    report = tmp_path / "study/digits/report"
    numbers = json.loads((report / "numbers.json").read_text())
    assert numbers["variants"] == {
        "digits/at": [0, 1], "digits/trades": [0, 1], "digits/trades objective.beta=1.0": [0],
    }  # fmt: skip
    assert "TRADES" in (report / "table-1.csv").read_text()
    assert "http" not in (report / "index.html").read_text().replace("http://www.w3.org", "")
    assert "report:" in printed
