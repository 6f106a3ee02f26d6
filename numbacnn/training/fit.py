"""The loop over epochs."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from .. import optim
from ..nn.grad_mode import evaluating
from ..ops.arguments import one_of
from ..sharding import Alone, Ranks, ShardedBatch
from .accumulation import pieces_of
from .callbacks import Callback, Run
from .evaluation import evaluate
from .finite import first_not_finite
from .metrics import RunningMean, by_name
from .records.history import EpochRecord, History
from .step import TrainingStep

if TYPE_CHECKING:
    from ..data import DataLoader
    from ..nn import Layer, Loss
    from ..optim import Optimizer, ReduceLROnPlateau, Schedule
    from .metrics import Metric
    from .weight_average import WeightAverage

__all__ = ["fit"]

REPORT_SECONDS = 0.2
"""How often a backend that works in the background is waited for, to say how training goes."""


def fit(
    model: Layer,
    train_loader: DataLoader | Sequence[tuple[Any, Any]],
    test_loader: DataLoader | Sequence[tuple[Any, Any]] | None,
    loss: Loss,
    optimizer: Optimizer,
    epochs: int,
    *,
    start_epoch: int = 0,
    callbacks: Sequence[Callback] = (),
    history: History | None = None,
    schedule: Schedule | ReduceLROnPlateau | None = None,
    clip_norm: float | None = None,
    accumulate: int = 1,
    micro_batch: int | None = None,
    shards: int | None = None,
    group: Ranks | None = None,
    weight_average: WeightAverage | None = None,
    metrics: Mapping[str, Metric] | Sequence[Metric] = (),
    capture: bool = True,
) -> History:
    """Train ``model`` until ``epochs`` epochs are finished, and evaluate it after each one.

    Targets may be of any kind that ``loss`` takes: labels, numbers, images. Accuracies are NaN unless they are the
    numbers of classes (n,) and the model gives logits (n, classes), or, for `CrossEntropyLoss`, the probabilities of
    classes (n, classes), as `MixUp` and `CutMix` make them, of which the largest is the class.

    A model in evaluation mode is put into training mode at the start. Of one in training mode, the layers that are in
    evaluation mode stay there. ``part.freeze()`` keeps a part as it is, see `Layer.freeze`.

    Args:
        model: gives predictions.
        train_loader: batches to train on, a `DataLoader` or another iterable with a length, such as a list of pairs of
            images and targets; each epoch sets its order by ``train_loader.set_epoch(0, 1, ...)`` if it has that.
        test_loader: batches to evaluate on, likewise. None for no evaluation; its figures are NaN then.
        loss: compares predictions with targets.
        optimizer: updates the parameters of ``model``.
        epochs: 1 or more, those before ``start_epoch`` counted.
        start_epoch: how many epochs are finished already, when a run is resumed.
        callbacks: called in their order at each moment.
        history: the records of the epochs before ``start_epoch``; continued in place.
        schedule: of ``optimizer``; takes a step after each of the optimizer's or after each epoch, as its ``per``
            says, "batch" or "epoch", before callbacks are called; a `ReduceLROnPlateau` after each epoch, with the
            figure that it monitors. When a run is resumed, load its state first:
            ``schedule.load_state_dict(load_checkpoint(path, model, optimizer)["settings"]["schedule"])``.
        clip_norm: the most that the norm of each step's gradients may be, see ``optim.clip_grad_norm``; None for any.
        accumulate: of how many batches the gradients are added up before a step of the optimizer, see `TrainingStep`.
            What is left over at the end of an epoch has a step of its own, with the mean over its samples, so that an
            epoch has ceil(batches / accumulate) steps, which is what a schedule counts, and ends with none pending.
        micro_batch: how many samples of a batch are computed at a time, for batches larger than the memory would take,
            see `TrainingStep`; None for all. The evaluation computes the batches of ``test_loader`` as they are.
        shards: into how many each batch is cut, to be computed by as many processes, see `TrainingStep`: the bits are
            those of one process with as many shards. The random numbers of the transforms of a `DataLoader` are then of
            each shard, see `DataLoader.sharded`. None for no cuts, or with several processes for 8.
        group: the processes that train together, see `numbacnn.distributed.init`. Each reads from a `DataLoader` what
            it computes, of other loaders all, and computes some of the batches of ``test_loader``; all end with the
            same model and the same history, but for its times. Callbacks that print or write files are called in the
            first one alone, see `Callback`. None for this process alone.
        weight_average: of ``model``; updated after each step, and what the evaluation after each epoch is done with.
            The model ends with its own weights: ``with weight_average.applied():`` save or use the averages. When a run
            is resumed, ``load_checkpoint(path, model, optimizer, weight_average)`` first.
        metrics: figures that each record of the history has as well, in its ``metrics``, by names, as
            ``{"top5": Accuracy(k=5)}``; those of a sequence are named by what is printed of them. Each begins again at
            every epoch, is "train_top5" over its batches, before each update, and then "test_top5" over those of
            ``test_loader``, if there is one.
        capture: whether steps are launched in one go where that can be done, see `TrainingStep`.

    Returns:
        The history.

    Raises:
        TypeError: loaders or metrics that are none, a loss without ``compute``; before anything is trained.
        FloatingPointError: the loss became infinite or NaN; says in which layer or parameter that is first seen, by a
            forward pass of the last batch. Nothing is saved after that.
        ValueError: numbers out of range, a history of another length than ``start_epoch``, loaders without samples,
            the schedule of another optimizer, one that starts anew in a run that is resumed, or one that monitors what
            there is not, the optimizer or the average of another model, one metric given twice, fewer shards than
            processes, processes that differ in the numbers of epochs, batches or shards.
    """
    epochs, start_epoch = _check_epochs(epochs, start_epoch)
    for name, loader in (("train_loader", train_loader), ("test_loader", test_loader)):
        if loader is None and name == "test_loader":
            continue
        if not (hasattr(loader, "__iter__") and hasattr(loader, "__len__")):
            raise TypeError(
                f"`{name}` {loader!r} must be a DataLoader or another iterable, with a length, of batches: pairs of "
                "images and targets"
            )
    named = by_name(metrics)
    history = History() if history is None else history
    if history.records and history.records[-1].epoch != start_epoch:
        raise ValueError(f"`history` ends with epoch {history.records[-1].epoch}; `start_epoch` is {start_epoch}")
    parts = ("train",) if test_loader is None else ("train", "test")
    figures = [f"{part}_{name}" for part in parts for name in ("loss", "accuracy", *named)]
    _check_schedule(schedule, optimizer, start_epoch, figures)
    batches = len(train_loader)
    run = Run(
        *(model, loss, optimizer, history, epochs),
        batches=batches,
        epoch=start_epoch,
        schedule=schedule,
        weight_average=weight_average,
        metrics=named,
    )
    step = TrainingStep(
        *(model, loss, optimizer),
        clip_norm=clip_norm,
        accumulate=accumulate,
        micro_batch=micro_batch,
        shards=shards,
        group=group,
        weight_average=weight_average,
        metrics=list(named.values()),
        capture=capture,
    )
    ranks = Alone() if group is None else group
    _check_processes(ranks, start_epoch=start_epoch, epochs=epochs, batches=batches, shards=step.shards)
    # Each batch of an evaluation then goes to all processes, even to those whose own callbacks do not look at it.
    hears_batches = any(ranks.gather_metrics(any(map(_hears_test_batches, callbacks))))
    callbacks = [callback for callback in callbacks if ranks.rank == 0 or not callback.first_rank_only]
    if not model.training:
        model.train()

    def on_test_batch(prediction: Any, target: Any) -> None:
        for callback in callbacks:
            callback.on_test_batch_end(run, prediction, target)

    try:
        clock = time.perf_counter()
        for callback in callbacks:
            callback.on_fit_begin(run)
        run.stop = any(ranks.gather_metrics(run.stop))
        for epoch in range(start_epoch, epochs):
            if run.stop:
                break
            run.epoch, run.batch, run.average = epoch + 1, 0, RunningMean()
            for callback in callbacks:
                callback.on_epoch_begin(run)
            lr = optimizer.lr
            if hasattr(train_loader, "set_epoch"):
                train_loader.set_epoch(epoch)
            for metric in named.values():
                metric.reset()
            step_seconds, x = _train(run, step, train_loader, callbacks)
            # Read before the evaluation begins them again.
            values = {f"train_{name}": metric.value() for name, metric in named.items()}
            test_loss = test_accuracy = math.nan
            if test_loader is not None:
                if hasattr(test_loader, "set_epoch"):
                    test_loader.set_epoch(0)  # whatever is random in it is the same each time, and after a resume
                shared = None if step.shards is None else ranks
                with nullcontext() if weight_average is None else weight_average.applied():
                    test_loss, test_accuracy = evaluate(
                        model, test_loader, loss, step.metrics, on_test_batch if hears_batches else None, group=shared
                    )
                    if not math.isfinite(test_loss):
                        with evaluating(model):
                            raise _not_finite("test loss", test_loss, run, step, x)
                values |= {f"test_{name}": metric.value() for name, metric in named.items()}
            clock, earlier = time.perf_counter(), clock
            record = EpochRecord(
                epoch=run.epoch,
                train_loss=run.average.loss,
                train_accuracy=run.average.accuracy,
                test_loss=test_loss,
                test_accuracy=test_accuracy,
                examples_per_second=run.average.examples / step_seconds,
                wall_examples_per_second=run.average.examples / (clock - earlier),
                lr=lr,
                seconds=clock - earlier,
                metrics=values,
            )
            history.records.append(record)
            if schedule is not None and isinstance(schedule, optim.ReduceLROnPlateau):
                schedule.step(_monitored(record, schedule.monitor or f"{parts[-1]}_loss"))
            elif schedule is not None and schedule.per == "epoch":
                schedule.step()
            for callback in callbacks:
                callback.on_epoch_end(run)
            run.stop = any(ranks.gather_metrics(run.stop))
    finally:
        for callback in callbacks:
            callback.on_fit_end(run)
    return history


def _train(
    run: Run, step: TrainingStep, loader: Iterable[tuple[Any, Any]], callbacks: Sequence[Callback]
) -> tuple[float, Any]:
    """Train for one epoch; the seconds that it took, without loading and callbacks unless steps run meanwhile.

    And the images of the last batch.
    """
    asynchronous = run.model.backend.asynchronous
    images = None
    if step.shards is not None and hasattr(loader, "sharded"):
        ranks = step.group or Alone()
        loader = ((batch, None) for batch in loader.sharded(step.shards, ranks.rank, ranks.size))
    in_steps, begin = 0.0, time.perf_counter()
    reported, batches_reported = begin, 0
    for images, labels in loader:
        start = time.perf_counter()
        step._train_on(images, labels, is_last=run.batch + 1 == run.batches)
        run.batch += 1
        if not asynchronous or run.batch == run.batches or start - reported >= REPORT_SECONDS:
            _report(run, step, images)
            reported, batches_reported = time.perf_counter(), run.batch
        in_steps += time.perf_counter() - start
        if not step.pending:
            _follow_schedule(run)
        for callback in callbacks:
            callback.on_batch_end(run)
    if step.pending:  # there were fewer batches than the loader says
        step.flush()
        _follow_schedule(run)
    if batches_reported != run.batch:
        _report(run, step, images)
        reported = time.perf_counter()
    if not run.average.examples:
        raise ValueError("`train_loader` gives no samples to train on")
    return reported - begin if asynchronous else in_steps, images


def _follow_schedule(run: Run) -> None:
    """After a step of the optimizer."""
    schedule = run.schedule
    if schedule is not None and not isinstance(schedule, optim.ReduceLROnPlateau) and schedule.per == "batch":
        schedule.step()


def _report(run: Run, step: TrainingStep, images: Any) -> None:
    loss_sum, correct, examples = step.totals()
    if not math.isfinite(loss_sum):
        raise _not_finite("training loss", loss_sum, run, step, images)
    run.average.add(loss_sum, correct, examples)


def _check_epochs(epochs: int, start_epoch: int) -> tuple[int, int]:
    epochs, start_epoch = operator.index(epochs), operator.index(start_epoch)
    if epochs < 1:
        raise ValueError(f"`epochs` {epochs} must be at least 1")
    if not 0 <= start_epoch <= epochs:
        raise ValueError(f"`start_epoch` {start_epoch} must be in 0..{epochs}, the number of `epochs`")
    return epochs, start_epoch


def _hears_test_batches(callback: Callback) -> bool:
    """Whether it does anything with the predictions of an evaluation"""
    own: Any = getattr(callback.on_test_batch_end, "__func__", None)
    return own is not Callback.on_test_batch_end


def _check_processes(ranks: Ranks, **numbers: int | None) -> None:
    """ValueError where the processes are not about to do the same, as where some do not see a checkpoint's file."""
    every = ranks.gather_metrics(numbers)
    for name in numbers:
        found = [one[name] for one in every]
        if len(set(found)) > 1:
            raise ValueError(f"the processes of `group` have {found} as `{name}`, must have the same")


def _monitored(record: EpochRecord, name: str) -> float:
    """The figure of this name; ValueError where it is not known."""
    figure = record.metrics.get(name, getattr(record, name, math.nan))
    if math.isnan(figure):
        raise ValueError(f"`monitor` {name!r} of `schedule` is not known in this run: its epochs have no such figure")
    return float(figure)


def _check_schedule(
    schedule: Schedule | ReduceLROnPlateau | None, optimizer: Optimizer, start_epoch: int, figures: Sequence[str]
) -> None:
    if schedule is None:
        return
    if schedule.optimizer is not optimizer:
        raise ValueError("`schedule` was made for another optimizer than `optimizer`")
    if start_epoch and not schedule.count:
        raise ValueError(f"`schedule` is at its beginning, `start_epoch` is {start_epoch}: load its state first")
    if isinstance(schedule, optim.ReduceLROnPlateau) and schedule.monitor is not None:
        one_of("monitor", schedule.monitor, figures)


def _not_finite(name: str, value: float, run: Run, step: TrainingStep, images: Any) -> FloatingPointError:
    parts = [x for _, x, _ in images.parts] if isinstance(images, ShardedBatch) else [images]
    pieces = [piece for x in parts for piece, _ in pieces_of(x, x, step.micro_batch, run.model.backend)]
    place = next(filter(None, (first_not_finite(run.model, piece) for piece in pieces)), "")
    if place == "the input":
        reason = "the images of that batch hold infinity or NaN"
    else:
        reason = f"a learning rate below {run.optimizer.lr:g} may help{place and f'; first seen in {place}'}"
    return FloatingPointError(
        f"{name} is {value} in epoch {run.epoch}, after batch {run.batch} of {run.batches}; {reason}"
    )
