"""The reference's random numbers: each attack seeds a generator for each chunk and draws for the examples left in it.

A draw so depends on the protocol's chunk alone, whatever else shares the batch.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Sampler = Callable[..., Tensor]
"""`torch.rand` or `torch.randn`."""


class Draws:
    """One attack's generators, a chunk each; they are on the CPU, and so is what they yield."""

    def __init__(self, chunk_size: int, seed: int) -> None:
        self._chunk_size = chunk_size
        self._seed = seed
        self._generators: dict[int, torch.Generator] = {}

    def chunks(self, left: Tensor) -> list[tuple[int, slice]]:
        """Return each chunk that has examples in `left`, [m] ascending, and the rows of these."""
        numbers, counts = torch.unique_consecutive(left.cpu() // self._chunk_size, return_counts=True)
        stops = counts.cumsum(0)
        columns = (numbers.tolist(), (stops - counts).tolist(), stops.tolist())
        return [(number, slice(*rows)) for number, *rows in zip(*columns, strict=True)]

    def of_chunk(self, chunk: int, shape: Sequence[int], sampler: Sampler = torch.rand) -> Tensor:
        """Return the chunk's next numbers."""
        if chunk not in self._generators:
            self._generators[chunk] = torch.Generator().manual_seed(self._seed)
        return sampler(tuple(shape), generator=self._generators[chunk])

    def of_examples(self, left: Tensor, shape: Sequence[int], sampler: Sampler = torch.rand) -> Tensor:
        """Return the next numbers of the examples `left` [m]: [m, *shape], drawn together in each chunk."""
        return torch.cat(
            [self.of_chunk(chunk, (rows.stop - rows.start, *shape), sampler) for chunk, rows in self.chunks(left)]
        )
