"""One step of training: from a batch, or several, to updated parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import optim
from ..backends import Array, Backend
from ..nn.child import keeping_for
from ..nn.grad_mode import keeping
from ..nn.layer import Layer
from ..nn.loss import Loss
from ..nn.printing import remember_shapes
from ..nn.state import Parameter
from ..nn.sync_batch_norm import synchronizes
from ..ops.arguments import flag, integer, number
from ..ops.parts import as_tuple
from ..sharding import MAX_SHARDS, Ranks, ShardedBatch, default_shards
from .accumulation import Accumulation, add_gradients, pieces_of, shards_of
from .captured import StagedWork
from .gradient_pieces import BackwardProgress
from .metrics import Metric, MetricSums, on_backend
from .shard_state import ShardState
from .shards import ShardSums, share_state

if TYPE_CHECKING:
    from ..optim import Optimizer
    from .weight_average import WeightAverage

__all__ = ["TrainingStep", "checked_shards", "set_gradients"]


class TrainingStep:
    """Forward, loss, backward and update of one batch: ``step(x, y)``, and now and then ``step.totals()``.

    A call waits for nothing; :meth:`totals` waits. The loss moves to the model's backend if it is on another one.

    The backends cpu and cuda capture the whole step and launch it in one go, cuda from the second batch of a shape on;
    :attr:`mode` tells. Numbers are those of a plain step: everything may change at any time, a changed setting of a
    layer or a loss costs another capture. Each of up to four shapes, of batches and of pieces, holds memory for a
    whole step.

    Layers, losses and optimizers that are not of this package may compute by NumPy, which a launch would not do again.
    They are captured if their class declares ``capturable = True``, see `Layer.capturable`; otherwise steps are plain,
    and a RuntimeWarning says once why.

    What layers saved is gone after the update: each lets go of it when its backward pass is done, so that its memory
    serves those before it.

    A loss that is infinite or NaN: where work is done at once, the step that it is a part of changes no parameter, so
    that they still show where it began; a backend that works in the background goes on with what comes of it.

    With ``accumulate=k`` the gradients of k batches add up before the optimizer takes a step; each call is of one batch
    still. The step is that of the mean loss over all their samples, whatever the sizes of the batches, or of the sum
    where the loss is one. The mean is that of one batch of them all: a `CrossEntropyLoss` divides by the labels that
    count, with their weights; of a loss of one's own a batch counts for as many samples as it has. Batch normalisation
    sees each batch for itself. :meth:`flush` takes the step early, with the mean of what there is.

    With ``micro_batch=m`` a batch is computed in pieces of m samples, one after another, and their gradients add up in
    the same way: a step with a large batch in the memory that m samples need. To layers, metrics and :meth:`totals` a
    piece is a batch: batch normalisation sees each piece for itself.

    Steps whose samples are cut at the same places have the same bits, however many calls they come in: one batch of k m
    samples with ``micro_batch=m`` is k batches of m with ``accumulate=k``, and a single piece is a plain step unless
    :meth:`flush` ends it later. Cut otherwise or not at all, sums are rounded at other places: gradients then differ by
    a few 1e-7 of the largest in float32 and 1e-15 in float64.

    With ``shards=s`` a batch of n samples is cut into s shards, shard i being the samples i n // s to
    (i + 1) n // s - 1, and what they give is summed by one binary tree over their numbers. Each process of ``group``
    computes some of them, in turn, and ends with the sums of all, so that the bits are those of one process with as
    many shards, however many processes there are. To layers and metrics a shard is a batch: batch normalisation sees
    each shard for itself, and its running averages become the mean of what they would become by each shard, weighted by
    samples. Dropout draws for each shard of its own. With ``micro_batch`` too, each shard is computed in pieces.

    `SyncBatchNorm` layers that train see the whole batch, whatever ``shards`` there are: a process then computes its
    shards side by side, each of which waits at such a layer until all are there. It holds what all of them save for the
    backward pass at a time, and gradients of each; steps are plain, and ``micro_batch`` is a ValueError. A layer of
    one's own keeps what its backward pass takes in attributes, and changes none of what these hold in place.

    Args:
        model: gives predictions, of whatever shape the loss takes.
        loss: compares them with targets: labels, numbers, images. Its reduction is "mean" or "sum".
        optimizer: updates parameters of ``model``, all or some; a ValueError if it has any that is not the model's.
        clip_norm: the most that the gradients' norm may be, see ``optim.clip_grad_norm``; None for any. With
            ``accumulate`` it is that of the accumulated gradients.
        accumulate: of how many batches the gradients are added up before a step of the optimizer, 1 or more.
        micro_batch: how many samples of a batch are computed at a time, 1 or more; the last piece may be smaller. None
            for all.
        shards: into how many a batch is cut, 1 to 65536; None for a batch as a whole, or with several processes for 8.
        group: the processes that share each batch, see `numbacnn.distributed.init`; all then make the same step, and
            model, optimizer and average begin with what the first one has. None for this one alone.
        weight_average: of ``model``, updated after each step of the optimizer.
        metrics: updated with the predictions before each step; reset and read them when it suits.
        capture: whether to capture where that can be done; with False each step is plain.

    Raises:
        TypeError: ``loss`` is no `Loss`; at a call, no targets.
        ValueError: ``optimizer`` has parameters of another model, or ``weight_average`` is of one; fewer shards than
            there are processes; at a call, arrays of different numbers of samples that are to be cut,
            batches that are cut into another number of shards, and pieces of shards that are synchronised.
        RuntimeError: at a call, a `SyncBatchNorm` that some of the shards come to, but not all.

    Example:
        >>> import numpy as np
        >>> import numbacnn as nc
        >>> from numbacnn import nn, optim
        >>> with nc.use_backend("reference"):
        ...     model, loss = nn.Linear(2, 2), nn.CrossEntropyLoss()
        >>> step = TrainingStep(model, loss, optim.SGD(model.parameters(), lr=0.1))
        >>> x, y = np.eye(2, dtype=np.float32), np.array([1, 0])
        >>> step(x, y)
        >>> first, _, examples = step.totals()
        >>> step(x, y)
        >>> step.totals()[0] < first, examples, step.mode
        (True, 2, 'plain')
    """

    def __init__(
        self,
        model: Layer,
        loss: Loss,
        optimizer: Optimizer,
        *,
        clip_norm: float | None = None,
        accumulate: int = 1,
        micro_batch: int | None = None,
        shards: int | None = None,
        group: Ranks | None = None,
        weight_average: WeightAverage | None = None,
        metrics: Sequence[Metric] = (),
        capture: bool = True,
    ) -> None:
        if not isinstance(loss, Loss):
            raise TypeError(f"`loss` {loss!r} must be a Loss")
        if weight_average is not None and weight_average.model is not model:
            raise ValueError("`weight_average` is of another model")
        _check_parameters(optimizer, model, loss)
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.clip_norm = None if clip_norm is None else number("clip_norm", clip_norm, 0)
        self.accumulate = integer("accumulate", accumulate, 1)
        self.micro_batch = None if micro_batch is None else integer("micro_batch", micro_batch, 1)
        self.shards = checked_shards(shards, group)
        self.group = group
        self.weight_average = weight_average
        self.metrics = tuple(metrics)
        self.capture = flag("capture", capture)
        self._totals = MetricSums(model.backend)
        self._work = StagedWork("step", _may_update)
        self._accumulation = Accumulation(model.backend)
        self._sums = None if self.shards is None else ShardSums(self.shards, group)
        self._progress = BackwardProgress()
        self._last_work = self._work
        self._of_batch: list[StagedWork] = []
        """What has looked at the settings since the batch began."""
        if group is not None:
            share_state(group, model, optimizer, weight_average)

    def __repr__(self) -> str:
        return f"TrainingStep({type(self.model).__name__}, {self.loss!r}, {self.optimizer!r}, mode={self.mode!r})"

    @property
    def mode(self) -> str | None:
        """How the last call ran, ``"plain"`` or ``"captured"``; None before the first."""
        return self._last_work.mode

    def __call__(self, x: Any, y: Any = None) -> None:
        """Train on inputs ``x`` (n, ...) and targets ``y`` (n, ...), of NumPy or of the model's backend.

        Either may be a tuple: of the inputs of a model that takes several, of the targets of a loss that does. With
        ``shards`` they are the whole batch, in each process; or ``x`` alone is what the process has of it, as
        `DataLoader.sharded` gives it.
        """
        self._train_on(x, y, is_last=False)

    def _train_on(self, x: Any, y: Any, is_last: bool) -> None:
        """A call, and :meth:`flush` after it where it ``is_last``: then one that is all there is can be plain."""
        backend = self.model.backend
        if y is None and not isinstance(x, ShardedBatch):
            raise TypeError("`y` must be the targets of `x`, not None")
        if isinstance(x, ShardedBatch) and x.shards != self.shards:
            raise ValueError(f"`x` is a batch cut into {x.shards} shards, must be cut into `shards` {self.shards}")
        if backend is not self._totals.backend:
            self._totals = MetricSums(backend, *self._totals.read())
        if self._sums is not None:
            self._train_on_shards(x, y, is_last, self._sums)
            return
        pieces = pieces_of(x, y, self.micro_batch, backend)
        parts = self._parts()
        if len(pieces) == 1 and not self.pending and (is_last or self.accumulate == 1):
            self._last_work, stages = self._work, (self._compare, self._update)
            self._work(stages, _on(backend, pieces[0]), parts, backend, self.capture, lambda: self.clip_norm)
            return
        self._begin_batch(sets=False)
        for i, piece in enumerate(pieces):
            try:
                self._add_piece(piece, parts)
            except BaseException:
                if i:  # a part of this batch was added already
                    self._accumulation.batches = 0
                raise
        self._end_batch(is_last)

    def _train_on_shards(self, x: Any, y: Any, is_last: bool, sums: ShardSums) -> None:
        model, backend, parts = self.model, self.model.backend, self._parts()
        batch = x if isinstance(x, ShardedBatch) else shards_of(x, y, sums.shards, sums.own, backend)

        is_synchronized = synchronizes(model)
        if is_synchronized and self.micro_batch is not None:
            raise ValueError(
                f"`micro_batch` {self.micro_batch} must be None for a model with SyncBatchNorm layers and `shards` "
                f"{self.shards}: they normalise by the whole batch, so that none of it can be computed before the rest"
            )
        in_lockstep = is_synchronized and sums.shards > 1

        def compute(x: Any, y: Any, adds: bool, listener: Any) -> None:
            *before, last = pieces_of(x, y, self.micro_batch, backend)
            for on, gradient in self.optimizer.flat_gradients() if before else []:
                on.fill_zero(gradient)
            for piece in before:
                self._add_piece(piece, parts)
            with self._progress.told_to(listener):
                self._add_piece(last, parts, sets=not (before or adds))

        def compute_plainly(x: Any, y: Any) -> None:
            loss = self._compare(*_on(backend, (x, y)))
            self._set()
            self._accumulation.end_piece(self.loss, loss)

        if not batch.samples:  # a step of nothing would divide by nothing
            if is_last:
                self.flush()
            return
        self._begin_batch(sets=True)
        for metric in self.metrics:
            metric.prepare(backend)
        if in_lockstep:
            self._last_work.mode = "plain"
            self.loss.to(backend)
        try:
            state = ShardState(model, self.optimizer, self._accumulation, self._totals, self.metrics)
            if in_lockstep:
                sums.side_by_side(batch, compute_plainly, state)
            else:
                sums.of(batch, compute, state, in_pairs=self.micro_batch is None)
        except BaseException:
            self._accumulation.batches = 0
            raise
        self._end_batch(is_last)

    def _parts(self) -> list[Any]:
        average = [] if self.weight_average is None else [self.weight_average]
        return [self.model, self.loss, self.optimizer, *self.metrics, *average]

    def _add_piece(self, piece: tuple[Any, Any], parts: list[Any], sets: bool = False) -> None:
        """Add the gradients of a piece to what there is or, where it ``sets`` them, have no others."""
        backend, accumulation = self.model.backend, self._accumulation
        self._last_work = work = accumulation.first_work if sets else accumulation.work
        stages = self._compare, self._set if sets else self._add
        unchanged = any(work is other for other in self._of_batch)
        loss = work(stages, _on(backend, piece), parts, backend, self.capture, self._overlaps, unchanged)
        self._of_batch.append(work)
        accumulation.end_piece(self.loss, loss)

    def _begin_batch(self, sets: bool) -> None:
        self._of_batch.clear()
        self._accumulation.begin_batch(self.model, self.optimizer, sets)

    def _end_batch(self, is_last: bool) -> None:
        self._accumulation.batches += 1
        if is_last or self.pending >= self.accumulate:
            self.flush()

    @property
    def pending(self) -> int:
        """How many batches there were since the optimizer's last step; their gradients are in no checkpoint."""
        return self._accumulation.batches

    def flush(self) -> None:
        """Take the step of the optimizer now, for the batches that are :attr:`pending`, if there are any."""
        if self._accumulation.ends(self.model, self.optimizer):
            average = [] if self.weight_average is None else [self.weight_average]
            others, is_captured = lambda: (self.clip_norm, self.loss.reduction), self.mode == "captured"
            parts = [self.model, self.optimizer, *average]
            self._accumulation.end_work([self._take_mean_step], [], parts, self.model.backend, is_captured, others)

    def totals(self) -> tuple[float, float, int]:
        """Loss before the update, summed over the samples, how many were classified correctly, and how many there were.

        Of all calls since the last time; waits until they are done. The second is NaN where targets are neither the
        numbers of classes (n,), with predictions (n, classes), nor, for `CrossEntropyLoss`, their probabilities (n,
        classes), of which the largest is the class.
        """
        return self._totals.read()

    def _compare(self, x: Any, y: Any) -> Array:
        remember_shapes(self.model, as_tuple(x))
        with keeping("own"), keeping_for(self.model, False):
            prediction = self.model.forward(*as_tuple(x))
        for metric in self.metrics:
            metric.update(prediction, y)
        self._accumulation.samples = int(as_tuple(y)[0].shape[0])
        return self._totals.add(self.loss, prediction, y)

    def _update(self) -> None:
        set_gradients(self.model, self.loss, [*self.model.parameters(), *self.optimizer.parameters])
        self._take_step()

    def _overlaps(self) -> bool:
        """Whether somebody wants to know how far a backward pass is, for which a launch returns to Python."""
        return self._sums is not None and self._sums.overlaps

    def _add(self) -> None:
        with self._progress.watched(self.model.backend) if self._overlaps() else nullcontext():
            self._accumulation.add(self.model, self.loss)

    def _set(self) -> None:
        with _set_anew([*self.model.parameters(), *self.optimizer.parameters]):
            self._add()

    def _take_mean_step(self) -> None:
        self._accumulation.divide(self.model, self.loss, self.optimizer)
        self._take_step()

    def _take_step(self) -> None:
        if self.clip_norm is not None:
            optim.clip_grad_norm(self.optimizer, self.clip_norm)
        self.optimizer.apply()
        if self.weight_average is not None:
            self.weight_average.apply()


def checked_shards(shards: int | None, group: Ranks | None) -> int | None:
    """The argument ``shards`` of a step that the processes of ``group`` share; ValueError if there are too few."""
    size = 1 if group is None else group.size
    if shards is None and group is not None:
        shards = default_shards(size)
    if shards is None:
        return None
    shards = integer("shards", shards, 1, MAX_SHARDS)
    if shards < size:
        raise ValueError(f"`shards` {shards} must be at least {size}, the size of `group`: one for each process")
    return shards


def _check_parameters(optimizer: Optimizer, model: Layer, loss: Loss) -> None:
    own = [*model.parameters(), *(value for value in vars(loss).values() if isinstance(value, Parameter))]
    trained = {id(parameter) for parameter in own}
    foreign = [parameter for parameter in optimizer.parameters if id(parameter) not in trained]
    if foreign:
        raise ValueError(
            f"`optimizer` must be made of parameters of `model`, all or some of `model.parameters()`, but "
            f"{len(foreign)} of its {len(optimizer.parameters)} are not, the first of them of shape {foreign[0].shape}"
        )


def _on(backend: Backend, arrays: Iterable[Any]) -> list[Any]:
    return [on_backend(one, backend) for one in arrays]


def _may_update(backend: Backend, loss: Array) -> bool:
    return backend.asynchronous or bool(np.isfinite(backend.to_numpy(loss)))


def set_gradients(model: Layer, loss: Loss, parameters: Iterable[Parameter]) -> None:
    """The gradients of the parameters are those of the loss that was computed last, and of nothing before it.

    Those of what is frozen stay as they were.
    """
    with _set_anew(parameters):
        add_gradients(model, loss, loss.backward())


@contextmanager
def _set_anew(parameters: Iterable[Parameter]) -> Iterator[None]:
    """What the block adds to gradients that are trained is all that is in them afterwards."""
    parameters = [parameter for parameter in dict.fromkeys(parameters) if parameter.requires_grad]
    for parameter in parameters:
        parameter.clear_grad()  # in place, where a launch will look for it
    yield
    for parameter in parameters:
        parameter.settle_grad()
