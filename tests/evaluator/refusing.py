"""A process that hands every hostile file to the command line and prints, a JSON line each, how it was refused.

Its own peak of memory is set back before each file, so that what one costs is not another's.
"""

import io
import json
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

from evaluator import cli
from tests.evaluator.hostile import PICKLES, TINY, WEIGHTS, ZIPS, hostile_files

NAMED = ["--architecture=digits-cnn", '--options={"width": 8}', "--dataset=digits"]
"""For files that do not say what network they are for."""

NEED_TORCH = {*WEIGHTS, "options of another network", "a network other than it says"}
"""Their form is right, so that their network is made and their weights are read."""


def peak() -> float:
    """The most memory this process has had since `forget`, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


def forget() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main(folder: Path) -> None:
    cli.FOLDER = folder / "stored"
    for name, (make, _) in sorted(hostile_files().items(), key=lambda item: item[0] in NEED_TORCH):
        if name in NEED_TORCH and "torch" not in sys.modules:
            from evaluator.checkpoints import load_model, open_checkpoint
            from evaluator.datasets import load_dataset

            load_dataset("digits")
            load_model(open_checkpoint(TINY))  # imports that take seconds once a process are no refusal's
        path = folder / "sent"
        path.write_bytes(make())
        said = io.StringIO()
        forget()
        before = time.perf_counter()
        with redirect_stderr(said):
            code = cli.main([str(path), "--protocol=smoke", *(NAMED if name in ZIPS or name in PICKLES else [])])
        seconds = time.perf_counter() - before
        stored = (folder / "stored").exists() or (folder / "canary").exists()
        told = {"name": name, "code": code, "said": said.getvalue(), "seconds": seconds, "megabytes": peak()}
        print(json.dumps({**told, "left": stored, "torch": "torch" in sys.modules}), flush=True)


if __name__ == "__main__":
    main(Path.cwd())
