"""Square Attack (Andriushchenko et al. 2020, arXiv:1912.00049): random squares of ±2ε (L∞), or of moved mass (L2).

L∞: the squares of a chunk are its seed's alone. A square that changes nothing, or that was refused since the image
last changed, needs no query; so every example goes on to its own next square that does.
"""

import functools
import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from evaluator.attacks.autoattack.draws import Draws
from evaluator.attacks.autoattack.passes import Passes
from evaluator.attacks.autoattack.projections import TINY, column, length
from evaluator.types import Norm, ThreatModel

QUERIES = 5000
_FIRST_SHARE = 0.8
"""The share of an image that the first squares cover; it is halved after these queries."""
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000)
_LOOK_AHEAD = 128
"""How many squares of an example are looked through at a time for one that needs a query."""


def attack(
    passes: Passes, images: Tensor, labels: Tensor, left: Tensor, threat_model: ThreatModel, draws: Draws
) -> Tensor:
    """Return the best images found, [n, c, h, w]; `left` [n] are the examples' numbers, by which `draws` knows them.

    An example leaves once its margin, the label's logit minus the largest other one, is not positive.
    """
    run = _linf if threat_model.norm is Norm.LINF else _l2
    return run(passes, images, labels, left, threat_model.epsilon, draws)


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the label's logit minus the largest other one, [n]."""
    label = labels[:, None]
    return logits.gather(1, label).squeeze(1) - logits.scatter(1, label, -torch.inf).amax(1)


def side(query: int, height: int, width: int, least: int) -> int:
    """Return the side of the square of a query, in pixels; L2's, whose least side is 3, are odd."""
    share = _FIRST_SHARE / 2 ** sum(query > threshold for threshold in _HALVED_AFTER)
    size = max(round(math.sqrt(share * height * width)), least)
    if least == 3 and size % 2 == 0:
        size += 1
    return min(size, height, width)


@dataclass(frozen=True)
class _Squares:
    """The squares of each chunk, one a query: tensors [chunks, QUERIES]."""

    top: Tensor
    left: Tensor
    size: Tensor
    """[QUERIES], the same for every chunk"""
    sign: Tensor
    """[chunks, QUERIES, channels]"""
    same_before: Tensor
    """The last query before with the same square, −1 for none and, beyond the last query, for _LOOK_AHEAD more."""


@dataclass
class _Search:
    """Where each example stands; the first dimension of every tensor is theirs."""

    row: Tensor
    chunk: Tensor
    image: Tensor
    label: Tensor
    best: Tensor
    margin: Tensor
    query: Tensor
    """The next one."""
    changed: Tensor
    """The query that gave the best image, −1 for the start."""

    def keep(self, staying: Tensor) -> None:
        index = staying.nonzero().squeeze(1)
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[index])


def _linf(passes: Passes, images: Tensor, labels: Tensor, left: Tensor, epsilon: float, draws: Draws) -> Tensor:
    n, channels, height, width = images.shape
    device = images.device
    chunks = draws.chunks(left)
    stripes = draws.of_examples(left, (channels, 1, width)).to(device)
    start = (images + epsilon * (2 * stripes - 1).sign()).clamp(0, 1)
    squares = _squares(draws, [chunk for chunk, _ in chunks], channels, height, width, device)
    chunk_of = torch.cat([torch.full((rows.stop - rows.start,), i) for i, (_, rows) in enumerate(chunks)]).to(device)
    nowhere = torch.full_like(labels, -1)
    search = _Search(
        torch.arange(n, device=device), chunk_of, images, labels, start, margins(passes.logits(start), labels),
        nowhere + 1, nowhere,
    )  # fmt: skip
    result = start.clone()
    ahead = torch.arange(_LOOK_AHEAD, device=device)
    while True:
        due = squares.same_before[search.chunk[:, None], search.query[:, None] + ahead] <= search.changed[:, None]
        found, steps = due.max(1)
        search.query = search.query + torch.where(found, steps, _LOOK_AHEAD)
        staying = (search.margin > 0) & (search.query < QUERIES)
        if not staying.all():
            result[search.row] = search.best
            search.keep(staying)
            found = found[staying]
            if len(found) == 0:
                return result
        proposed = _with_square(search, squares, epsilon)
        asked = (found & (proposed != search.best).flatten(1).any(1)).nonzero().squeeze(1)
        if len(asked):
            margin = margins(passes.logits(proposed[asked]), search.label[asked])
            better = margin < search.margin[asked]
            accepted = asked[better]
            search.best[accepted] = proposed[accepted]
            search.margin[accepted] = margin[better]
            search.changed[accepted] = search.query[accepted]
        search.query = search.query + found


def _squares(draws: Draws, chunks: list[int], channels: int, height: int, width: int, device: torch.device) -> _Squares:
    size = torch.tensor([side(query, height, width, least=1) for query in range(QUERIES)])
    numbers = torch.stack([draws.of_chunk(chunk, (QUERIES, 2 + channels)) for chunk in chunks])
    top, left = ((height - size) * numbers[..., 0]).long(), ((width - size) * numbers[..., 1]).long()
    sign = (2 * numbers[..., 2:] - 1).sign()
    same_before = torch.full((len(chunks), QUERIES + _LOOK_AHEAD), -1)
    for i in range(len(chunks)):
        last: dict[tuple[float, ...], int] = {}
        columns = (size, top[i], left[i], *sign[i].T)
        for query, square in enumerate(zip(*(values.tolist() for values in columns), strict=True)):
            same_before[i, query] = last.get(square, -1)
            last[square] = query
    return _Squares(*(tensor.to(device) for tensor in (top, left, size, sign, same_before)))


def _with_square(search: _Search, squares: _Squares, epsilon: float) -> Tensor:
    """Return each example's best image with its next square moved by ±2ε, within the budget."""
    top, left, size = (
        values[:, None]
        for values in (
            squares.top[search.chunk, search.query],
            squares.left[search.chunk, search.query],
            squares.size[search.query],
        )
    )
    down, right = (torch.arange(extent, device=top.device) for extent in search.image.shape[2:])
    rows, columns = (down >= top) & (down < top + size), (right >= left) & (right < left + size)
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    moved = search.best + 2 * epsilon * squares.sign[search.chunk, search.query][:, :, None, None] * inside
    return moved.clamp(search.image - epsilon, search.image + epsilon).clamp(0, 1)


def _l2(passes: Passes, images: Tensor, labels: Tensor, left: Tensor, epsilon: float, draws: Draws) -> Tensor:
    start = torch.cat([_tiles(images[rows], chunk, draws) for chunk, rows in draws.chunks(left)])
    best = _on_sphere(images, start, epsilon)
    margin = margins(passes.logits(best), labels)
    result = best.clone()
    row = torch.arange(len(images), device=images.device)
    chunks = draws.chunks(left)
    for query in range(QUERIES):
        staying = margin > 0
        if not staying.all():
            result[row] = best
            row, best, margin = row[staying], best[staying], margin[staying]
            if len(row) == 0:
                return result
            images, labels, left = images[staying], labels[staying], left[staying]
            chunks = draws.chunks(left)
        moved = torch.cat(
            [_with_moved_mass(best[rows] - images[rows], query, chunk, epsilon, draws) for chunk, rows in chunks]
        )
        proposed = _on_sphere(images, moved, epsilon)
        reached = margins(passes.logits(proposed), labels)
        better = reached < margin
        margin = torch.where(better, reached, margin)
        best = torch.where(column(better, best), proposed, best)
    result[row] = best
    return result


def _on_sphere(images: Tensor, perturbation: Tensor, epsilon: float) -> Tensor:
    norms = column(length(perturbation, Norm.L2), images)
    return (images + perturbation / (norms + TINY) * epsilon).clamp(0, 1)


def _tiles(images: Tensor, chunk: int, draws: Draws) -> Tensor:
    """Return the first perturbation of a chunk: 5 × 5 tiles of mass, each of random sign in each channel."""
    n, channels, height, width = images.shape
    perturbation = torch.zeros_like(images)
    size = height // 5
    first = (height - 5 * size) // 2
    for top in range(first, first + height // size * size, size):
        for left in range(first, first + width // size * size, size):
            mass = _mass(size, chunk, draws, images.device)
            tile = perturbation[:, :, top : top + size, left : left + size]
            tile += (mass * _signs(n, channels, chunk, draws, images.device))[:, :, : tile.shape[2], : tile.shape[3]]
    return perturbation


def _with_moved_mass(delta: Tensor, query: int, chunk: int, epsilon: float, draws: Draws) -> Tensor:
    """Return perturbations [m, c, h, w] whose second window is emptied into the first, together with unused budget."""
    m, channels, height, width = delta.shape
    size = side(query, height, width, least=3)
    extents = torch.tensor([height - size, width - size] * 2)
    top, left, top_2, left_2 = (extents * draws.of_chunk(chunk, (4,))).long().tolist()
    mass = _mass(size, chunk, draws, delta.device)
    signs = _signs(m, channels, chunk, draws, delta.device)
    first = (..., slice(top, top + size), slice(left, left + size))
    second = (..., slice(top_2, top_2 + size), slice(left_2, left_2 + size))
    windows = torch.zeros_like(delta[:1, :1])
    windows[first] = windows[second] = 1.0
    budget = torch.full((), epsilon, device=delta.device) ** 2 - column(length(delta, Norm.L2), delta) ** 2
    available = (budget.clamp_min(0) / channels + _norms(delta * windows) ** 2).sqrt()
    new = mass * signs + delta[first] / (TINY + _norms(delta[first]))
    delta[second] = 0.0
    delta[first] = new / (TINY + _norms(new)) * available
    return delta


def _norms(windows: Tensor) -> Tensor:
    return (windows**2).sum(dim=(-2, -1), keepdim=True).sqrt()


def _signs(n: int, channels: int, chunk: int, draws: Draws, device: torch.device) -> Tensor:
    return (2 * draws.of_chunk(chunk, (n, channels, 1, 1)) - 1).sign().to(device)


def _mass(size: int, chunk: int, draws: Draws, device: torch.device) -> Tensor:
    """Return a window [size, size] of unit norm, positive on one half and negative on the other, turned at random."""
    mass = _halves(size)
    return (mass.T if draws.of_chunk(chunk, (1,)).item() > 0.5 else mass).to(device)


@functools.cache
def _halves(size: int) -> Tensor:
    halves = torch.cat([_pyramid(size // 2, size), -_pyramid(size - size // 2, size)])
    return halves / (halves**2).sum().sqrt()


def _pyramid(height: int, width: int) -> Tensor:
    """Return nested rectangles around the centre, the k-th of weight 1/k², of unit norm together."""
    mass = torch.zeros(height, width)
    row, middle = height // 2, width // 2
    for k in range(max(row, middle) + 1):
        mass[max(row - k, 0) : row + k + 1, max(middle - k, 0) : middle + k + 1] += 1 / torch.tensor(k + 1.0) ** 2
    return mass / (mass**2).sum().sqrt()
