"""One step of training: from a batch to updated parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import ops
from .metrics import summed_loss

if TYPE_CHECKING:
    from ..nn import Layer, Loss
    from ..optim import Optimizer

__all__ = ["TrainingStep"]


class TrainingStep:
    """Forward, loss, backward and update of one batch: ``step(x, y) -> (loss_sum, correct)``.

    When it returns, the update is done (not only asked for), so that a clock around it measures the work.

    Example:
        >>> import numpy as np
        >>> import numbacnn as nc
        >>> from numbacnn import nn, optim
        >>> with nc.use_backend("reference"):
        ...     model = nn.Linear(2, 2)
        >>> step = TrainingStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
        >>> x, y = np.eye(2, dtype=np.float32), np.array([1, 0])
        >>> first, _ = step(x, y)
        >>> second, _ = step(x, y)
        >>> second < first
        True
    """

    def __init__(self, model: Layer, loss: Loss, optimizer: Optimizer) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer

    def __call__(self, x: Any, y: Any) -> tuple[float, int]:
        """Train on inputs ``x`` (n, ...) and labels ``y`` (n,).

        Returns the loss before the update, summed over the batch, and how many samples were classified correctly.
        """
        backend = self.model.backend
        x, y = backend.asarray(x), backend.asarray(y)
        logits = self.model.forward(x)
        loss = summed_loss(self.loss, logits, y)
        self.model.zero_grad()
        self.model.backward(self.loss.backward(), input_gradient=False)
        self.optimizer.step()
        correct = int(backend.to_numpy(ops.count_correct(logits, y, backend=backend)))
        backend.synchronize()
        return loss, correct
