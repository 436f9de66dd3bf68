"""The log once more as TensorBoard reads it, where that package is installed."""

from pathlib import Path

from evaluator.exceptions import InvalidRequest
from trainers.loop import EpochRecord


class TensorBoard:
    """Writes scalars an epoch: training loss, learning rate, and what the monitor saw.

    A training that goes on after an interruption takes back what was written of the epochs that happen again.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InvalidRequest(
                "--tensorboard needs a package that is not installed; run `pip install tensorboard`, or leave it out"
            ) from error
        self._folder, self._open = folder, SummaryWriter
        self._writer: SummaryWriter | None = None

    def show(self, record: EpochRecord) -> None:
        """Write an epoch."""
        if self._writer is None:
            self._writer = self._open(str(self._folder), purge_step=record.epoch)
        scalars = {"loss": record.loss, "learning rate": record.learning_rate}
        if record.held_out is not None:
            scalars["held out/robust loss"] = record.held_out.robust_loss
            scalars["held out/robust error"] = record.held_out.robust_error
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, record.epoch)
        self._writer.flush()

    def close(self) -> None:
        """Close the file, if one was begun."""
        if self._writer is not None:
            self._writer.close()
