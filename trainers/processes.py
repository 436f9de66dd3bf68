"""Several processes that train one network together, as torchrun starts them: each takes its share of every batch."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DistributedDataParallel

from evaluator.devices import find_device
from evaluator.exceptions import InvalidRequest
from evaluator.seeding import Noise


@contextmanager
def joined(device: str) -> Iterator[torch.device]:
    """Belong to the processes that torchrun started, if it did, for the length of a block; give this one's device.

    They speak over NCCL with a GPU each, in the order of their local ranks, and over Gloo on CPUs.

    Raises:
        InvalidRequest: one GPU was named for all of them.
        InvalidSetting: there is no such device, or fewer GPUs than processes.
    """
    found = find_device(device)
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield found
        return
    if found.type == "cuda":
        if found != torch.device("cuda"):
            raise InvalidRequest(f"{device} was named for several processes, which need a GPU each; name cuda or auto")
        found = find_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(found)
        dist.init_process_group("nccl", device_id=found)
    else:
        dist.init_process_group("gloo")
    try:
        yield found
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True)
class Processes:
    """All processes of a training, and which of them this is: `rank` of `count`."""

    rank: int = 0
    count: int = 1

    @classmethod
    def present(cls) -> "Processes":
        """Return the processes of torch's default group; without one, this alone."""
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    @property
    def writes(self) -> bool:
        """Whether this is the one that writes files and reports."""
        return self.rank == 0

    def share(self, tensor: Tensor) -> Tensor:
        """Return every `count`-th example of a batch [n, …] → [n / count, …]: each part of a batch is shared alike."""
        return tensor if self.count == 1 else tensor[self.rank :: self.count].clone()

    def weight(self, examples: int) -> float:
        """Return the weight of this share's mean: the mean over processes is then that over the batch's `examples`.

        Raises:
            InvalidRequest: fewer examples than processes.
        """
        if examples < self.count:
            raise InvalidRequest(
                f"a batch of {examples} examples was drawn for {self.count} processes; start fewer of them, or choose "
                "a source.batch_size that leaves more examples for the last batch"
            )
        return len(range(self.rank, examples, self.count)) * self.count / examples

    def parallel(self, loss: nn.Module) -> nn.Module:
        """Return `loss` so that its gradients are means over processes."""
        return loss if self.count == 1 else DistributedDataParallel(loss, broadcast_buffers=False)

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean of `tensor` over processes, the same bits in each."""
        if self.count > 1:
            dist.all_reduce(tensor := tensor.clone())
            tensor /= self.count
        return tensor

    def unite(self, network: nn.Module) -> None:
        """Set running statistics, which every process has from its share, to their means over processes."""
        if self.count == 1:
            return
        statistics = [
            statistic.data  # what a backward pass may have kept does not look at them, and must not be told
            for module in network.modules()
            if isinstance(module, _NormBase)
            for statistic in (module.running_mean, module.running_var)
            if statistic is not None
        ]
        if statistics:
            means = torch.split(self.mean(torch.cat(statistics)), [len(statistic) for statistic in statistics])
            for statistic, mean in zip(statistics, means, strict=True):
                statistic.copy_(mean)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()


@dataclass(frozen=True)
class SharedNoise:
    """Noise of a share of `examples`: drawn for all of them, so that every process's generator goes the same way."""

    noise: Noise
    processes: Processes
    examples: int

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Return float32 draws from U[0, 1)."""
        return self.processes.share(self.noise.uniform((self.examples, *shape[1:])))

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return float32 draws from N(0, 1)."""
        return self.processes.share(self.noise.normal((self.examples, *shape[1:])))
