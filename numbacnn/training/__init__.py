"""Training: the step, the loop over epochs, evaluation, and callbacks that show and save how it goes."""

from typing import TYPE_CHECKING

from ..namespaces import imported_when_asked, public_names
from .callbacks import Callback as Callback
from .callbacks import CheckpointFile as CheckpointFile
from .callbacks import HistoryFile as HistoryFile
from .callbacks import Run as Run
from .captured import CapturedFunction as CapturedFunction
from .evaluation import evaluate as evaluate
from .fit import fit as fit
from .history import EpochRecord as EpochRecord
from .history import History as History
from .metrics import Accuracy as Accuracy
from .metrics import ClassAccuracy as ClassAccuracy
from .metrics import MeanAbsoluteError as MeanAbsoluteError
from .metrics import MeanIoU as MeanIoU
from .metrics import Metric as Metric
from .metrics import RunningMean as RunningMean
from .metrics import confusion_matrix as confusion_matrix
from .step import TrainingStep as TrainingStep
from .weight_average import WeightAverage as WeightAverage

if TYPE_CHECKING:
    from .curves import PlotCurves as PlotCurves
    from .live import LiveCurves as LiveCurves
    from .mistakes import Mistakes as Mistakes
    from .mistakes import MistakesFile as MistakesFile
    from .mistakes import read_mistakes as read_mistakes
    from .progress import ProgressBar as ProgressBar
    from .progress_file import ProgressFile as ProgressFile
    from .stopping import BestCheckpoint as BestCheckpoint
    from .stopping import EarlyStopping as EarlyStopping
    from .tensorboard_file import TensorBoardFile as TensorBoardFile
    from .tracking import Tracker as Tracker
    from .tracking import TrackerFile as TrackerFile
    from .tracking import Tracking as Tracking

_WHEN_ASKED = {
    "curves": ("PlotCurves",),
    "live": ("LiveCurves",),
    "mistakes": ("Mistakes", "MistakesFile", "read_mistakes"),
    "progress": ("ProgressBar",),
    "progress_file": ("ProgressFile",),
    "stopping": ("BestCheckpoint", "EarlyStopping"),
    "tensorboard_file": ("TensorBoardFile",),
    "tracking": ("Tracker", "TrackerFile", "Tracking"),
}
__getattr__ = imported_when_asked(__name__, _WHEN_ASKED)

__all__ = public_names(globals(), (), _WHEN_ASKED)


def __dir__() -> list[str]:
    return __all__
