"""Training: the step, the loop over epochs, evaluation, and callbacks that show and save how it goes."""

from .callbacks import Callback as Callback
from .callbacks import CheckpointFile as CheckpointFile
from .callbacks import HistoryFile as HistoryFile
from .callbacks import Run as Run
from .captured import CapturedFunction as CapturedFunction
from .curves import PlotCurves as PlotCurves
from .fit import fit as fit
from .history import EpochRecord as EpochRecord
from .history import History as History
from .live import LiveCurves as LiveCurves
from .metrics import Accuracy as Accuracy
from .metrics import ClassAccuracy as ClassAccuracy
from .metrics import MeanAbsoluteError as MeanAbsoluteError
from .metrics import MeanIoU as MeanIoU
from .metrics import Metric as Metric
from .metrics import RunningMean as RunningMean
from .metrics import confusion_matrix as confusion_matrix
from .metrics import evaluate as evaluate
from .progress import ProgressBar as ProgressBar
from .step import TrainingStep as TrainingStep
from .stopping import BestCheckpoint as BestCheckpoint
from .stopping import EarlyStopping as EarlyStopping
from .tensorboard_file import TensorBoardFile as TensorBoardFile
from .tracking import Tracker as Tracker
from .tracking import TrackerFile as TrackerFile
from .tracking import Tracking as Tracking
from .weight_average import WeightAverage as WeightAverage

__all__ = [
    "Accuracy",
    "BestCheckpoint",
    "Callback",
    "CapturedFunction",
    "CheckpointFile",
    "ClassAccuracy",
    "EarlyStopping",
    "EpochRecord",
    "History",
    "HistoryFile",
    "LiveCurves",
    "MeanAbsoluteError",
    "MeanIoU",
    "Metric",
    "PlotCurves",
    "ProgressBar",
    "Run",
    "RunningMean",
    "TensorBoardFile",
    "Tracker",
    "TrackerFile",
    "Tracking",
    "TrainingStep",
    "WeightAverage",
    "confusion_matrix",
    "evaluate",
    "fit",
]
