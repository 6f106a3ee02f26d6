"""What goes on in a model, in numbers: where an image speaks for a class, how one number of a layer comes about."""

from .heat import blended as blended
from .heat import grad_cam as grad_cam
from .sums import Copied as Copied
from .sums import FunctionValue as FunctionValue
from .sums import Joined as Joined
from .sums import Largest as Largest
from .sums import Mean as Mean
from .sums import Normalized as Normalized
from .sums import Term as Term
from .sums import WeightedSum as WeightedSum
from .sums import WrittenSum as WrittenSum
from .units import Unit as Unit
from .units import unit as unit

__all__ = [
    "Copied",
    "FunctionValue",
    "Joined",
    "Largest",
    "Mean",
    "Normalized",
    "Term",
    "Unit",
    "WeightedSum",
    "WrittenSum",
    "blended",
    "grad_cam",
    "unit",
]
