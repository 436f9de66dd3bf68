"""B_ξ(w): which weights are perturbed, and random directions in which (Stutz et al. 2021, Eq. 6 and Sec. 3.2)."""

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from evaluator.seeding import weight_direction
from evaluator.types import Neighborhood


def perturbed_tensors(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of all convolutional and linear modules by name, biases as tensors of their own.

    Modules are chosen by type: normalisation layers are untouched. A parameter two modules share appears once.
    """
    chosen: dict[str, nn.Parameter] = {}
    for prefix, module in model.named_modules():
        if isinstance(module, _ConvNd | nn.Linear):
            for name, parameter in module.named_parameters(prefix, recurse=False):
                if not any(parameter is known for known in chosen.values()):
                    chosen[name] = parameter
    return chosen


def sphere_sample(model: nn.Module, neighborhood: Neighborhood, *, seed: int, sample: int) -> dict[str, Tensor]:
    """Return ν by tensor name with ‖ν⁽ˡ⁾‖₂ = ξ‖w⁽ˡ⁾‖₂ and a direction uniform on the sphere; see `displacement`."""
    return displacement(model, neighborhood.xi, seed=seed, direction=sample)


def displacement(model: nn.Module, position: float, *, seed: int, direction: int) -> dict[str, Tensor]:
    """Return ν by tensor name, `position` · ‖w⁽ˡ⁾‖₂ along a direction that is uniform on the unit sphere.

    The same `seed`, `direction` and tensor name give the same direction for every model and position, so that both are
    compared under common random numbers. Tensors of zero norm are left out.
    """
    offsets: dict[str, Tensor] = {}
    for name, weight in perturbed_tensors(model).items():
        norm = weight.detach().norm()
        if norm > 0:
            drawn = weight_direction(seed, name, direction, weight.shape).to(weight.device, weight.dtype)
            offsets[name] = position * norm * drawn / drawn.norm()
    return offsets
