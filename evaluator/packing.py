"""From a checkpoint as training code leaves it to the file that is handed in, checked as it will be there.

Weights are found by the names of the network they are for: under whatever keys and prefixes (`state_dict`, `module.`,
`_orig_mod.` …) most of these names stand, there the network is.
"""

import difflib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from evaluator.architectures.layers import Normalize
from evaluator.checkpoints import (
    Checkpoint,
    check_layout,
    load_model,
    open_checkpoint,
    plan_network,
    save_checkpoint,
    write_atomically,
)
from evaluator.dataset_facts import find_dataset_facts
from evaluator.exceptions import InvalidCheckpoint, InvalidRequest
from evaluator.manifest import Manifest
from evaluator.scratch import scratch_folder

_COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class Normalization:
    """What training code subtracts from pixels in [0, 1] and divides them by, a number a channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Packed:
    """The written file, and what became of the one it was made of."""

    checkpoint: Checkpoint
    prefix: str
    """Behind it stood the weights' names."""
    ignored: tuple[str, ...]
    """Tensors elsewhere in the file, such as an optimizer's."""


def pack(
    path: Path, manifest: Manifest, target: Path, *, key: str | None = None, normalization: Normalization | None = None
) -> Packed:
    """Write the weights in `path` to `target` as the network of `manifest`, and load them as the evaluation will.

    `path` is anything that `torch.load(weights_only=True)` or safetensors reads: a state dict, or nested dictionaries
    that hold one. `key` says where, if several networks in it fit. `normalization` is needed where the file does not
    hold it, as most do not.

    Raises:
        InvalidCheckpoint: the file cannot be read, or no network in it is that of `manifest`; names that come near
            are given. Nothing is written.
        InvalidRequest: several fit and no key is given, or how pixels were normalised is not known.
    """
    planned = plan_network(manifest)
    expected = planned.state_dict()
    given = _given(planned.named_modules(), manifest, normalization)
    found = dict(_tensors(_read(path), ""))
    wanted = [name for name in expected if name not in given]
    roots = {name.partition(".")[0] for name in wanted}
    root = f"{roots.pop()}." if len(roots) == 1 else ""  # where the network itself stands behind its normalisation
    cores = {name.removeprefix(root): name for name in wanted}
    prefix = _find_prefix(path, found, cores, key)
    inside = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
    state = {}
    for core, name in cores.items():
        if core not in inside and name.endswith(_COUNTER):
            inside[core] = torch.tensor(0)  # files older than torch 0.4.1 lack it, and nothing measured depends on it
        if core in inside:
            state[name] = inside.pop(core).detach().to(expected[name].dtype)
    for name, numbers in given.items():
        own = found.get(prefix.removesuffix(root) + name)
        inside.pop(name, None)
        if own is None and numbers is None:
            raise _unknown_normalization(path, manifest)
        state[name] = own if own is not None else torch.tensor(numbers).view_as(expected[name])
    _check_names(path, cores, state, inside, manifest)
    layout = {name: (not tensor.is_floating_point(), tuple(tensor.shape)) for name, tensor in state.items()}
    check_layout(layout, planned, manifest.architecture)
    planned.load_state_dict(state, assign=True)
    with scratch_folder() as folder:
        written = save_checkpoint(planned, manifest, folder / "packed.safetensors").path
        load_model(open_checkpoint(written))
        write_atomically(target, written.read_bytes())
    ignored = tuple(name for name in found if not name.startswith(prefix))
    return Packed(open_checkpoint(target), prefix, ignored)


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"
        if is_safetensors:
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InvalidCheckpoint(f"{path} cannot be read ({error.strerror}); name a checkpoint file") from error
    except Exception as error:  # torch's readers raise whatever the bytes lead them to
        code = re.search(r"GLOBAL (\S{1,200})", str(error))
        seen = f"holds {code[1]}, not tensors alone" if code else "is neither safetensors nor what torch.save writes"
        raise InvalidCheckpoint(
            f"{path.name} {seen}; in the code that trained it, save torch.save(model.state_dict(), path)"
        ) from error


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors in nested dictionaries, their keys joined by dots."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _tensors(inner, f"{name}.{key}" if name else str(key))


def _given(modules: Any, manifest: Manifest, normalization: Normalization | None) -> dict[str, Sequence[float] | None]:
    """Return the numbers of the network's own normalisation by name, None where they are not known."""
    channels = find_dataset_facts(manifest.dataset).image_shape[0]
    if normalization is not None and not len(normalization.mean) == len(normalization.std) == channels:
        raise InvalidRequest(f"{manifest.dataset} has {channels} channels; give as many means and as many deviations")
    given: dict[str, Sequence[float] | None] = {}
    for name, module in modules:
        if isinstance(module, Normalize):
            given[f"{name}.mean"] = None if normalization is None else normalization.mean
            given[f"{name}.std"] = None if normalization is None else normalization.std
    return given


def _find_prefix(path: Path, names: Collection[str], cores: Collection[str], key: str | None) -> str:
    """Return the prefix behind which most of the names in `cores` stand."""
    counts = Counter(
        name[:end]
        for name in names
        for end in [0, *(index + 1 for index, character in enumerate(name) if character == ".")]
        if name[end:] in cores
    )
    if key is not None:
        prefix = f"{key}." if key and not key.endswith(".") else key
        if prefix in counts:
            return prefix
    if not counts or key is not None:
        places = dict.fromkeys(name.rpartition(".")[0].partition(".")[0] or name for name in names)
        raise InvalidCheckpoint(
            f"{path.name} holds no weight of this network{'' if key is None else f' under {key!r}'}, such as "
            f"{next(iter(cores))!r}; what it holds begins with {', '.join(map(repr, list(places)[:5])) or 'nothing'}"
        )
    (prefix, most), *others = counts.most_common()
    equal = [prefix, *(other for other, count in others if count == most)]
    if len(equal) > 1:
        raise InvalidRequest(
            f"{path.name} holds {len(equal)} networks of this kind, under {' and '.join(repr(p) for p in equal[:5])}; "
            "say by --key which to take"
        )
    return prefix


def _check_names(
    path: Path, cores: Mapping[str, str], state: Collection[str], others: Collection[str], manifest: Manifest
) -> None:
    """Compare what was found with what the network has, and say which name may stand for which."""
    missing = [core for core, name in cores.items() if name not in state]
    if missing:
        near = difflib.get_close_matches(missing[0], list(others), n=1, cutoff=0.0)
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InvalidCheckpoint(
            f"{path.name} lacks {missing[0]!r}{more}, which {manifest.architecture} with its options has; "
            + (f"the nearest of its other names is {near[0]!r}" if near else "it has no other names there")
        )
    if others:
        first, *rest = others
        nearest = difflib.get_close_matches(first, list(cores), n=1, cutoff=0.0)[0]
        raise InvalidCheckpoint(
            f"{path.name} has {first!r}{f' and {len(rest)} more' if rest else ''}, which {manifest.architecture} with "
            f"its options lacks; the nearest of the network's names is {nearest!r}"
        )


def _unknown_normalization(path: Path, manifest: Manifest) -> InvalidRequest:
    facts = find_dataset_facts(manifest.dataset)
    return InvalidRequest(
        f"{path.name} does not say how the pixels were normalised before this network; give --normalization none where "
        f"it took pixels in [0, 1], --normalization dataset where the mean {list(facts.mean)} and the deviation "
        f"{list(facts.std)} were used, or both as JSON"
    )
