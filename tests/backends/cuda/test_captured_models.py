"""A training step of every architecture is one launch of a CUDA graph, beside a driver that has no GPU."""

from __future__ import annotations


def test_a_step_of_every_model_is_one_launch(run) -> None:
    """Nothing in it asks for the host: a copy, a number that is waited for, memory that is not there to stay."""
    run(
        """
        import os
        import numbacnn as nc
        from numbacnn import nn, optim
        from numbacnn.backends.cuda.runtime import kernel
        from numbacnn.backends.cuda.runtime.device_array import device
        from numbacnn.training import TrainingStep
        from tests.models.variants import ALL, DCGANS, UNETS
        os.environ.pop("STUB_LOG")  # it would take seconds
        kernel.Kernel._machine_code = lambda self, key, device: 0x7000
        warnings.simplefilter("error")
        for name, (build, shape) in {**ALL, **UNETS, **DCGANS}.items():
            with nc.use_backend("cuda"):
                model = build().train()
                classifies = not name.startswith(("unet", "dcgan"))
                loss = nn.CrossEntropyLoss() if classifies else nn.MSELoss()
            x, y = np.zeros(shape, np.float32), np.zeros(model.output_shape(shape), np.float32)
            step = TrainingStep(model, loss, optim.SGD(model.parameters(), 0.1, momentum=0.9))
            arrays = cuda().asarray(x), cuda().asarray(np.zeros(len(x), np.int64) if classifies else y)
            launches = []
            for _ in range(4):
                before = device().launches
                step(*arrays)
                launches.append(device().launches - before)
            plain, captured, *replayed = launches
            assert step.mode == "captured" and captured == plain + 1 and replayed == [1, 1], (name, launches)
        """
    )
