"""The door to RobustBench (Croce et al. 2021): published robust networks by name; nothing else imports `robustbench`.

Weights come by RobustBench's own loader, from the model folder or else from where it keeps them. They are files that
only the operator chooses by name; what strangers send never comes this way.
"""

import difflib
import pickle
import warnings
from pathlib import Path
from typing import Any

from torch import nn

from evaluator.attacks.autoattack import alias_package
from evaluator.exceptions import ArtifactMissing, InvalidCheckpoint, InvalidRequest
from evaluator.torchvision_operators import load_torchvision
from evaluator.types import Norm

DATASETS_IN_ZOO = ("cifar10", "cifar100")
"""Our data sets that RobustBench has networks for; the names agree."""


def load_zoo_model(name: str, dataset: str, threat_model: Norm, model_dir: Path) -> nn.Module:
    """Return a published network in eval mode, weights frozen: images [n, 3, 32, 32] in [0, 1] to logits.

    Its weights are kept in `model_dir`/`dataset`/`threat_model`/`name`.pt and downloaded when they are not there.

    Raises:
        InvalidRequest: RobustBench has no such network for this data set and norm; near names are listed.
        ArtifactMissing: the weights are not in the folder and cannot be downloaded.
        InvalidCheckpoint: the file there is not this network's weights.
    """
    robustbench = _import_robustbench()
    _check_name(robustbench, name, dataset, threat_model)
    file = model_dir / dataset / threat_model / f"{name}.pt"
    try:
        model: nn.Module = robustbench.utils.load_model(name, model_dir, dataset, threat_model.value)
    except (RuntimeError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise InvalidCheckpoint(
            f"the file {file} does not hold the weights of {name} ({reason}); remove it to have them downloaded anew"
        ) from error
    except Exception as error:  # gdown, requests, urllib and timm's hub client share no narrower root
        raise ArtifactMissing(
            f"the weights of {name} are not at {file} and could not be downloaded ({type(error).__name__}); "
            "check the network, or put the file there yourself"
        ) from error
    return model.eval().requires_grad_(False)


def _import_robustbench() -> Any:
    load_torchvision()
    alias_package()
    with warnings.catch_warnings():
        # Its imports of timm, torch.jit and pkg_resources are of another day, and the release is pinned.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "pkg_resources is deprecated")
        import robustbench.model_zoo.enums
        import robustbench.utils
    return robustbench


def _check_name(robustbench: Any, name: str, dataset: str, threat_model: Norm) -> None:
    enums = robustbench.model_zoo.enums
    if dataset not in DATASETS_IN_ZOO:
        raise InvalidRequest(
            f"RobustBench has no networks for {dataset!r}; it has some for {', '.join(DATASETS_IN_ZOO)}"
        )
    by_threat_model = robustbench.model_zoo.model_dicts[enums.BenchmarkDataset(dataset)]
    names = list(by_threat_model.get(enums.ThreatModel(threat_model.value), {}))
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[:3]
        raise InvalidRequest(
            f"RobustBench has no network {name!r:.80} for {dataset} and {threat_model}; "
            + (f"of its {len(names)}, the nearest are {', '.join(near)}" if names else "it has none there at all")
        )
