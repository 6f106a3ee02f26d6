"""Losses of one element and their derivatives, of numbers of float64, as kernels compile them.

With d = prediction - target:

- squared: d^2;
- smooth_l1: d^2 / (2 parameter) where |d| < parameter, else |d| - parameter / 2; of parameter 0 that is |d|;
- huber: d^2 / 2 where |d| <= parameter, else parameter (|d| - parameter / 2);
- logistic: the cross-entropy of sigmoid(prediction) with target, -positive target log sigmoid(prediction)
  - (1 - target) log(1 - sigmoid(prediction)), where ``positive`` is what a positive target weighs; without parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["HUBER", "KINDS", "LOGISTIC", "SMOOTH", "SQUARED", "formulas"]

SQUARED, SMOOTH, HUBER, LOGISTIC = 0, 1, 2, 3

KINDS = {"squared": SQUARED, "smooth_l1": SMOOTH, "huber": HUBER, "logistic": LOGISTIC}
"""What kernels take in place of a kind's name."""


def formulas(
    compiled: Callable[[Callable[..., Any]], Any], exp: Callable[[Any], Any], log1p: Callable[[Any], Any]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """``loss_of`` and ``slope_of``, of (kind, parameter, prediction, target, positive).

    ``compiled`` is a decorator of what kernels call, ``exp`` and ``log1p`` are of numbers of float64.
    """

    @compiled
    def loss_of(kind: Any, parameter: Any, prediction: Any, target: Any, positive: Any) -> Any:
        """The loss of one element."""
        if kind == LOGISTIC:
            # -log sigmoid(x) = log(1 + exp(-|x|)) + max(-x, 0), and -log(1 - sigmoid(x)) is that plus x.
            of_negative = -prediction if prediction < 0.0 else 0.0
            logarithm = log1p(exp(-abs(prediction))) + of_negative
            return (1.0 - target) * prediction + (1.0 + (positive - 1.0) * target) * logarithm
        difference = prediction - target
        if kind == SQUARED:
            return difference * difference
        size = abs(difference)
        if kind == SMOOTH:
            return 0.5 * difference * difference / parameter if size < parameter else size - 0.5 * parameter
        return 0.5 * difference * difference if size <= parameter else parameter * (size - 0.5 * parameter)

    @compiled
    def slope_of(kind: Any, parameter: Any, prediction: Any, target: Any, positive: Any) -> Any:
        """The derivative of :func:`loss_of` with respect to the prediction; 0 where |d| has none."""
        if kind == LOGISTIC:
            exponential = exp(-abs(prediction))
            # 1 - sigmoid(x), without cancellation.
            complement = (exponential if prediction > 0.0 else 1.0) / (1.0 + exponential)
            return (1.0 - target) - (1.0 + (positive - 1.0) * target) * complement
        difference = prediction - target
        if kind == SQUARED:
            return 2.0 * difference
        size = abs(difference)
        sign = 1.0 if difference > 0.0 else (-1.0 if difference < 0.0 else difference)
        if kind == SMOOTH:
            return difference / parameter if size < parameter else sign
        return difference if size <= parameter else parameter * sign

    return loss_of, slope_of
