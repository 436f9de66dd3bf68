"""From recipes and seeds to what is asked of training workers (torch-free)."""

from collections.abc import Sequence

from evaluator.exceptions import InvalidRequest
from evaluator.protocol import EvaluationProtocol
from evaluator.shipped import PROTOCOLS, find_protocol
from evaluator.store import TrainingOrder
from trainers.recipe import Recipe

SEEDS = range(2**32)
"""What a seed may be."""


def orders(
    recipes: Sequence[Recipe], *, seed: int = 0, count: int = 1, protocol: str | None = None, title: str | None = None
) -> list[TrainingOrder]:
    """Return an order for each recipe with `count` seeds from `seed` on, handed in under a protocol.

    Raises:
        InvalidRequest: a seed is none, no protocol ranks the data set, or the named one measures on another.
    """
    if not 0 <= seed <= SEEDS.stop - count:
        raise InvalidRequest(f"a seed is a whole number from 0 to 2³² − 1, got {seed}")
    return [
        _order(recipe, one, protocol_for(recipe, protocol), title)
        for one in range(seed, seed + count)
        for recipe in recipes
    ]


def protocol_for(recipe: Recipe, name: str | None = None) -> EvaluationProtocol | None:
    """Return the named protocol, else the first that ranks the recipe's data set, by its attack's norm if one does.

    Raises:
        InvalidRequest: the named one measures on another data set.
    """
    if name is None:
        newest = (versions[-1] for versions in PROTOCOLS.values())
        ranking = [one for one in newest if one.rankable and one.dataset == recipe.dataset]
        norm = None if recipe.attack.kind == "none" else recipe.attack.norm
        return next((one for one in ranking if one.threat_model.norm == norm), next(iter(ranking), None))
    protocol = find_protocol(name)
    if protocol.dataset != recipe.dataset:
        raise InvalidRequest(
            f"{recipe.name} trains on {recipe.dataset}, but {protocol.label} measures on {protocol.dataset}; "
            "choose a protocol of the same data set"
        )
    return protocol


def _order(recipe: Recipe, seed: int, protocol: EvaluationProtocol | None, title: str | None) -> TrainingOrder:
    if protocol is None:
        raise InvalidRequest(f"no protocol ranks models of {recipe.dataset}; name one")
    return TrainingOrder(
        digest=recipe.digest,
        seed=seed,
        name=recipe.name,
        recipe=recipe.model_dump_json(),
        epochs=recipe.epochs,
        snapshot=recipe.checkpoint,
        title=recipe.label(seed) if title is None else title,
        protocol=protocol,
    )
