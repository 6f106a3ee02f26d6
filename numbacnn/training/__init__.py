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
from .metrics import Accuracy as Accuracy
from .metrics import ClassAccuracy as ClassAccuracy
from .metrics import MeanAbsoluteError as MeanAbsoluteError
from .metrics import MeanIoU as MeanIoU
from .metrics import Metric as Metric
from .metrics import RunningMean as RunningMean
from .metrics import confusion_matrix as confusion_matrix
from .records.history import EpochRecord as EpochRecord
from .records.history import History as History
from .step import TrainingStep as TrainingStep
from .weight_average import WeightAverage as WeightAverage

if TYPE_CHECKING:
    from .reports.curves import PlotCurves as PlotCurves
    from .reports.live import LiveCurves as LiveCurves
    from .reports.mistakes import Mistakes as Mistakes
    from .reports.mistakes import MistakesFile as MistakesFile
    from .reports.mistakes import read_mistakes as read_mistakes
    from .reports.progress import ProgressBar as ProgressBar
    from .reports.progress_file import ProgressFile as ProgressFile
    from .reports.tensorboard_file import TensorBoardFile as TensorBoardFile
    from .reports.tracking import Tracker as Tracker
    from .reports.tracking import TrackerFile as TrackerFile
    from .reports.tracking import Tracking as Tracking
    from .stopping import BestCheckpoint as BestCheckpoint
    from .stopping import EarlyStopping as EarlyStopping

_WHEN_ASKED = {
    "reports.curves": ("PlotCurves",),
    "reports.live": ("LiveCurves",),
    "reports.mistakes": ("Mistakes", "MistakesFile", "read_mistakes"),
    "reports.progress": ("ProgressBar",),
    "reports.progress_file": ("ProgressFile",),
    "reports.tensorboard_file": ("TensorBoardFile",),
    "reports.tracking": ("Tracker", "TrackerFile", "Tracking"),
    "stopping": ("BestCheckpoint", "EarlyStopping"),
}
__getattr__ = imported_when_asked(__name__, _WHEN_ASKED)

__all__ = public_names(globals(), (), _WHEN_ASKED)


def __dir__() -> list[str]:
    return __all__
