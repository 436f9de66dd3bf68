"""Answers to images that differ in a window from remembered ones: of each layer only what it reaches is computed.

A 3 × 3 convolution widens the window by a pixel on each side, one of stride 2 halves it. Once it covers most of a layer
the rest of the network is computed in full. The answers are those of the network, rounded otherwise.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

_MOST_OF_LAYER = 0.7
"""The largest share of a layer that is computed as a window."""
_LEAST_SAVING = 0.8
"""The largest share of all multiplications with which windows are used: what cuts them out costs time, too."""
_TRIED = 2
"""How many images are asked about as a trial, of which little is seen in the time of thousands of queries."""
_LEAST_EXTENT = 16
"""Below it an image is so small that looking after windows costs more than they save."""
LEAST_MULTIPLICATIONS = 20_000_000
"""Below it, of one image, a network answers in full before its windows are cut out."""
_CLOSE = 1e-4
"""How far logits may differ from those in full, as a share of their length."""
_POINTWISE = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Mish, nn.Tanh, nn.Identity, nn.Dropout, nn.BatchNorm2d,
)  # fmt: skip
_ARITHMETIC = (operator.add, operator.sub, operator.mul, operator.truediv, torch.add)


@dataclass(frozen=True)
class Window:
    """What changed of each image: values [m, c, h, w], whose corner is at row top [m] and column left [m]."""

    top: Tensor
    left: Tensor
    values: Tensor

    @property
    def extent(self) -> tuple[int, int]:
        """Height and width."""
        return self.values.shape[2], self.values.shape[3]


class Nearby:
    """A network traced as a graph, and the features of as many images as `capacity`, each under its place."""

    def __init__(self, network: fx.GraphModule, capacity: int) -> None:
        self._network = network
        self._modules = dict(network.named_modules())
        self.capacity = capacity
        self._margin = {node: max(map(self._padding, node.users), default=0) for node in network.graph.nodes}
        self._extent: dict[fx.Node, tuple[int, int]] = {}
        self._known: dict[fx.Node, Tensor] = {}
        """Features [capacity, h, w, c] with a margin of zeros as wide as the convolutions that read them pad."""
        self._found: dict[fx.Node, Window | Tensor] = {}
        self._places = torch.empty(0, dtype=torch.long)
        self._multiplications = 0

    def remember(self, images: Tensor, places: Tensor) -> Tensor:
        """Store the features of images [m, c, h, w] under `places` [m]; return their logits [m, classes]."""
        return self._run(images, places, self._store)

    def answer(self, proposed: Tensor, places: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
        """Return the logits [m, classes] of images that differ from those at `places` in squares of `side` pixels."""
        rows, columns = _positions(top, side), _positions(left, side)
        each = torch.arange(len(proposed))[:, None, None]
        changed = proposed.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None]]
        self._found = {}
        self._places = places
        return self._run(Window(top, left, _channels_first(changed)), places, self._find)

    def accept(self, index: Tensor) -> None:
        """Remember of the images last asked about those at `index` [k] in place of the ones before."""
        places = self._places[index]
        for node, found in self._found.items():
            if isinstance(found, Window):
                self._put(node, places, Window(found.top[index], found.left[index], found.values[index]))
            else:
                self._store(node, found[index], places)

    def share(self, images: Tensor, side: int) -> float:
        """Return what share of the multiplications is left with squares of `side` pixels, 1 of a small network."""
        places = torch.arange(len(images))
        corner = torch.full_like(places, (images.shape[2] - side) // 2)
        self._multiplications = 0
        self.remember(images, places)
        in_full, self._multiplications = self._multiplications, 0
        self.answer(images, places, corner, corner, side)
        return self._multiplications / in_full if in_full > LEAST_MULTIPLICATIONS * len(images) else 1.0

    def _run(self, images: Tensor | Window, places: Tensor, tell: Callable[[fx.Node, Any, Tensor], None]) -> Tensor:
        values: dict[fx.Node, Any] = {}
        for node in self._network.graph.nodes:
            if node.op == "output":
                logits: Tensor = self._whole(node.all_input_nodes[0], values, places)
                return logits
            values[node] = images if node.op == "placeholder" else self._value(node, values, places)
            if not isinstance(values[node], Tensor) or (values[node].dim() == 4 and node.op != "get_attr"):
                tell(node, values[node], places)
        raise AssertionError("a graph without output")

    def _value(self, node: fx.Node, values: dict[fx.Node, Any], places: Tensor) -> Any:
        target: Any = node.target
        if node.op == "get_attr":
            return operator.attrgetter(target)(self._network)
        if any(isinstance(values[source], Window) for source in node.all_input_nodes):
            window = self._window(node, values, places)
            if window is not None:
                return window
        arguments: Any
        named: Any
        arguments, named = (
            fx.node.map_arg(each, lambda source: self._whole(source, values, places))
            for each in (node.args, node.kwargs)
        )
        if node.op == "call_method":
            return getattr(arguments[0], target)(*arguments[1:], **named)
        if node.op == "call_function":
            return target(*arguments, **named)
        module = self._modules[target]
        result = module(*arguments, **named)
        self._count(module, result)
        return result

    def _window(self, node: fx.Node, values: dict[fx.Node, Any], places: Tensor) -> Window | None:
        """Return what of a node's value changes, or None where it is to be computed in full."""
        target: Any = node.target
        arguments: list[Any] = [values[given] if isinstance(given, fx.Node) else given for given in node.args]
        if node.op == "call_module":
            module = self._modules[target]
            if isinstance(module, nn.Conv2d) and isinstance(module.padding, tuple) and module.padding_mode == "zeros":
                return self._convolved(node, module, arguments[0], places)
            if isinstance(module, _POINTWISE):
                return _mapped(module, arguments)
        elif node.op == "call_function" and target in _ARITHMETIC and not node.kwargs and len(arguments) == 2:
            if all(isinstance(argument, Window) for argument in arguments):
                return self._combined(node, arguments, places)
            if all(isinstance(argument, Window) or _alike_everywhere(argument) for argument in arguments):
                return _mapped(target, arguments)
        return None

    def _convolved(self, node: fx.Node, module: nn.Conv2d, window: Window, places: Tensor) -> Window | None:
        corners: list[Tensor] = []
        extent: list[int] = []
        reach: list[tuple[Tensor, int]] = []
        for axis, corner in enumerate((window.top, window.left)):
            stride, padding = module.stride[axis], int(module.padding[axis])
            more = module.dilation[axis] * (module.kernel_size[axis] - 1)
            whole = self._extent[node][axis]
            size = min((window.extent[axis] - 1 + more) // stride + 1, whole)
            first = -((more - padding - corner) // stride)
            corners.append(first.clamp(0, whole - size))
            extent.append(size)
            reach.append((corners[axis] * stride - padding, (size - 1) * stride + more + 1))
        if extent[0] * extent[1] > _MOST_OF_LAYER * self._extent[node][0] * self._extent[node][1]:
            return None
        features = self._cut(node.all_input_nodes[0], window, places, reach[0], reach[1])
        values = F.conv2d(features, module.weight, module.bias, module.stride, 0, module.dilation, module.groups)
        self._count(module, values)
        return Window(corners[0], corners[1], values)

    def _combined(self, node: fx.Node, windows: list[Window], places: Tensor) -> Window | None:
        """Return the combination of two windows of one image, the smaller of which lies in the larger."""
        larger = max(windows, key=lambda window: window.extent)
        reach = [(larger.top, larger.extent[0]), (larger.left, larger.extent[1])]
        for window in windows:
            for (start, size), corner, inner in zip(reach, (window.top, window.left), window.extent, strict=True):
                if ((corner < start) | (corner + inner > start + size)).any():
                    return None
        values = [
            window.values if window is larger else self._cut(source, window, places, reach[0], reach[1])
            for source, window in zip(node.all_input_nodes, windows, strict=True)
        ]
        target: Any = node.target
        return Window(larger.top, larger.left, target(*values))

    def _cut(
        self, node: fx.Node, window: Window, places: Tensor, rows: tuple[Tensor, int], columns: tuple[Tensor, int]
    ) -> Tensor:
        """Return features [m, c, h, w] from (first [m], count) of rows and columns, changed where the window says."""
        down, right = _positions(*rows), _positions(*columns)
        margin = self._margin[node]
        known = self._known[node][places[:, None, None], (down + margin)[:, :, None], (right + margin)[:, None]]
        down, right = down - window.top[:, None], right - window.left[:, None]
        (height, width), each = window.extent, torch.arange(len(places))[:, None, None]
        inside = ((down >= 0) & (down < height))[:, :, None] & ((right >= 0) & (right < width))[:, None]
        changed = window.values.permute(0, 2, 3, 1)[
            each, down.clamp(0, height - 1)[:, :, None], right.clamp(0, width - 1)[:, None]
        ]
        return _channels_first(torch.where(inside[..., None], changed, known))

    def _whole(self, node: fx.Node, values: dict[fx.Node, Any], places: Tensor) -> Any:
        window = values[node]
        if isinstance(window, Window):
            rows, columns = ((torch.zeros_like(places), extent) for extent in self._extent[node])
            values[node] = self._cut(node, window, places, rows, columns)
        return values[node]

    def _store(self, node: fx.Node, features: Tensor, places: Tensor) -> None:
        margin, (height, width) = self._margin[node], features.shape[2:]
        if node not in self._known:
            self._extent[node] = height, width
            shape = (self.capacity, height + 2 * margin, width + 2 * margin, features.shape[1])
            self._known[node] = features.new_zeros(shape)
        inside = self._known[node][:, margin : margin + height, margin : margin + width]
        inside[places] = features.permute(0, 2, 3, 1)

    def _put(self, node: fx.Node, places: Tensor, window: Window) -> None:
        rows, columns = (
            _positions(corner + self._margin[node], size)
            for corner, size in zip((window.top, window.left), window.extent, strict=True)
        )
        known = self._known[node]
        known[places[:, None, None], rows[:, :, None], columns[:, None]] = window.values.permute(0, 2, 3, 1)

    def _find(self, node: fx.Node, value: Window | Tensor, places: Tensor) -> None:
        self._found[node] = value

    def _padding(self, node: fx.Node) -> int:
        module = self._modules.get(str(node.target)) if node.op == "call_module" else None
        return max(module.padding) if isinstance(module, nn.Conv2d) and isinstance(module.padding, tuple) else 0

    def _count(self, module: nn.Module, features: Tensor) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            self._multiplications += features.numel() * module.weight[0].numel()


def largest_worthwhile(network: nn.Module, images: Tensor, sides: list[int]) -> int:
    """Return the largest of `sides` with which squares are asked about faster than in full, 0 for none.

    None on a GPU, on small images, and where the answers on some of `images` are not the network's.
    """
    if not isinstance(network, fx.GraphModule) or images.is_cuda or min(images.shape[2:]) < _LEAST_EXTENT:
        return 0
    some = images[:_TRIED]
    try:
        with torch.no_grad():
            trial = Nearby(network, len(some))
            worthwhile = [side for side in sides if trial.share(some[:1], side) <= _LEAST_SAVING]
            same = all(_answers_as(network, trial, some, side) for side in worthwhile[:: max(len(worthwhile) - 1, 1)])
    except Exception:  # whatever operation meets a window that it was not made for
        return 0
    return max(worthwhile, default=0) if same else 0


def _answers_as(network: nn.Module, trial: Nearby, images: Tensor, side: int) -> bool:
    """Whether it answers as the network, of squares in a corner, on an edge and inside, each after the last one."""
    places, extent = torch.arange(len(images)), images.shape[2] - side
    current = images.clone()
    trial.remember(current, places)
    for shift in range(2):
        top, left = ((extent * ((places + step * shift) % 4)) // 3 for step in (1, 2))
        for i, (row, column) in enumerate(zip(top.tolist(), left.tolist(), strict=True)):
            window = current[i, :, row : row + side, column : column + side]
            window.copy_(1 - window)
        found, expected = trial.answer(current, places, top, left, side), network(current)
        if not (found - expected).norm() <= _CLOSE * expected.norm():
            return False
        trial.accept(places)
    return True


def _positions(first: Tensor, count: int) -> Tensor:
    return first[:, None] + torch.arange(count)


def _channels_first(features: Tensor) -> Tensor:
    return features.permute(0, 3, 1, 2)


def _mapped(function: Callable[..., Tensor], arguments: list[Any]) -> Window:
    (window,) = (argument for argument in arguments if isinstance(argument, Window))
    values = function(*(argument.values if argument is window else argument for argument in arguments))
    return Window(window.top, window.left, values)


def _alike_everywhere(argument: Any) -> bool:
    """Whether a constant is the same for all pixels: a number, or one for each channel."""
    return isinstance(argument, int | float) or (isinstance(argument, Tensor) and argument.shape[-2:] in {(), (1, 1)})
