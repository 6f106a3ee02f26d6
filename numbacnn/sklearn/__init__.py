"""Estimators for scikit-learn: networks that its pipelines, searches and scores take as they take its own.

Needs scikit-learn, which the extra ``sklearn`` brings.
"""

try:
    from sklearn.utils.validation import validate_data as _validate_data  # noqa: F401 - the youngest of what is used
except ImportError as error:
    raise ImportError(
        f'`numbacnn.sklearn` needs scikit-learn 1.6 or newer: pip install "numbacnn[sklearn]" ({error})'
    ) from error

from .classifier import CNNClassifier as CNNClassifier
from .regressor import CNNRegressor as CNNRegressor

__all__ = ["CNNClassifier", "CNNRegressor"]
