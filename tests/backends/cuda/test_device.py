"""What the backend asks of the driver, against a driver that has no GPU: see stub_driver.c."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_the_backend_is_available_and_runs_everything_in_its_own_stream(run) -> None:
    log = run(
        """
        assert backends.available()["cuda"] is None
        y = cuda().relu(cuda().asarray(np.ones(1000, np.float32)))
        assert y.shape == (1000,) and cuda().device_name() == "cuda:0"
        x = cuda().asarray(np.arange(6.0))
        """
    )
    assert "stream 1" in log  # not blocking: nothing waits for the default stream, nor it for us
    (launch,) = [line.split() for line in log if line.startswith("launch")]
    assert launch[1:7] == ["1", "1", "1", "256", "1", "1"]
    assert launch[7] == "0x2000"
    assert int(launch[8], 16) == 1000


@pytest.mark.parametrize(("devices", "number"), [(1, 0), (2, 1), (4, 3), (8, 3)])
def test_the_gpu_of_a_number_is_used_counted_around(run, devices: int, number: int) -> None:
    """As each of several processes of a machine does it."""
    run(
        f"""
        from numbacnn.backends import cuda_support
        cuda_support.choose_device(3)
        assert backends.available()["cuda"] is None
        x = cuda().asarray(np.ones(3))
        assert cuda().device_name() == "cuda:{number}" and x.__dlpack_device__() == (2, {number})
        assert cuda().asarray(Foreign(x)).shape == (3,)
        """,
        devices=devices,
        ordinal=number,
    )


def test_what_is_asked_for_is_waited_for_by_questions(run) -> None:
    """As by a process that may have to wait for others."""
    log = run(
        """
        from numbacnn.backends.cuda import memory
        cuda().zeros((3,), np.float32)
        gpu = memory.device()
        is_done = gpu.mark()
        assert [is_done(), is_done()] == [False, True]
        del is_done
        assert gpu.uuid == "a0" * 16
        replace_in_driver(cuEventQuery=lambda event: (gpu._driver.CUresult(719),))
        try:
            gpu.mark()()
        except RuntimeError as error:
            assert "CUDA_ERROR_LAUNCH_FAILED" in str(error)
        else:
            raise AssertionError
        """
    )
    event = next(line.split()[2] for line in log if line.startswith("event 0x2000"))
    assert f"forget {event}" in log
    assert not [line for line in log if line.startswith("synchronize")]


def test_copies_arrive_whole_however_large(run) -> None:
    log = run(
        """
        for size in (0, 1, 5_000_000):
            x = np.arange(size, dtype=np.float64)
            array = cuda().asarray(x)
            np.testing.assert_array_equal(cuda().to_numpy(array), x)
            copied = cuda().copy(array)
            np.testing.assert_array_equal(np.asarray(copied), x)
            cuda().assign(copied, cuda().zeros((size,), np.float64))
            assert not np.asarray(copied).any()
        turned = cuda().asarray(np.arange(12).reshape(3, 4).T)
        np.testing.assert_array_equal(np.asarray(turned[1:3]), [[1, 5, 9], [2, 6, 10]])
        assert float(cuda().asarray(np.array(2.5))) == 2.5
        assert cuda().free_memory() == 1 << 30
        """
    )
    uploads = [int(line.split()[1]) for line in log if line.startswith("upload")]
    assert max(uploads) == 8 << 20  # through pinned buffers of that size


def test_memory_is_used_again_and_comes_in_slabs(run) -> None:
    log = run(
        """
        x = cuda().asarray(np.ones((256, 1, 28, 28), np.float32))
        for _ in range(50):
            y = cuda().relu(cuda().relu(x))
        try:
            cuda().empty((1 << 31,), np.int8)
        except ValueError as error:
            assert "2,147,483,648 elements" in str(error)
        try:
            [cuda().empty(((1 << 31) - 1, ), np.float64) for _ in range(2)]
            from numbacnn.backends.cuda import memory
            memory.device().allocate(1 << 41)
        except MemoryError as error:
            assert "no 2,199,023,255,552 bytes left" in str(error)
        else:
            raise AssertionError
        """
    )
    assert next(line for line in log if line.startswith("allocate")) == f"allocate {1 << 28}"
    assert len([line for line in log if line.startswith("allocate")]) == 3


def test_a_capture_is_one_launch_and_keeps_its_memory(run) -> None:
    log = run(
        """
        x = cuda().asarray(np.ones(1000, np.float32))
        cuda().relu(x)
        kept = []
        (replay,) = cuda().capture(lambda: kept.append(cuda().relu(cuda().sigmoid(x))))
        """
        # sigmoid is compiled while recording, which the driver allows
        """
        place = kept[0].place
        replay()
        replay()
        assert cuda().relu(x).place != place
        del replay
        """
    )
    streams = [line.split()[7] for line in log if line.startswith("launch")]
    assert streams == ["0x2000", "0x2001", "0x2001", "0x2000"]  # a capture has a stream of its own
    assert "leave 0x2001" in log
    kinds = [line.split()[0] for line in log if line.split()[0] in {"begin", "end", "instantiate", "launch", "replay"}]
    assert kinds == ["launch", "begin", "launch", "launch", "end", "instantiate", "replay", "replay", "launch"]
    assert "begin 2" in log  # relaxed: other threads may use the device meanwhile
    assert "destroy" in log


@pytest.mark.parametrize("graph", [0, 801])
def test_what_cannot_be_captured_is_said(run, graph: int) -> None:
    reason = "CUDA_ERROR_NOT_SUPPORTED" if graph else "waiting for the device cannot be part of a captured step"
    work = "cuda().relu(x)" if graph else "float(x[:1].reshape(()))"
    run(
        f"""
        x = cuda().asarray(np.ones(10, np.float32))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert cuda().capture(lambda: ({work}, None)[1]) is None
        assert {reason!r} in str(caught[0].message), caught[0].message
        np.testing.assert_array_equal(np.asarray(x), np.ones(10))
        """,
        graph=graph,
    )


def test_what_a_signal_handler_uploads_leaves_other_uploads_alone(run) -> None:
    run(
        """
        x, other = np.arange(2_000_000.0), np.full(3_000_000, -1.0)
        cuda().asarray(other)  # which makes all buffers
        nested = []

        def copy(*arguments):
            if not nested:
                nested.append(None)
                nested.append(cuda().asarray(other))
            return real.cuMemcpyHtoDAsync(*arguments)

        real = replace_in_driver(cuMemcpyHtoDAsync=copy)
        np.testing.assert_array_equal(np.asarray(cuda().asarray(x)), x)
        np.testing.assert_array_equal(np.asarray(nested[1]), other)
        """
    )


@pytest.mark.parametrize("used", ["available", "used", "amid"])
def test_a_forked_child_says_at_once_that_it_cannot_use_the_gpu(run, used: str) -> None:
    run(
        f"""
        import os, signal, threading
        assert backends.available()["cuda"] is None
        uses = [lambda: cuda().zeros((3,), np.float32), lambda: cuda().asarray([1.0]), lambda: cuda().synchronize()]
        inside, go = threading.Event(), threading.Event()
        if {used!r} != "available":
            x = cuda().asarray(np.ones(3))
            y = cuda().relu(x)
            (launch,) = cuda().capture(lambda: cuda().relu(x))
            uses += [launch, lambda: cuda().relu(x), lambda: np.asarray(x), lambda: x.__cuda_array_interface__]
        if {used!r} == "amid":
            from numbacnn.backends.cuda.runtime import device_array, kernel
            def hold():
                with device_array._lock, kernel._compiler_lock, device_array.device()._staging_lock:
                    inside.set()
                    go.wait(60)
            threading.Thread(target=hold).start()
            inside.wait(60)
            uses.append(lambda: cuda().tanh(x))
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if not child:
            signal.alarm(60)
            right = 0
            for use in uses:
                try:
                    use()
                except RuntimeError as error:
                    right += "CUDA cannot be used after fork" in str(error)
            if {used!r} != "available":
                del x, y, launch
            os._exit(len(uses) - right)
        go.set()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert np.asarray(cuda().asarray(np.ones(3))).sum() == 3
        """
    )


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"version": 12040}, "the NVIDIA driver knows CUDA 12.4, 13.0 is needed: update it"),
        ({"devices": 0}, "the NVIDIA driver finds no GPU: use the backend cpu"),
        ({"init": 100}, "the NVIDIA driver cannot be used (CUDA_ERROR_NO_DEVICE)"),
        ({"major": 7}, "the GPU has compute capability (7, 0), (8, 0) is needed"),
    ],
)
def test_reasons_of_the_driver(run, settings: dict[str, int], reason: str) -> None:
    run(
        f"""
        found = backends.available()["cuda"]
        assert found.startswith({reason!r}), found
        """,
        **settings,
    )


def test_reasons_of_the_packages(run) -> None:
    run(
        """
        import sys
        import numba  # which looks at NumPy's version, too, when it is imported
        np.__version__ = "2.6.0"
        assert 'pip install "numpy<2.6"' in backends.available()["cuda"]
        np.__version__ = "2.4.0"
        sys.modules["numba_cuda"] = None
        assert 'pip install "numbacnn[cuda]"' in backends.available()["cuda"]
        """
    )


def test_numpy_has_one_bound() -> None:
    texts = [
        (ROOT / file).read_text(encoding="utf-8") for file in ("pyproject.toml", "numbacnn/backends/cuda_support.py")
    ]
    bounds = [re.findall(r'numpy[^"]*<([\d.]+)', text) for text in texts]
    assert all(bounds) and len({bound for found in bounds for bound in found}) == 1, bounds


def test_kernels_compile_for_a_numpy_without_what_numba_cuda_refers_to(run) -> None:
    run(
        """
        vars(np).pop("row_stack", None)
        cuda()
        from numbacnn.backends.cuda import memory
        ptx, entry = memory._cast.compile((np.dtype(np.float32), np.dtype(np.float64)), (8, 0))
        assert entry in ptx and not hasattr(np, "row_stack")
        """
    )


def test_a_damaged_cache_means_compiling_again(run, library: Path) -> None:
    code = "cuda().tanh(cuda().asarray(np.ones(4, np.float32)))"
    run(code)
    files = list((library.parent / "cache").glob("cuda-*/*.cubin"))
    assert files
    for file in files:
        file.write_bytes(b"entry\\nnonsense")
    run(code)
    assert any(file.stat().st_size > 1000 for file in files)
