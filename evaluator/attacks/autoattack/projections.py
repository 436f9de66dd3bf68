"""Lengths, and the shortest way to a hyperplane inside the box (Croce & Hein 2020, arXiv:1907.02044), row by row.

The sums run in the reference's order, so that they round as there.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluator.types import Norm

TINY = 1e-12
"""What keeps divisions by a length finite."""
_FAR = 1e12
_FLAT = 1e-8
"""Below it an entry of a normal counts as zero (L2)."""


def column(values: Tensor, images: Tensor) -> Tensor:
    """Return `values` [n] as [n, 1, …, 1], to be combined with `images`."""
    return values.reshape(-1, *[1] * (images.dim() - 1))


def length(perturbation: Tensor, norm: Norm) -> Tensor:
    """Return the norm of each perturbation: [n, …] → [n]."""
    flat = perturbation.flatten(1)
    return flat.abs().amax(1) if norm is Norm.LINF else (flat * flat).sum(1).sqrt()


def to_hyperplane(points: Tensor, normals: Tensor, offsets: Tensor, norm: Norm) -> Tensor:
    """Return the shortest steps [m, d] that bring points in the box [m, d] onto ⟨normal, ·⟩ = offset within the box.

    `normals` [m, d], `offsets` [m]. Where the box does not reach the hyperplane, as near to it as the box allows.
    """
    distance = (normals * points).sum(1)
    side = torch.where(distance - offsets >= 0, 1.0, -1.0)
    normals = normals * side[:, None]
    if norm is Norm.LINF:
        return _by_largest_entry(points, normals, offsets * side, distance * side)
    return _by_length(points, normals, (distance - offsets) * side)


def _by_largest_entry(points: Tensor, normals: Tensor, offsets: Tensor, distance: Tensor) -> Tensor:
    """Move every pixel by λ down the normal, or as far as the box lets it: what remains is piecewise linear in λ."""
    up = normals < 0
    room = torch.where(up, 1 - points, points)
    farthest = torch.where(up, room, -room).masked_fill(normals == 0, 0)
    ordered, order = room.sort(dim=1)
    room_falling = ordered.flip(1)
    weight = normals.gather(1, order.flip(1)).abs()
    slope = weight.cumsum(1)
    gap = offsets - distance
    nearest = (normals * farthest).sum(1)  # the gap that the farthest corner closes
    intercept = (weight * room_falling).cumsum(1) + nearest[:, None]
    index = _last_above(gap[:, None] - (intercept - slope * room_falling) > 0)
    amount = ((gap[:, None] - intercept.gather(1, index)) / -slope.gather(1, index)).clamp_min(0)
    amount = amount.masked_fill(((gap - nearest) <= 0)[:, None], torch.inf)
    amount = torch.minimum(amount, room)
    return torch.where(up, amount, -amount).masked_fill(normals == 0, 0)


def _last_above(above: Tensor) -> Tensor:
    """Return each row's last true column [m, 1]; but for the first column, a row [m, d] falls from true to false."""
    return above[:, 1:].sum(1, keepdim=True)


def _by_length(points: Tensor, normals: Tensor, distance: Tensor) -> Tensor:
    """Move every pixel λ times the normal's entry down, or as far as the box lets it: again piecewise linear in λ."""
    flat = normals.abs() < _FLAT
    until = torch.maximum(points / normals, (points - 1) / normals).clamp(-_FAR, _FAR).masked_fill(flat, _FAR)
    ordered, order = until.sort(dim=1)
    following = F.pad(ordered[:, 1:], (0, 1))
    ordered, following = (values.masked_fill(values == _FAR, 0) for values in (ordered, following))
    squares = (normals * normals).gather(1, order)
    total = squares.sum(1, keepdim=True)
    remaining = total - squares.cumsum(1)
    at_first = -total * ordered[:, :1]
    covered = torch.cat([at_first, ((ordered - following) * remaining).cumsum(1) + at_first], 1) + distance[:, None]
    index = _last_above(covered[:, :-2] > 0)
    slope = remaining.gather(1, index)
    amount = (covered.gather(1, index) / slope + ordered.gather(1, index)).masked_fill(slope == 0, 0)
    farthest = (-(until * normals)).masked_fill(flat, 0)
    amount = amount.masked_fill(((farthest * normals).sum(1) + distance > 0)[:, None], torch.inf)
    amount = torch.where(covered[:, :1] < 0, distance[:, None] / total, amount)
    return (-(torch.minimum(amount, until) * normals)).masked_fill(flat, 0)
