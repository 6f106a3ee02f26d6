"""Arrays on the device, the arena they are taken from, captures, and the tables of a convolution."""

from __future__ import annotations

import copy
import gc
import itertools
import os
import pickle
import signal
import threading
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbacnn import backends, ops
from numbacnn.backends.geometry import Conv2dGeometry
from tests.cases import CONV2D_CASES
from tests.strategies import CHECKS, SIMULATED

pytestmark = pytest.mark.skipif(backends.available()["cuda"] is not None, reason="neither a GPU nor the simulator")

if backends.available()["cuda"] is None:
    from numbacnn.backends import cuda as cuda_backend
    from numbacnn.backends.cuda import memory
    from numbacnn.backends.cuda.block import gemm_plan
    from numbacnn.backends.cuda.convolution import tables
    from numbacnn.backends.cuda.runtime import device_array
    from numbacnn.backends.cuda.runtime import kernel as kernels
    from numbacnn.backends.cuda.runtime.kernel import mapping

    cuda: Any = cuda_backend

    @mapping
    def doubled(i, x):  # type: ignore[no-untyped-def]
        return x[i] + x[i]


def place_of(x: Any) -> tuple[int, int]:
    """Slab and start; a slab is an address, or in the simulator an array."""
    return id(x.owner.slab), x.owner.start


def test_an_array_has_a_shape_and_goes_to_numpy_and_back():
    x = cuda.asarray(np.arange(24.0).reshape(2, 3, 4))
    assert (x.shape, x.ndim, x.size, x.nbytes, len(x), x.dtype) == ((2, 3, 4), 3, 24, 192, 2, np.float64)
    assert x.reshape((6, -1)).shape == (6, 4) and x.reshape(24).shape == (24,) and x.reshape(2, 12).shape == (2, 12)
    np.testing.assert_array_equal(np.asarray(x.reshape(-1)[6:10]), [6, 7, 8, 9])
    np.testing.assert_array_equal(np.asarray(x[1:]), np.arange(12.0, 24).reshape(1, 3, 4))
    np.testing.assert_array_equal(np.array(x, np.int32)[0, 0], [0, 1, 2, 3])
    assert float(x[1:].reshape(12)[:1].reshape(())) == 12.0
    assert int(cuda.asarray(np.array(3))) == 3 and bool(cuda.asarray(np.array(1.0)))
    assert repr(cuda.asarray(np.ones(2, np.float32))) == "DeviceArray([1., 1.], dtype=float32)"


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_and_pickles_are_arrays_of_their_own(copied):
    x = cuda.asarray(np.arange(3.0))
    y = copied(x[1:])
    cuda.fill_zero(x)
    np.testing.assert_array_equal(np.asarray(y), [1, 2])
    del x
    gc.collect()
    cuda.assign(y, cuda.asarray(np.array([5.0, 6.0])))
    np.testing.assert_array_equal(np.asarray(y), [5, 6])


def test_slices_and_reshapes_share_memory():
    x = cuda.zeros((4, 3), np.float32)
    cuda.assign(x[1:3], cuda.asarray(np.ones((2, 3), np.float32)))
    cuda.assign(x.reshape(12)[:1], cuda.asarray(np.full(1, 5, np.float32)))
    np.testing.assert_array_equal(np.asarray(x), [[5, 0, 0], [1, 1, 1], [1, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda x: x.reshape(5, 5), ValueError, "must hold the 24 elements"),
        (lambda x: x.reshape(-1, 0), ValueError, "must hold the 24 elements"),
        (lambda x: x[0], TypeError, "indexed by slices of its first axis only, not by 0"),
        (lambda x: x[::2], ValueError, "must have the step 1, not 2"),
        (lambda x: np.array(x, copy=False), ValueError, "without a copy"),
        (lambda x: len(x.reshape(24)[:1].reshape(())), TypeError, "has no length"),
        (lambda x: cuda.asarray(x, np.bool_), TypeError, "`dtype` bool"),
        (lambda x: cuda.empty((1 << 16, 1 << 15), np.int8), ValueError, "has 2,147,483,648 elements"),
        (lambda x: cuda.relu(np.ones(3)), TypeError, "takes arrays of the cuda backend and numbers, not ndarray"),
        (lambda x: doubled(3, x, [1.0]), TypeError, "takes arrays of the cuda backend and numbers, not list"),
    ],
)
def test_what_cannot_be_done_is_said(use, error, message):
    with pytest.raises(error, match=message):
        use(cuda.asarray(np.arange(24.0).reshape(4, 6)))


@pytest.mark.parametrize("source", [np.bool_, np.uint8, np.int32, np.int64, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("target", [np.float32, np.float64, np.int64, np.int32])
def test_conversions(source, target):
    x = np.array([0, 1, 2, 100]).astype(source)
    converted = cuda.asarray(cuda.asarray(x), target)
    assert converted.dtype == target
    np.testing.assert_array_equal(np.asarray(converted), x.astype(target))


def test_ops_take_arrays_of_any_dtype_that_are_on_the_device():
    y = ops.relu(cuda.asarray(np.array([-1, 2], np.int8)), backend="cuda")
    assert y.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(y), [0, 2])


def test_memory_is_used_again():
    x = cuda.empty((1000,), np.float32)
    place, before = x.owner.start, device_array.arena().bytes
    slab = x.owner.slab
    del x
    gc.collect()
    for _ in range(100):
        y = cuda.empty((1000,), np.float32)
        assert y.owner.slab is slab and y.owner.start == place
        del y
    assert device_array.arena().bytes == before


def test_a_signal_handler_amid_an_allocation_takes_memory_of_its_own():
    arena = device_array.Arena()
    first = arena.take(1000)
    with device_array._lock:  # as the interrupted thread does, which has found out what comes next
        other = arena.take(1000)
    assert other.slab is not first.slab
    assert arena.take(1000).start == first.start + first.size


def test_a_signal_handler_may_launch_what_the_interrupted_thread_loads():
    results = []

    def interrupted() -> None:
        with doubled._lock, kernels._compiler_lock:
            results.append(cuda.empty((3,), np.float32))
            doubled(3, results[-1], cuda.asarray(np.ones(3, np.float32)))

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    np.testing.assert_array_equal(np.asarray(results[-1]), np.full(3, 2))


@pytest.mark.skipif(not (SIMULATED and hasattr(os, "fork")), reason="a GPU cannot be used after fork")
def test_a_forked_child_finds_the_locks_free():
    inside, go = threading.Event(), threading.Event()

    def hold() -> None:
        with device_array._lock, doubled._lock, kernels._compiler_lock, device_array.device()._lock:
            inside.set()
            go.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork while there are other threads
        child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        y = cuda.empty((1 << 18,), np.float64)[:3]
        doubled(3, y, cuda.asarray(np.ones(3)))
        os._exit(0 if (np.asarray(y) == 2).all() else 1)
    go.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@CHECKS
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=20))
def test_pieces_of_the_arena_do_not_overlap(sizes):
    arena = device_array.Arena()
    blocks = [arena.take(size) for size in sizes]
    for block, size in zip(blocks, sizes, strict=True):
        assert block.size >= size and block.start % device_array.GRAIN == 0
        assert block.size <= max(device_array.GRAIN, size + size // 8 + device_array.GRAIN)
    for one, other in itertools.combinations(blocks, 2):
        assert (
            one.slab is not other.slab or one.start + one.size <= other.start or other.start + other.size <= one.start
        )


def test_a_capture_repeats_its_work_and_keeps_its_memory():
    x = cuda.asarray(np.ones(5, np.float32))
    before = cuda.asarray(np.full(5, 7, np.float32))
    place = place_of(before)
    kept: list[Any] = []

    def work() -> None:
        nonlocal before
        y = cuda.relu(before)
        before = None  # let go of while recording: the record still reads it
        cuda.accumulate(x, y)
        kept.append(y)

    (replay,) = cuda.capture(work)
    np.testing.assert_array_equal(np.asarray(x), np.ones(5))
    others = [cuda.asarray(np.full(5, -1, np.float32)) for _ in range(20)]
    assert not {place, place_of(kept[0])} & {place_of(other) for other in others}
    for expected in (8, 15):
        replay()
        np.testing.assert_array_equal(np.asarray(x), np.full(5, expected, np.float32))
    np.testing.assert_array_equal(np.asarray(kept[0]), np.full(5, 7))


def test_a_capture_that_fails_says_why_and_leaves_things_working():
    x = cuda.asarray(np.ones(5, np.float32))
    (replay,) = cuda.capture(lambda: cuda.relu(x))
    for work in (lambda: np.asarray(x), lambda: cuda.asarray(np.ones(3)), lambda: replay()):
        with pytest.warns(RuntimeWarning, match="it cannot be captured: "):
            assert cuda.capture(work) is None
    np.testing.assert_array_equal(np.asarray(cuda.add([x, x])), np.full(5, 2))


@pytest.mark.parametrize("g", CONV2D_CASES, ids=lambda g: g.descriptor)
def test_tables_find_what_each_tap_sees(g: Conv2dGeometry) -> None:
    """Position plus tap is the element of the definition, for the forward pass."""
    positions = np.asarray(tables.positions(g))[: g.n * g.oh * g.ow]
    taps = np.asarray(tables.taps(g))[: g.taps]
    seen = positions[:, None] + taps
    row, column = ((seen >> 16) & 0xFFFF) - g.pt, (seen & 0xFFFF) - g.pl
    n, q, r = np.unravel_index(np.arange(len(positions)), (max(g.n, 1), g.oh, g.ow)) if g.n else np.zeros((3, 0), int)
    c, u, v = np.unravel_index(np.arange(g.taps), (g.c // g.groups, g.kh, g.kw))
    np.testing.assert_array_equal(row, (q * g.sh)[:, None] + u * g.dh - g.pt)
    np.testing.assert_array_equal(column, (r * g.sw)[:, None] + v * g.dw - g.pl)
    offset = (seen >> 32) - (g.pt * g.w + g.pl)
    np.testing.assert_array_equal(offset, (n[:, None] * g.c + c) * g.h * g.w + row * g.w + column)


@pytest.mark.parametrize("g", CONV2D_CASES, ids=lambda g: g.descriptor)
def test_phases_meet_every_pixel_and_every_product_once(g: Conv2dGeometry) -> None:
    pixels: list[int] = []
    products = 0
    for phase in tables.phases(g):
        (top, down, rows), (left, across, columns) = phase.rows, phase.columns
        pixels += [
            (top + i * down) * g.w + left + j * across for i, j in itertools.product(range(rows), range(columns))
        ]
        for i, j in itertools.product(range(rows), range(columns)):
            for u, d in zip(phase.kernel_rows, phase.row_shifts, strict=True):
                for v, e in zip(phase.kernel_columns, phase.column_shifts, strict=True):
                    q, r = i + d, j + e
                    if 0 <= q < g.oh and 0 <= r < g.ow:
                        assert q * g.sh + u * g.dh - g.pt == top + i * down
                        assert r * g.sw + v * g.dw - g.pl == left + j * across
                        products += 1
    assert sorted(pixels) == list(range(g.h * g.w))
    inside = [
        sum(0 <= o * s + t * d - before < size for o in range(outputs) for t in range(kernel))
        for size, outputs, kernel, s, d, before in (
            (g.h, g.oh, g.kh, g.sh, g.dh, g.pt),
            (g.w, g.ow, g.kw, g.sw, g.dw, g.pl),
        )
    ]
    assert products == inside[0] * inside[1]


@CHECKS
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 1 << 22), st.integers(1, 64))
def test_parts_cover_a_long_sum(m: int, n: int, k: int, batch: int) -> None:
    _, splits, part = gemm_plan.plan_of(m, n, k, batch, np.dtype(np.float32))
    assert splits == 1 or part % gemm_plan.PART_GRAIN == 0
    assert (splits - 1) * part < max(k, 1) <= splits * part
    assert gemm_plan.plan_of(m, n, k, batch, np.dtype(np.float32), split=False)[1:] == (1, max(k, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiles_suit_their_threads(dtype: Any) -> None:
    for tile in gemm_plan.tiles(np.dtype(dtype)):
        assert tile.threads % tile.bn == 0  # a thread stays in its column of B
        assert tile.threads % tile.bk == 0  # and in its step of A
        assert tile.bm * tile.bk % tile.threads == tile.bn * tile.bk % tile.threads == tile.bk % 2 == 0
        assert tile.bk <= gemm_plan.LONGEST_STEP


def test_foreign_strides_are_told_from_contiguous_ones():
    assert memory._contiguous((2, 3), (12, 4), 4)
    assert memory._contiguous((2, 1, 3), (12, 99, 4), 4)
    assert memory._contiguous((0, 3), (1, 1), 4)
    assert not memory._contiguous((3, 2), (4, 12), 4)
