"""Optimizers, which change parameters by their gradients, schedules of their settings, and gradient clipping."""

from ..namespaces import public_names
from .adam import Adam as Adam
from .adam import AdamW as AdamW
from .clip import clip_grad_norm as clip_grad_norm
from .decay import norms_and_biases as norms_and_biases
from .optimizer import Optimizer as Optimizer
from .schedules import CosineAnnealingLR as CosineAnnealingLR
from .schedules import LinearWarmup as LinearWarmup
from .schedules import MultiStepLR as MultiStepLR
from .schedules import OneCycleLR as OneCycleLR
from .schedules import Schedule as Schedule
from .schedules import StepLR as StepLR
from .sgd import SGD as SGD

__all__ = public_names(globals())


def __dir__() -> list[str]:
    return __all__
