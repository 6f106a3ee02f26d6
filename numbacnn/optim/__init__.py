"""Optimizers, which change parameters by their gradients, schedules of their settings, and gradient clipping."""

from typing import TYPE_CHECKING

from ..namespaces import imported_when_asked, public_names

if TYPE_CHECKING:
    from .adagrad import Adagrad as Adagrad
    from .adam import Adam as Adam
    from .adam import AdamW as AdamW
    from .clip import clip_grad_norm as clip_grad_norm
    from .decay import norms_and_biases as norms_and_biases
    from .lion import Lion as Lion
    from .nadam import NAdam as NAdam
    from .optimizer import Optimizer as Optimizer
    from .parameter_groups import ParameterGroup as ParameterGroup
    from .plateau import ReduceLROnPlateau as ReduceLROnPlateau
    from .rmsprop import RMSprop as RMSprop
    from .schedules import CosineAnnealingLR as CosineAnnealingLR
    from .schedules import LinearWarmup as LinearWarmup
    from .schedules import MultiStepLR as MultiStepLR
    from .schedules import OneCycleLR as OneCycleLR
    from .schedules import Schedule as Schedule
    from .schedules import StepLR as StepLR
    from .sgd import SGD as SGD

_WHEN_ASKED = {
    "adagrad": ("Adagrad",),
    "adam": ("Adam", "AdamW"),
    "clip": ("clip_grad_norm",),
    "decay": ("norms_and_biases",),
    "lion": ("Lion",),
    "nadam": ("NAdam",),
    "optimizer": ("Optimizer",),
    "parameter_groups": ("ParameterGroup",),
    "plateau": ("ReduceLROnPlateau",),
    "rmsprop": ("RMSprop",),
    "schedules": ("CosineAnnealingLR", "LinearWarmup", "MultiStepLR", "OneCycleLR", "Schedule", "StepLR"),
    "sgd": ("SGD",),
}
__getattr__ = imported_when_asked(__name__, _WHEN_ASKED)

__all__ = public_names(globals(), (), _WHEN_ASKED)


def __dir__() -> list[str]:
    return __all__
