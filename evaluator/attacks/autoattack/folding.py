"""The same network with BatchNorm folded into its convolutions, channels last: faster passes, rounded otherwise."""

import copy
from collections import Counter

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from evaluator.attacks.answering import logits_and_gradient

_EXAMPLES = 16
_CLOSE = (1e-4, 0.05)
"""How far logits and gradients may differ, in shares of their length: rounding lets single ReLUs open or close."""


def folded(model: nn.Module, images: Tensor) -> nn.Module:
    """Return a folded copy of `model` in eval mode, or `model` where none answers as it does on some of `images`.

    None does where the forward pass is no fixed graph, draws random numbers, or keeps gradients away from its input.
    """
    try:
        copied = copy.deepcopy(model).requires_grad_(False)
        fast = _fold(fx.GraphModule(copied, _Tracer().trace(copied)))
        answers, expected = (_answers(network, images[:_EXAMPLES]) for network in (fast, model))
    except Exception:  # whatever a forward pass says to being traced: the model then answers itself
        return model
    close = all(
        (found - value).norm() <= share * value.norm()
        for found, value, share in zip(answers, expected, _CLOSE, strict=True)
    )
    return fast if close else model


class _Tracer(fx.Tracer):
    """Leaves a BatchNorm whole, also one that is no class of torch's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def _fold(traced: fx.GraphModule) -> nn.Module:
    uses = Counter(node.target for node in traced.graph.nodes)
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or node.args[0].op != "call_module":
            continue
        source = node.args[0]
        convolution, norm = (traced.get_submodule(call.target) for call in (source, node))
        alone = len(source.users) == uses[source.target] == uses[node.target] == 1
        if alone and isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            traced.set_submodule(source.target, fuse_conv_bn_eval(convolution, _plain(norm)))
            node.replace_all_uses_with(source)
            traced.graph.erase_node(node)
    traced.recompile()
    return traced.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # torch's stub


def _plain(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Return `norm`, or torch's own BatchNorm that does what a class derived from it does to each channel."""
    if type(norm) is nn.BatchNorm2d:
        return norm
    exact, plain = copy.deepcopy(norm).double(), nn.BatchNorm2d(norm.num_features, norm.eps)
    mean, variance = exact.running_mean, exact.running_var
    assert mean is not None, "a BatchNorm in eval mode has its statistics"
    assert variance is not None, "a BatchNorm in eval mode has its statistics"
    shift, above = (
        exact(features[None, :, None, None]).flatten() for features in (mean, mean + (variance + norm.eps).sqrt())
    )
    plain.load_state_dict(
        {"running_mean": mean, "running_var": variance, "bias": shift, "weight": above - shift}, strict=False
    )
    return plain.to(mean.device).requires_grad_(False).eval()


def _answers(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits, computed without gradients as most are, and the gradient of a combination of them."""
    with torch.no_grad():
        found = model(images)
    return found, logits_and_gradient(model, images)[1]
