"""The settings of every kind of part, as a recipe's tables give them: typed and bounded (torch-free)."""

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from evaluator.protocol import Initialization
from evaluator.types import Norm, Split

Fraction = Annotated[float, Field(ge=0, le=1)]
ProperFraction = Annotated[float, Field(gt=0, lt=1)]
Fill = Literal["black", "mean"]
"""What stands where an augmentation leaves no pixel: 0, or the training set's mean colour."""


class Settings(BaseModel):
    """A part of a recipe: immutable, and no key beyond those declared."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Range(Settings):
    """Examples start … stop − 1 of the training split."""

    start: NonNegativeInt
    stop: PositiveInt

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if self.start >= self.stop:
            raise ValueError(f"the range {self.start} … {self.stop} holds no example")
        return self


class CropSettings(Settings):
    """Move each image by up to `pad` pixels a direction, with `fill` behind it."""

    kind: Literal["crop"]
    pad: PositiveInt
    fill: Fill = "black"


class ZoomOutSettings(Settings):
    """Pad each side by its own 0 … `pad` black pixels and scale back to the old size (Stutz et al. 2021)."""

    kind: Literal["zoom-out"]
    pad: PositiveInt


class FlipSettings(Settings):
    """Mirror half of the images left to right."""

    kind: Literal["flip"]


class AutoAugmentSettings(Settings):
    """Two random operations of a learnt policy (Cubuk et al. 2019)."""

    kind: Literal["auto-augment"]
    policy: Literal["cifar10"] = "cifar10"


class CutoutSettings(Settings):
    """Cover a square of `side` pixels with `fill`."""

    kind: Literal["cutout"]
    side: PositiveInt
    fill: Fill = "black"


AugmentationSettings = Annotated[
    CropSettings | ZoomOutSettings | FlipSettings | AutoAugmentSettings | CutoutSettings, Field(discriminator="kind")
]


class LabelledSettings(Settings):
    """Labelled examples, reshuffled each pass and augmented step by step, in the order given.

    With probability `label_noise` the weight loss sees a random label.
    """

    kind: Literal["labelled"]
    examples: Range
    batch_size: PositiveInt
    label_noise: Fraction = 0.0
    augmentation: tuple[AugmentationSettings, ...] = ()


class WithheldSettings(Settings):
    """Examples of the data set whose labels are withheld and replaced by label spreading (Zhou et al. 2004)."""

    kind: Literal["withheld"]
    examples: Range


class FileSettings(Settings):
    """Pseudo-labelled images in a file of the data folder: arrays `image` and `label`, as .npz or .safetensors."""

    kind: Literal["file"]
    name: Annotated[str, Field(max_length=200)]


class UnlabeledSettings(LabelledSettings):
    """Labelled examples, and beside them a `fraction` of each batch from pseudo-labelled ones (Carmon et al. 2019).

    An epoch has as many batches as without the additional examples.
    """

    kind: Literal["unlabeled"]  # type: ignore[assignment]  # another kind of the same settings
    unlabeled: Annotated[WithheldSettings | FileSettings, Field(discriminator="kind")]
    fraction: ProperFraction


SourceSettings = Annotated[LabelledSettings | UnlabeledSettings, Field(discriminator="kind")]


class NoAttackSettings(Settings):
    """Train on the images as they are."""

    kind: Literal["none"]


class PgdAttackSettings(Settings):
    """Projected gradient ascent, best of steps + 1 iterates; `mode` is the network's meanwhile."""

    kind: Literal["pgd"]
    norm: Norm
    epsilon: PositiveFloat
    steps: PositiveInt
    step_size: PositiveFloat
    initialization: Initialization
    mode: Literal["eval"] = "eval"


AttackSettings = Annotated[NoAttackSettings | PgdAttackSettings, Field(discriminator="kind")]


class CrossEntropySettings(Settings):
    """Cross-entropy; `label_smoothing` acts on the weight loss only."""

    kind: Literal["cross-entropy"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class TradesSettings(Settings):
    """TRADES: clean cross-entropy plus `beta` times the divergence that the attack raises."""

    kind: Literal["trades"]
    beta: NonNegativeFloat


class MartSettings(Settings):
    """MART: boosted cross-entropy plus `weight` times the divergence, the more the less the clean image is believed."""

    kind: Literal["mart"]
    weight: NonNegativeFloat


class SelfSupervisionSettings(Settings):
    """The objective `of` on half of each batch, and `weight` times that of telling how far the rest was turned."""

    kind: Literal["self-supervision"]
    weight: PositiveFloat
    of: Annotated[CrossEntropySettings | TradesSettings | MartSettings, Field(discriminator="kind")] = (
        CrossEntropySettings(kind="cross-entropy")
    )


ObjectiveSettings = Annotated[
    CrossEntropySettings | TradesSettings | MartSettings | SelfSupervisionSettings, Field(discriminator="kind")
]


class SgdStepSettings(Settings):
    """The gradient at the current weights."""

    kind: Literal["sgd"]


class AwpSettings(Settings):
    """The gradient at weights moved uphill by `gamma` times their own norm."""

    kind: Literal["awp"]
    gamma: PositiveFloat


class EntropySgdSettings(Settings):
    """The way to the mean of `steps` noisy steps around the current weights; an epoch is `steps` passes."""

    kind: Literal["entropy-sgd"]
    steps: PositiveInt
    step_size: PositiveFloat
    noise: NonNegativeFloat
    gamma: NonNegativeFloat
    averaging: Annotated[float, Field(ge=0, lt=1)]


class SgdSettings(Settings):
    """Stochastic gradient descent; the decay acts on all parameters."""

    kind: Literal["sgd"]
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 0.0


class AdamSettings(Settings):
    """Adam with its usual moments."""

    kind: Literal["adam"]
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat = 0.0


class MultiStepSettings(Settings):
    """The rate is multiplied by `factor` at each milestone, a fraction of the whole training."""

    kind: Literal["multi-step"]
    milestones: tuple[ProperFraction, ...]
    factor: ProperFraction = 0.1


class CyclicSettings(Settings):
    """The rate climbs from 0 to its full value and falls back, `cycles` times."""

    kind: Literal["cyclic"]
    cycles: PositiveInt


class AveragingSettings(Settings):
    """The exponential moving average of the weights, kept after every step, is what the training yields."""

    kind: Literal["averaging"]
    decay: ProperFraction


class ClippingSettings(Settings):
    """After every step, parameters of `layers` are clamped to ± `maximum`; `all` suits a BatchNorm of scale 1 + w."""

    kind: Literal["clipping"]
    maximum: PositiveFloat
    layers: Literal["convolutional-and-linear", "all"] = "convolutional-and-linear"


class MonitorSettings(Settings):
    """PGD on held-out examples every `every` epochs; the snapshot lowest in `criterion` is the best."""

    split: Split = Split.TRAIN
    examples: Range
    criterion: Literal["robust_error", "robust_loss"]
    every: PositiveInt
    restarts: PositiveInt = 1
    attack: PgdAttackSettings
