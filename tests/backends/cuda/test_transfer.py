"""Arrays of other libraries on the GPU, against a driver that has none: see stub_driver.c."""

from __future__ import annotations

import pytest


def test_arrays_go_to_other_libraries_and_come_from_them_without_a_copy(run) -> None:
    log = run(
        """
        x = cuda().asarray(np.arange(6.0).reshape(2, 3))

        for foreign in (Foreign(x), Foreign(x, stream=0x7000), Capsule(x)):
            array = cuda().asarray(foreign)
            assert array.place == x.place and array.shape == (2, 3) and array.dtype == np.float64
        turned = Foreign(x, shape=(3, 2), strides=(8, 24))
        assert cuda().asarray(turned).place != x.place
        from numbacnn import ops
        y = ops.relu(Foreign(x), backend="cuda")
        assert y.shape == (2, 3)
        cuda().synchronize()
        """
    )
    recorded = dict(line.split()[1:] for line in log if line.startswith("event"))
    waited = [line.split()[2] for line in log if line.startswith("wait 0x2000")]
    assert {recorded["0x1"], recorded["0x7000"]} <= {*waited}  # 0x1 is the legacy default stream, of other libraries


def test_arrays_go_to_nccl_without_waiting(run) -> None:
    log = run(
        """
        from cuda.core.utils import StridedMemoryView
        from numbacnn.distributed.nccl import _Buffer
        x = cuda().asarray(np.arange(6.0, dtype=np.float32).reshape(2, 3))
        view = StridedMemoryView.from_any_interface(_Buffer(x[1:]), stream_ptr=-1)  # as nccl4py does
        assert (view.ptr, view.shape, view.dtype, view.device_id) == (x.place + 12, (3,), np.dtype(np.float32), 0)
        """
    )
    assert not [line for line in log if line.startswith("synchronize")]


@pytest.mark.parametrize(
    ("foreign", "message", "ordinal"),
    [
        ("Foreign(x)", "`x` is on cuda:1, the cuda backend takes arrays on cuda:0", 1),
        ("Capsule(x, 1)", "`x` is on cuda:1, the cuda backend takes arrays on cuda:0", 0),
        ("Foreign(x, shape=(1 << 16, 1 << 15))", "(65536, 32768) has 2,147,483,648 elements", 0),
        ("Foreign(x, shape=(1 << 31,), strides=(0,))", "(2147483648,) has 2,147,483,648 elements", 0),
        ("Foreign(x, mask=x)", "`x` has a mask", 0),
    ],
)
def test_foreign_arrays_that_cannot_be_used_are_refused(run, foreign: str, message: str, ordinal: int) -> None:
    run(
        f"""
        x = cuda().asarray(np.arange(6.0))
        try:
            cuda().asarray({foreign})
        except ValueError as error:
            assert {message!r} in str(error), error
        else:
            raise AssertionError
        empty = cuda().asarray(Foreign(x, shape=(0, 3), data=(0, False)))
        assert empty.shape == (0, 3)
        """,
        ordinal=ordinal,
    )


def test_threads_that_adopt_arrays_wait_for_their_own_streams(run) -> None:
    log = run(
        """
        import threading
        x = cuda().asarray(np.arange(6.0))
        meeting = threading.Barrier(2, timeout=60)

        def record(event, stream):
            answer = real.cuEventRecord(event, stream)
            meeting.wait()
            return answer

        real = replace_in_driver(cuEventRecord=record)
        foreign = [Foreign(x, stream=0x7000), Foreign(x, stream=0x8000)]
        threads = [threading.Thread(target=cuda().asarray, args=(array,)) for array in foreign]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not meeting.broken
        """
    )
    recorded = [line.split()[2] for line in log if line.startswith("event 0x7000") or line.startswith("event 0x8000")]
    waited = [line.split()[2] for line in log if line.startswith("wait 0x2000")]
    assert len({*recorded}) == 2
    assert sorted(waited) == sorted(recorded)


def test_adopted_arrays_are_let_go_of_outside_of_finalizers_and_captures(run) -> None:
    log = run(
        """
        import gc, sys, weakref
        raised, alive = [], weakref.WeakSet()
        sys.unraisablehook = raised.append
        x = cuda().asarray(np.ones(6))

        def work():
            for _ in range(100):
                foreign = Foreign(x)
                alive.add(foreign)
                cuda().relu(cuda().asarray(foreign))

        interface = x.__cuda_array_interface__
        memory_of_x = type("X", (), {"__cuda_array_interface__": interface})
        x_kept, x = x, memory_of_x  # whose address needs no waiting
        work()
        assert len(alive) <= 65, len(alive)
        cuda().synchronize()
        assert len(alive) <= 1, len(alive)
        (launch,) = cuda().capture(work)
        assert len(alive) == 100, len(alive)
        launch()
        del launch
        assert len(alive) == 100, len(alive)
        cuda().synchronize()
        assert not alive and not raised, raised
        """
    )
    begin, end = (log.index(next(line for line in log if line.startswith(kind))) for kind in ("begin", "end"))
    assert not any(line.startswith("synchronize") for line in log[begin:end])
