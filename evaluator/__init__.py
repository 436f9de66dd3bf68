"""The measuring instrument: robust loss, AutoAttack error and flatness of a classifier under one protocol.

`from evaluator import evaluate` is the door for notebooks; it is loaded on first use, so that the torch-free modules
(types, protocol, plan, metrics, results, combine, exceptions, manifest, store) can be imported where there is no torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluator.evaluation import evaluate as evaluate

__all__ = ["evaluate"]


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        from evaluator.evaluation import evaluate

        return evaluate
    raise AttributeError(f"module 'evaluator' has no attribute {name!r}")
