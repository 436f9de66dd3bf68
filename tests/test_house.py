"""The house has one direction, one door for each third party, and a web process without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "evaluator": {"evaluator"},
    "trainers": {"trainers", "evaluator"},
    "leaderboard": {"leaderboard", "trainers", "evaluator"},
}
DOORS = {
    "sqlalchemy": ("evaluator/store/",),
    "autoattack": ("evaluator/attacks/autoattack/reference.py",),
    "pyautoattack": ("evaluator/attacks/autoattack/reference.py",),
    "robustbench": ("evaluator/architectures/zoo.py",),
    "torchvision": (
        "evaluator/torchvision_operators.py",
        "evaluator/datasets.py",
        "evaluator/architectures/",
        "trainers/augmentation.py",
    ),
    "django": ("leaderboard/",),
}
TORCH_FREE = (
    "types", "protocol", "plan", "metrics", "results", "combine", "intervals", "exceptions", "manifest",
    "safetensors_header", "artifacts", "environment", "dataset_facts", "architectures", "store", "worker",
    "child", "lifetime", "measuring", "intake", "converting", "pack_cli",
)  # fmt: skip
NO_TORCH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""
"""Makes any import of torch fail, as where it is not installed."""


def modules() -> list[Path]:
    return sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide a module's room"
            yield node.module or ""


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way_and_third_parties_have_one_door(path):
    relative = path.relative_to(ROOT).as_posix()
    for name in imported(path):
        top = name.partition(".")[0]
        if top in MAY_IMPORT:
            assert top in MAY_IMPORT[path.relative_to(ROOT).parts[0]], f"{relative} imports {name}"
        if top in DOORS:
            assert relative.startswith(DOORS[top]), f"{relative} imports {name}, whose door is {DOORS[top]}"


@pytest.mark.parametrize("name", TORCH_FREE)
def test_a_torch_free_module_imports_where_there_is_no_torch(name):
    code = f"{NO_TORCH}import evaluator.{name}"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_every_test_folder_is_a_package():
    # robustbench installs a top-level package `tests`, which would win over folders without __init__.py
    for folder in {path.parent for path in (ROOT / "tests").rglob("*.py")}:
        assert (folder / "__init__.py").exists(), folder
