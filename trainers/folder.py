"""Where a training lies, and that one process at a time writes there (torch-free)."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evaluator.exceptions import FolderBusy
from trainers.recipe import Recipe


def training_folder(root: Path, recipe: Recipe, seed: int) -> Path:
    """Return where below `root` a recipe is trained with a seed: with recipes of the same training, if one is there."""
    training = f"{seed}-{recipe.digest[:12]}"
    variant = recipe.name.split()[0].replace("/", "-")
    return min(root.glob(f"*-{training}"), default=root / f"{variant}-{training}")


@dataclass(frozen=True)
class Files:
    """The files of one training."""

    folder: Path

    @property
    def state(self) -> Path:
        """All that is needed to go on."""
        return self.folder / "state.safetensors"

    @property
    def log(self) -> Path:
        """One line an epoch."""
        return self.folder / "log.jsonl"

    @property
    def final(self) -> Path:
        """The network after the last epoch."""
        return self.folder / "final.safetensors"

    @property
    def best(self) -> Path:
        """The network that did best under the monitor."""
        return self.folder / "best.safetensors"

    def snapshot(self, epoch: int) -> Path:
        """Return the file of the network on its way, after `epoch` epochs."""
        return self.folder / "snapshots" / f"epoch-{epoch:04}.safetensors"

    @property
    def to_go_on(self) -> list[Path]:
        """What there is of an unfinished training, the state last."""
        there = [self.log, self.best, *sorted((self.folder / "snapshots").glob("epoch-*.safetensors")), self.state]
        return [path for path in there if path.exists()]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out for the length of a block; the lock ends with its process, however that ends.

        Raises:
            FolderBusy: another process is in such a block.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderBusy(
                    f"another process trains in {self.folder}; wait until it has ended, or name another folder"
                ) from None
            yield
