"""What PyTorch saves is read without it; runs where it is installed."""

from __future__ import annotations

import collections
import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numbacnn import nn as ours
from numbacnn.io import CheckpointError, load
from numbacnn.io.arrays import read_contents
from tests.io import torch_bytes as tb

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]  # PyTorch's own
nn = torch.nn

FORMATS = {
    "zip": {},
    "zip, protocol 4": {"pickle_protocol": 4},
    "zip without byte order": {"_disable_byteorder_record": True},
    "stream": {"_use_new_zipfile_serialization": False},
    "stream, protocol 4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
}


@pytest.fixture(params=FORMATS)
def save(request: pytest.FixtureRequest, tmp_path: Path):
    """Writes an object to a file by `torch.save`, in one of its formats; gives the path."""

    def write(content: Any) -> Path:
        torch.save(content, tmp_path / "saved.pth", **FORMATS[request.param])
        return tmp_path / "saved.pth"

    return write


def models() -> tuple[Any, ours.Sequential]:
    torch.manual_seed(0)
    theirs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    theirs(torch.randn(3, 3, 4, 4))
    same = ours.Sequential(ours.Conv2d(3, 4, 3), ours.BatchNorm2d(4), ours.ReLU(), ours.Flatten(), ours.Linear(16, 2))
    return theirs, same


def assert_same(model: ours.Layer, state: dict[str, Any]) -> None:
    found = model.state_dict()
    assert list(found) == list(state)
    for name, array in found.items():
        np.testing.assert_array_equal(array, state[name].detach().float().numpy().astype(array.dtype), strict=True)


def arrays_in(path: Path) -> dict[str, np.ndarray]:
    return read_contents(path, lambda contents: {name: entry.read() for name, entry in contents.entries.items()})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_state_dict(save, dtype) -> None:
    theirs, model = models()
    path = save(theirs.to(dtype).state_dict())
    assert load(path, model) == {}
    assert_same(model, theirs.state_dict())


def test_a_checkpoint_of_a_training_run(save) -> None:
    theirs, model = models()
    optimizer = torch.optim.Adam(theirs.parameters())
    theirs(torch.randn(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3])
    content = {
        **{"epoch": 3, "best": 0.5, "arch": "small", "sizes": theirs[0].weight.shape, "seen": {1, 2}},
        **{"optimizer": optimizer.state_dict(), "scheduler": schedule.state_dict(), "rng": torch.get_rng_state()},
        **{"state_dict": nn.DataParallel(theirs).state_dict(), "device": torch.device("cpu"), "dtype": torch.float16},
    }
    with pytest.warns(UserWarning, match="those in its table 'state_dict', without 'module.' before their names"):
        assert load(save(content), model) == {"epoch": "3", "best": "0.5", "arch": "small"}
    assert_same(model, theirs.state_dict())


def test_views_and_shared_storages(save) -> None:
    base = torch.arange(120.0)
    tensors = {
        "whole": base.view(4, 5, 6),
        "permuted": base.view(4, 5, 6).permute(2, 0, 1),
        "channels_last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "slice": base.view(10, 12)[2:8:2, 1::3],
        "expanded": base[7:9].view(1, 2).expand(3, 2),
        "scalar": base[3],
        "empty": torch.zeros(0, 3),
        "parameter": nn.Parameter(base[5:9]),
        "also": base[5:9],
    }
    tensors["also"].note = "an attribute"
    found = arrays_in(save(tensors))
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.detach().numpy(), strict=True)


def test_every_dtype(save) -> None:
    names = [
        "float32",
        "float64",
        "float16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "bool",
        "complex64",
        "complex128",
    ]
    tensors = {name: torch.arange(6).reshape(2, 3).to(getattr(torch, name)) for name in names}
    unsigned = {name: torch.tensor([1, 2, 60000]).to(getattr(torch, name)) for name in ("uint16", "uint32", "uint64")}
    found = arrays_in(save({**tensors, **unsigned}))
    for name, tensor in {**tensors, **unsigned}.items():
        np.testing.assert_array_equal(found[name], tensor.numpy(), strict=True)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda t: t.to_sparse(), "a sparse tensor"),
        (lambda t: t.to_sparse_csr(), "a sparse tensor"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "a quantized tensor"),
        (lambda t: torch.quantize_per_channel(t, torch.ones(2), torch.zeros(2), 0, torch.qint8), "a quantized tensor"),
        (lambda t: t.to("meta"), "a tensor of the meta device"),
        (lambda t: t.to(torch.float8_e4m3fn), "a tensor of torch.float8_e4m3fn"),
        (lambda t: torch.complex(t, t).conj().imag, "a tensor whose numbers are to be conjugated or negated"),
        (lambda t: torch.nested.nested_tensor([t, t]), "a nested tensor"),
    ],
)
def test_tensors_that_are_not_read_are_named(save, make, what: str) -> None:
    path = save({"weight": make(torch.ones(2, 2)), "bias": torch.ones(1)})
    with pytest.raises(CheckpointError, match=rf"'weight' is {what}.*, which is not supported"):
        load(path, ours.Linear(2, 1))


@pytest.mark.parametrize(
    "content",
    [nn.Linear(2, 1), {"model": nn.Linear(2, 1)}, {"weight": torch.ones(1, 2), "args": collections.defaultdict(list)}],
)
def test_objects_are_refused_by_name(save, content: Any) -> None:
    with pytest.raises(CheckpointError, match=r"its pickle names '(torch\..*\.Linear|collections\.default)"):
        load(save(content), ours.Linear(2, 1))


def test_programs_are_refused(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 1)).save(str(tmp_path / "w.pt"))
    with pytest.raises(CheckpointError, match="it is a program of TorchScript"):
        load(tmp_path / "w.pt", ours.Linear(2, 1))


def test_nothing_of_a_changed_archive_is_other_numbers(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(nn.Linear(2, 1).state_dict(), buffer)
    whole, model, errors = buffer.getvalue(), ours.Linear(2, 1), 0
    (tmp_path / "w.pth").write_bytes(whole)
    load(tmp_path / "w.pth", model)
    expected = {name: array.tobytes() for name, array in model.state_dict().items()}
    for position in range(0, len(whole), 3):
        (tmp_path / "w.pth").write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        try:
            load(tmp_path / "w.pth", model)
        except ValueError:
            errors += 1
        assert {name: array.tobytes() for name, array in model.state_dict().items()} == expected
    assert errors > 100


@pytest.mark.parametrize("version", tb.FORMATS)
def test_what_the_tests_write_is_what_pytorch_reads(tmp_path: Path, version: str) -> None:
    """So that files written byte by byte stand for those of the versions that are not installed."""
    arrays = {
        "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "count": np.array(7),
        "half": np.ones(2, np.float16),
    }
    (tmp_path / "w.pth").write_bytes(tb.FORMATS[version](arrays))
    found = torch.load(tmp_path / "w.pth", weights_only="Python 2" not in version)
    assert {name: tensor.tolist() for name, tensor in found.items()} == {n: a.tolist() for n, a in arrays.items()}


def test_reading_loads_no_pytorch(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1, 2), "bias": torch.ones(1)}, tmp_path / "w.pth")
    assert zipfile.is_zipfile(tmp_path / "w.pth")
    code = "import sys, numbacnn as nc; nc.load(sys.argv[1], nc.nn.Linear(2, 1)); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "w.pth"], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
