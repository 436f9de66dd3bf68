"""The way to torchvision: its compiled operators do not load beside every torch build (a CPU-only one, for example)."""

import functools
import importlib
import importlib.machinery
import importlib.util
from types import ModuleType

import torch

_DECLARED_ON_IMPORT = ("nms", "qnms")
"""Operators that torchvision itself refers to while it is imported, whether or not its extension was loaded."""


@functools.cache
def load_torchvision() -> ModuleType:
    """Return the module `torchvision`, declaring first what its import needs and its extension fails to bring.

    The declared operators have a signature and nothing behind it: detection models stay unusable, and the data sets,
    transforms and classifiers, which never call them, work. Where the extension loads, nothing is declared.
    """
    if not _extension_loads():
        _declare_operators()
    return importlib.import_module("torchvision")


def _extension_loads() -> bool:
    package = importlib.util.find_spec("torchvision")
    assert package is not None
    extension = importlib.machinery.PathFinder.find_spec("_C", package.submodule_search_locations)
    if extension is None or extension.origin is None:
        return False
    try:
        torch.ops.load_library(extension.origin)  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return True


@functools.cache
def _declare_operators() -> torch.library.Library:
    """Return the library that holds the declarations; they last as long as it does, hence the cache."""
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in _DECLARED_ON_IMPORT:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    return library
