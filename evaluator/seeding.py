"""Counter-based noise: the same draw for an example whatever batch, shard, worker or device holds it.

Philox 4x64 (Salmon et al. 2011) is keyed by (seed, purpose) and its counter by (repetition, index, split), so a draw is
a pure function of those. Bits become floats here, not in a library's distributions, whose streams may change.
"""

import hashlib
from collections.abc import Sequence
from enum import IntEnum
from math import prod
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evaluator.types import Split


class Purpose(IntEnum):
    """What a draw is for; two purposes never share a stream."""

    ROBUST_LOSS_START = 1
    FLATNESS_START = 2
    WEIGHTS = 3
    TRUST = 4
    WORST_CASE_START = 5


class Noise(Protocol):
    """A source of noise for n examples: shapes are [n, …], consecutive calls give fresh draws."""

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Return float32 draws from U[0, 1)."""

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return float32 draws from N(0, 1)."""


class ExampleNoise:
    """Noise whose row i belongs to example `indices[i]` of `split` and to nothing else. Draws live on the CPU."""

    def __init__(self, seed: int, purpose: Purpose, split: Split, indices: Sequence[int], repetition: int) -> None:
        which = list(Split).index(split)
        self._streams = [_stream(seed, purpose, repetition, index, which) for index in indices]

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Return float32 draws [n, …] from U[0, 1)."""
        return self._rows(shape, _uniform)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return float32 draws [n, …] from N(0, 1)."""
        return self._rows(shape, _normal)

    def _rows(self, shape: Sequence[int], draw: "_Draw") -> Tensor:
        assert shape[0] == len(self._streams), f"noise for {len(self._streams)} examples asked as {tuple(shape)}"
        size = prod(shape[1:])
        return torch.from_numpy(np.stack([draw(stream, size) for stream in self._streams])).reshape(tuple(shape))


class GeneratorNoise:
    """Noise from a torch generator, for training, where the order of steps is fixed anyway."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Return float32 draws from U[0, 1) on the generator's device."""
        return torch.rand(tuple(shape), generator=self._generator, device=self._generator.device)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return float32 draws from N(0, 1) on the generator's device."""
        return torch.randn(tuple(shape), generator=self._generator, device=self._generator.device)


def weight_direction(seed: int, tensor_name: str, sample: int, shape: Sequence[int]) -> Tensor:
    """Return float32 N(0, 1) draws of `shape` for one named weight tensor and one weight sample."""
    index = int.from_bytes(hashlib.sha256(tensor_name.encode()).digest()[:8], "little")
    draws = _normal(_stream(seed, Purpose.WEIGHTS, sample, index, 0), prod(shape))
    return torch.from_numpy(draws).reshape(tuple(shape))


_Floats = npt.NDArray[np.float32]


class _Draw(Protocol):
    def __call__(self, stream: np.random.Philox, count: int, /) -> _Floats: ...


def _stream(seed: int, purpose: Purpose, repetition: int, index: int, split: int) -> np.random.Philox:
    # The counter's lowest word numbers the blocks of one stream.
    key = np.array([seed, purpose], dtype=np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, repetition, index, split], dtype=np.uint64))


def _bits(stream: np.random.Philox, count: int) -> npt.NDArray[np.uint32]:
    return np.asarray(stream.random_raw((count + 1) // 2)).astype("<u8").view("<u4")[:count]


def _uniform(stream: np.random.Philox, count: int) -> _Floats:
    # 24 bits fill a float32's mantissa, and the largest draw stays below 1.
    return (_bits(stream, count) >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def _normal(stream: np.random.Philox, count: int) -> _Floats:
    # Box and Muller (1958), in float64; the first uniform lies in (0, 1], so its logarithm is finite.
    pairs = (count + 1) // 2
    bits = _bits(stream, 2 * pairs).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((bits[:pairs] + 1.0) * 2.0**-32))
    angle = 2.0 * np.pi * bits[pairs:] * 2.0**-32
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count].astype(np.float32)
