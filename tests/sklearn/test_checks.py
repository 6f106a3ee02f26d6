"""The estimators keep scikit-learn's conventions, all of them: its own checks say so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator

from numbacnn.sklearn import CNNClassifier, CNNRegressor

ESTIMATORS = [CNNClassifier(), CNNRegressor()]
CHECKS = [pair for estimator in ESTIMATORS for pair in estimator_checks_generator(estimator)]


def name_of(part: object) -> str:
    """Of an estimator its class, of a check its function with the arguments that it was given."""
    if not isinstance(part, partial):
        return getattr(part, "__name__", type(part).__name__)
    given = [f"{name}={value}" for name, value in part.keywords.items()]
    return ",".join([name_of(part.func), *given])


@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=name_of)
def test_conventions(estimator: BaseEstimator, check: Callable[[BaseEstimator], None]) -> None:
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_no_tag_keeps_a_check_away(estimator: BaseEstimator) -> None:
    tags = get_tags(estimator)
    kind = tags.classifier_tags or tags.regressor_tags
    assert tags.requires_fit and tags.target_tags.required
    assert not (tags.non_deterministic or tags.no_validation or tags._skip_test or kind.poor_score)
