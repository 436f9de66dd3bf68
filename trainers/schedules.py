"""How the learning rate follows the progress of a training: pure functions, so a resumed schedule has no state."""

from trainers.settings import CyclicSettings, MultiStepSettings


def factor(settings: MultiStepSettings | CyclicSettings, progress: float) -> float:
    """Return what the learning rate is multiplied by when `progress`, in [0, 1), of all steps are done."""
    match settings:
        case MultiStepSettings():
            return settings.factor ** sum(progress >= milestone for milestone in settings.milestones)
        case CyclicSettings():
            return 1 - abs(2 * (progress * settings.cycles % 1) - 1)
