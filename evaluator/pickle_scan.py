"""What a `.pt` file of `torch.save` holds, read without unpickling anything (torch-free).

The pickle inside is followed opcode by opcode on values that stand for what unpickling would make. The only opcodes,
globals and calls that are followed are those of a flat state dict of dense tensors; the first other one refuses the
file. So nothing is imported or called, and a tensor is a claim about bytes, which is checked against the zip.
"""

import io
import math
import pickletools
import re
import warnings
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluator.exceptions import InvalidCheckpoint
from evaluator.safetensors_header import DTYPE_BYTES, MAX_DIMENSIONS, MAX_TENSORS
from evaluator.zip_directory import read_member, read_sizes

MAX_PICKLE_BYTES = 2_000_000
MAX_OPCODES = 100_000
"""What three thousand tensors need: four times as many as our deepest network has."""

_DTYPES = {
    "torch HalfStorage": "F16",
    "torch BFloat16Storage": "BF16",
    "torch FloatStorage": "F32",
    "torch DoubleStorage": "F64",
    "torch LongStorage": "I64",
}
_ORDERED_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_GLOBALS = {*_DTYPES, _ORDERED_DICT, _TENSOR, _PARAMETER}

_BESIDE = re.compile(
    r"[^/]+/(data\.pkl|version|byteorder|[.]format_version|[.]storage_alignment|[.]data/serialization_id)"
)
_STORAGE = re.compile(r"[^/]+/data/[0-9]{1,6}")

_ADVICE = "send model.state_dict() alone, or run manage.py pack on the file"


@dataclass(frozen=True)
class StoredTensor:
    """A dense tensor: `start` is the index of its first number in the member, `strides` count numbers as well."""

    dtype: str
    shape: tuple[int, ...]
    member: str
    start: int
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class _Storage:
    dtype: str
    member: str
    numbers: int


@dataclass
class _Dict:
    items: dict[str, Any] = field(default_factory=dict)


def scan(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a state dict saved by `torch.save`, by name.

    Raises:
        InvalidCheckpoint: the zip, the pickle in it or a tensor is anything else than a state dict needs.
    """
    sizes = read_sizes(path)
    for name in sizes:
        if not (_BESIDE.fullmatch(name) or _STORAGE.fullmatch(name)):
            raise InvalidCheckpoint(f"{path.name} holds {name[:100]!r}, which no state dict needs; {_ADVICE}")
    roots = {name.partition("/")[0] for name in sizes}
    if len(roots) != 1:
        raise InvalidCheckpoint(f"{path.name} holds {len(roots)} folders where torch.save makes one; {_ADVICE}")
    (root,) = roots
    if f"{root}/data.pkl" not in sizes:
        raise InvalidCheckpoint(f"{path.name} holds no data.pkl, so torch.save did not write it; {_ADVICE}")
    with zipfile.ZipFile(path) as archive:
        order = f"{root}/byteorder"
        if order in sizes and (sizes[order] > 6 or read_member(archive, order) != b"little"):
            raise InvalidCheckpoint(f"{path.name} was not written by a little-endian machine; convert it there")
        if sizes[f"{root}/data.pkl"] > MAX_PICKLE_BYTES:
            raise InvalidCheckpoint(
                f"{path.name} holds a pickle of {sizes[f'{root}/data.pkl']} bytes; a state dict has at most "
                f"{MAX_PICKLE_BYTES}; {_ADVICE}"
            )
        pickle = read_member(archive, f"{root}/data.pkl")
    storages = {name: size for name, size in sizes.items() if _STORAGE.fullmatch(name)}
    return _tensors(_Machine(root, storages).run(pickle), storages)


def _tensors(result: Any, storages: dict[str, int]) -> dict[str, StoredTensor]:
    if not isinstance(result, _Dict):
        raise InvalidCheckpoint(f"the file holds {_kind(result)} where a state dict was expected; {_ADVICE}")
    if not 0 < len(result.items) <= MAX_TENSORS:
        raise InvalidCheckpoint(f"the state dict has {len(result.items)} tensors; expected were 1 to {MAX_TENSORS}")
    used: Counter[str] = Counter()
    for name, value in result.items.items():
        if not isinstance(value, StoredTensor):
            raise InvalidCheckpoint(f"the file holds {_kind(value)} under {name[:100]!r} beside its tensors; {_ADVICE}")
        used[value.member] += math.prod(value.shape) * DTYPE_BYTES[value.dtype]
    for member, size in storages.items():
        if member not in used:
            raise InvalidCheckpoint(f"the file holds {size} bytes in {member[-100:]!r} that no tensor uses; {_ADVICE}")
        if used[member] > size:
            raise InvalidCheckpoint(
                f"tensors of {used[member]} bytes share the {size} bytes in {member[-100:]!r}; clone them before saving"
            )
    return result.items


def _is_plain(name: Any, pickle: bytes, start: int | None) -> bool:
    """Whether a name stands there as it was read: pickletools undoes escapes in it, which unpickling does not."""
    return pickle.startswith(b"c%s\n" % name.replace(" ", "\n", 1).encode(), start)


class _Machine:
    """Follows a pickle. `storages` are the bytes of the zip's members that tensors may lie in."""

    def __init__(self, root: str, storages: dict[str, int]) -> None:
        self._root, self._storages = root, storages
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        """What lies below each mark: nothing reaches below the last one, as in unpickling."""
        self._memo: dict[int, Any] = {}

    def run(self, pickle: bytes) -> Any:
        stream = io.BytesIO(pickle)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of wrong escapes, see `_is_plain`
                for count, (opcode, argument, start) in enumerate(pickletools.genops(stream)):
                    if count >= MAX_OPCODES:
                        raise InvalidCheckpoint(f"the pickle has more than {MAX_OPCODES} opcodes; {_ADVICE}")
                    if opcode.name == "GLOBAL" and not _is_plain(argument, pickle, start):
                        raise ValueError("a name is escaped")
                    self._step(opcode.name, argument)
        except (ValueError, IndexError, KeyError) as error:  # bytes that are no opcode, or an empty stack or memo
            raise InvalidCheckpoint(f"the pickle is malformed ({str(error)[:100]!r}); save the file again") from None
        if stream.read(1) or self._below or len(self._stack) != 1:
            raise InvalidCheckpoint("the pickle goes on after its end, or ends before; save the file again")
        return self._stack.pop()

    def _step(self, opcode: str, argument: Any) -> None:
        stack = self._stack
        match opcode:
            case "PROTO" if argument == 2:
                pass
            case "STOP":
                pass
            case "MARK":
                self._below.append(stack)
                self._stack = []
            case "BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(reversed([stack.pop() for _ in range(int(opcode[-1]))])))
            case "TUPLE":
                values = self._to_mark()
                self._stack.append(tuple(values))
            case "EMPTY_DICT":
                stack.append(_Dict())
            case "SETITEM":
                value, name = stack.pop(), stack.pop()
                self._set(name, value)
            case "SETITEMS":
                items = self._to_mark()
                for name, value in zip(items[::2], items[1::2], strict=True):
                    self._set(name, value)
            case "GLOBAL" if argument in _GLOBALS:
                stack.append(_Global(argument))
            case "GLOBAL" | "INST":
                raise InvalidCheckpoint(
                    f"unpickling the file would import {argument.replace(' ', '.')[:100]!r}, which no state dict of "
                    f"plain tensors needs; {_ADVICE}"
                )
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._called(function, arguments))
            case "BUILD":  # the versions that torch keeps beside a state dict, which nobody reads
                if not (isinstance(stack.pop(), _Dict) and isinstance(stack[-1], _Dict)):
                    raise InvalidCheckpoint(f"unpickling the file would set an object's state; {_ADVICE}")
            case _:
                raise InvalidCheckpoint(
                    f"the pickle uses the opcode {opcode}, which no state dict of plain tensors needs; {_ADVICE}"
                )

    def _to_mark(self) -> list[Any]:
        values, self._stack = self._stack, self._below.pop()
        return values

    def _set(self, name: Any, value: Any) -> None:
        target = self._stack[-1]
        if not isinstance(target, _Dict) or not isinstance(name, str):
            raise InvalidCheckpoint(f"the file holds {_kind(name)} as a name, or items of no dictionary; {_ADVICE}")
        if name in target.items:
            raise InvalidCheckpoint(f"the state dict has the name {name[:100]!r} twice; save the file again")
        target.items[name] = value

    def _called(self, function: Any, arguments: Any) -> Any:
        match function, arguments:
            case _Global(name=name), () if name == _ORDERED_DICT:
                return _Dict()
            case _Global(name=name), (StoredTensor() as tensor, bool(), _Dict() as hooks) if name == _PARAMETER:
                if not hooks.items:
                    return tensor
            case _Global(name=name), (
                _Storage() as storage, int(start), tuple(shape), tuple(strides), bool(), _Dict() as hooks
            ) if name == _TENSOR:  # fmt: skip
                if not hooks.items:
                    return _checked(storage, start, shape, strides)
        raise InvalidCheckpoint(f"unpickling the file would call {_kind(function)} in an unknown way; {_ADVICE}")

    def _storage(self, persistent: Any) -> _Storage:
        match persistent:
            case ("storage", _Global(name=kind), str(key), str(), int(numbers)) if kind in _DTYPES:
                member, dtype = f"{self._root}/data/{key}", _DTYPES[kind]
            case _:
                raise InvalidCheckpoint(f"the file refers to something that is no storage of float numbers; {_ADVICE}")
        if member not in self._storages:
            raise InvalidCheckpoint(f"the file refers to the storage {key[:100]!r}, which it does not hold")
        if numbers * DTYPE_BYTES[dtype] != self._storages[member]:
            raise InvalidCheckpoint(
                f"storage {key!r} claims {numbers} numbers of {DTYPE_BYTES[dtype]} bytes and has "
                f"{self._storages[member]} bytes; save the file again"
            )
        return _Storage(dtype, member, numbers)


def _checked(storage: _Storage, start: int, shape: tuple[Any, ...], strides: tuple[Any, ...]) -> StoredTensor:
    sizes = [*shape, *strides, start]
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS or not all(type(s) is int and s >= 0 for s in sizes):
        raise InvalidCheckpoint(f"a tensor has a shape or strides that are not up to {MAX_DIMENSIONS} counts")
    dense = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size > 1 and stride != dense:
            raise InvalidCheckpoint(
                f"a tensor of shape {_short(shape)} has strides {_short(strides)}, not side by side; "
                "call .contiguous() on it before saving"
            )
        dense *= max(size, 1) if size > 1 else 1
    if start + math.prod(shape) > storage.numbers:
        raise InvalidCheckpoint(
            f"a tensor of shape {_short(shape)} lies outside its storage of {storage.numbers} numbers; "
            "save the file again"
        )
    return StoredTensor(storage.dtype, shape, storage.member, start, strides)


def _short(sizes: tuple[int, ...]) -> str:
    return f"{list(sizes)!r:.80}"


def _kind(value: Any) -> str:
    """Say what kind of thing `value` is, never what is in it: its text could be longer than any memory."""
    if isinstance(value, _Global):
        return value.name.replace(" ", ".")
    names = {_Dict: "a dictionary", StoredTensor: "a tensor", _Storage: "a storage", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")
