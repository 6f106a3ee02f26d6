"""The check of NCCL, by a stand-in for it, and what it says where it cannot do its work."""

from __future__ import annotations

import subprocess
from typing import Any

import numpy as np
import pytest

from bench import gpu_nccl
from bench.command import WrongResultError
from numbacnn import backends
from numbacnn.distributed import nccl
from tests.distributed.nccl_stand_in import Core, Gpu
from tests.distributed.test_nccl import core as core


@pytest.mark.parametrize("is_wrong", [False, True])
def test_one_process(is_wrong: bool, core: Core, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_nccl, "BATCH", 2)
    backend = backends.get("reference")
    if is_wrong:
        monkeypatch.setattr(nccl.OverNccl, "_add", lambda self, left, right: np.subtract(left, right, out=left))
        with pytest.raises(WrongResultError, match="rank 0: the sum of 5 float32 has other bits"):
            gpu_nccl.one_process(backend, Gpu(), [5])
        return
    gpu_nccl.one_process(backend, Gpu(), [5])
    assert capsys.readouterr().out.splitlines() == ["rank 0 of 1: sums: right", "rank 0 of 1: training: right"]
    assert core.communicators[0].was_aborted
    with pytest.raises(WrongResultError, match="rank 1: the weights have other bits"):
        gpu_nccl.check_training(1, 2, b"some", b"others")


def test_what_it_was_is_said(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was not, by an exit code of its own."""

    def said() -> tuple[int, str]:
        return gpu_nccl.main([]), capsys.readouterr().out.splitlines()[-1]

    ended: list[Any] = []

    def start_two(way: str) -> Any:
        return subprocess.CompletedProcess([], *ended.pop(0))

    monkeypatch.setattr(backends, "available", lambda: {"cuda": "there is no GPU"})
    assert said() == (77, "there is no GPU")
    monkeypatch.setattr(backends, "available", lambda: {"cuda": None})
    monkeypatch.setattr(backends, "get", lambda name: name)
    monkeypatch.setattr(nccl, "refusal", lambda names: "there is no NCCL")
    assert said() == (77, "there is no NCCL")
    monkeypatch.setattr(nccl, "refusal", lambda names: None)
    monkeypatch.setattr(nccl, "used_gpu", lambda: None)
    monkeypatch.setattr(gpu_nccl, "one_process", lambda backend, gpu: None)
    monkeypatch.setattr(gpu_nccl, "number_of_gpus", lambda: 1)
    assert said() == (0, "there is 1 GPU: gradients went through a communicator of one process, and two were not tried")
    monkeypatch.setattr(gpu_nccl, "number_of_gpus", lambda: 2)
    monkeypatch.setattr(gpu_nccl, "find_spec", lambda name: None)
    code, text = said()
    assert code == 77 and text.startswith("there are 2 GPUs, and mpi4py is missing")
    monkeypatch.setattr(gpu_nccl, "find_spec", lambda name: name)
    monkeypatch.setattr(gpu_nccl, "start_two", start_two)
    ended += [(0, "well\n", ""), (3, "", gpu_nccl.LEFT)]
    code, text = said()
    assert code == 0 and text.startswith("there are 2 GPUs: ") and text.endswith(" and between two processes")
    for ended[:] in [[(1, "", "why")], [(0, "", ""), (3, "", "nothing")], [(0, "", ""), (0, "", gpu_nccl.LEFT)]]:
        assert gpu_nccl.main([]) == 1
    assert gpu_nccl.main(["more"]) == 2
