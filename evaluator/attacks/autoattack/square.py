"""Square Attack (Andriushchenko et al. 2020, arXiv:1912.00049): random squares of ±2ε (L∞), or of moved mass (L2).

L∞: the squares of a chunk are its seed's alone. A square that changes nothing, or that was refused since the image
last changed, needs no query; so every example goes on to its own next square that does.
"""

import functools
import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor, fx, nn

from evaluator.attacks.autoattack.draws import Draws
from evaluator.attacks.autoattack.nearby import Nearby, largest_worthwhile
from evaluator.attacks.autoattack.passes import Passes, padded
from evaluator.attacks.autoattack.projections import TINY, column, length
from evaluator.types import Norm, ThreatModel

QUERIES = 5000
_FIRST_SHARE = 0.8
"""The share of an image that the first squares cover; it is halved after these queries."""
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000)
_LOOK_AHEAD = 128
"""How many squares of an example are looked through at a time for one that needs a query."""


def attack(
    passes: Passes,
    images: Tensor,
    labels: Tensor,
    left: Tensor,
    threat_model: ThreatModel,
    draws: Draws,
    network: nn.Module,
) -> Tensor:
    """Return the best images found, [n, c, h, w]; `left` [n] are the examples' numbers, by which `draws` knows them.

    An example leaves once its margin, the label's logit minus the largest other one, is not positive. `network` is what
    answers: of one that is a graph, only what a small square reaches is computed (L∞).
    """
    if threat_model.norm is Norm.LINF:
        return _linf(passes, images, labels, left, threat_model.epsilon, draws, network)
    return _l2(passes, images, labels, left, threat_model.epsilon, draws)


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the label's logit minus the largest other one, [n]."""
    label = labels[:, None]
    return logits.gather(1, label).squeeze(1) - logits.scatter(1, label, -torch.inf).amax(1)


def _confirmed(passes: Passes, margin: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """Return the margins [n] of images, a positive one where a loss of the label was not confirmed."""
    lost = margin <= 0
    return torch.where(lost & ~passes.confirmed(lost, images, labels), TINY, margin)


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

    def of(self, rows: Tensor | slice) -> "_Search":
        return _Search(*(getattr(self, field.name)[rows] for field in fields(self)))


def _linf(
    passes: Passes, images: Tensor, labels: Tensor, left: Tensor, epsilon: float, draws: Draws, network: nn.Module
) -> Tensor:
    n, channels, height, width = images.shape
    device = images.device
    chunks = draws.chunks(left)
    stripes = draws.of_examples(left, (channels, 1, width)).to(device)
    start = (images + epsilon * (2 * stripes - 1).sign()).clamp(0, 1)
    squares = _squares(draws, [chunk for chunk, _ in chunks], channels, height, width, device)
    chunk_of = torch.cat([torch.full((rows.stop - rows.start,), i) for i, (_, rows) in enumerate(chunks)]).to(device)
    nowhere = torch.full_like(labels, -1)
    search = _Search(
        torch.arange(n, device=device), chunk_of, images, labels, start,
        _confirmed(passes, margins(passes.logits(start), labels), start, labels),
        nowhere + 1, nowhere,
    )  # fmt: skip
    result = start.clone()
    largest = largest_worthwhile(network, images, sorted(set(squares.size.tolist())))
    graph = network if largest and isinstance(network, fx.GraphModule) else None
    together = passes.batch_size if graph else n  # the features of so many are remembered at a time
    for first in range(0, n, together):
        some = search.of(slice(first, first + together))
        asking = _Asking(passes, squares, Nearby(graph, len(some.row)) if graph else None, largest, first)
        _improve(asking, some, result, epsilon)
    return result


def _improve(asking: "_Asking", search: _Search, result: Tensor, epsilon: float) -> None:
    """Query one square after the other for each example, and write its best image into its row of `result`."""
    squares = asking.squares
    ahead = torch.arange(_LOOK_AHEAD, device=result.device)
    while True:
        due = squares.same_before[search.chunk[:, None], search.query[:, None] + ahead] <= search.changed[:, None]
        found, steps = due.max(1)
        search.query = search.query + torch.where(found, steps, _LOOK_AHEAD)
        staying = (search.margin > 0) & (search.query < QUERIES)
        if not staying.all():
            result[search.row] = search.best
            search, found = search.of(staying), found[staying]
            if len(found) == 0:
                return
        proposed = _with_square(search, squares, epsilon)
        asked = (found & (proposed != search.best).flatten(1).any(1)).nonzero().squeeze(1)
        for some in asking.at_once(search, asked):
            margin = asking.margins(search, proposed, some)
            better = margin < search.margin[some]
            asking.remember(better)
            accepted = some[better]
            search.best[accepted] = proposed[accepted]
            search.margin[accepted] = margin[better]
            search.changed[accepted] = search.query[accepted]
        search.query = search.query + found


class _Asking:
    """Asks the network about proposed images: in full, or where the square is small about what it reaches."""

    def __init__(self, passes: Passes, squares: _Squares, near: Nearby | None, largest: int, first: int) -> None:
        self.squares = squares
        self._passes = passes
        self._near = near
        self._largest = largest
        self._first = first
        """The row that has the first place of what is remembered."""
        self._is_known = torch.zeros(0 if near is None else near.capacity, dtype=torch.bool)
        self._asked_near = False

    def at_once(self, search: _Search, asked: Tensor) -> list[Tensor]:
        """Return which of the examples `asked` [m] are asked about together: those with squares of one small size."""
        if self._near is None or len(asked) == 0:
            return [asked] if len(asked) else []
        sizes = self.squares.size[search.query[asked]]
        sizes = torch.where(sizes > self._largest, self._largest + 1, sizes)
        return [asked[sizes == size] for size in sorted(set(sizes.tolist()))]

    def margins(self, search: _Search, proposed: Tensor, asked: Tensor) -> Tensor:
        """Return the margins of the proposed images of the examples `asked` [m]."""
        labels = search.label[asked]
        return _confirmed(self._passes, margins(self._logits(search, proposed, asked), labels), proposed[asked], labels)

    def _logits(self, search: _Search, proposed: Tensor, asked: Tensor) -> Tensor:
        query = search.query[asked]
        size = int(self.squares.size[query[0]])
        self._asked_near = self._near is not None and size <= self._largest
        if self._near is None or not self._asked_near:
            return self._passes.logits(proposed[asked])
        places = search.row[asked] - self._first
        new = ~self._is_known[places]
        self._passes.tick()
        if new.any():
            self._passes.by(self._near.remember, search.best[asked[new]], places[new])
            self._is_known[places[new]] = True
        corner = (values[search.chunk[asked], query] for values in (self.squares.top, self.squares.left))
        some = (padded(values) for values in (proposed[asked], places, *corner))
        return self._passes.by(self._near.answer, *some, size)[: len(asked)]

    def remember(self, accepted: Tensor) -> None:
        """Take those of the images last asked about that `accepted` [m] says for the best ones."""
        if self._near is not None and self._asked_near and accepted.any():
            self._near.accept(accepted.nonzero().squeeze(1))


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
    margin = _confirmed(passes, margins(passes.logits(best), labels), best, labels)
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
        reached = _confirmed(passes, margins(passes.logits(proposed), labels), proposed, labels)
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
