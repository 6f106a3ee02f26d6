"""Counting machine code, and what is predicted from it."""

from __future__ import annotations

import importlib.util
import json
import struct
from pathlib import Path

import pytest

from bench import cuda_forecast, machine_code

MMA, COPY, MATRICES, OTHER = 0x23C, 0xFAE, 0x83B, 0x224


def branch(words: int) -> int:
    """A branch over so many instructions of 16 bytes, as sm_90 has it."""
    far = words * 4
    return 0x947 | (far & 0xFF) << 16 | (far >> 8 & (1 << 48) - 1) << 34


def cubin(code: list[int]) -> bytes:
    """An ELF file with a section of these instructions and one of names."""
    names = b"\0.text.product\0"
    text = b"".join(word.to_bytes(16, "little") for word in code)
    header, sections = bytearray(64), 64 + len(text) + len(names)
    struct.pack_into("<Q", header, 0x28, sections)
    struct.pack_into("<HHH", header, 0x3A, 64, 2, 1)
    entries = ((1, 64, len(text)), (0, 64 + len(text), len(names)))
    table = b"".join(struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, at, size, 0, 0, 1, 0) for name, at, size in entries)
    return bytes(header) + text + names + table


LOOP = [OTHER, COPY, MATRICES, MMA, MMA, branch(-6)]
CODE = [OTHER] * 3 + LOOP + [OTHER, branch(-11), branch(-1)]


def test_the_shortest_loop_with_the_products_is_found() -> None:
    code = machine_code.instructions(cubin(CODE))
    assert code == CODE
    assert machine_code.counts(code) == {"mma": 2, "copy": 1, "ldmatrix": 1, "branch": 3, "others": 5}
    assert machine_code.product_loop(code) == LOOP
    with pytest.raises(ValueError, match="no loop holds the kernel's products"):
        machine_code.product_loop([word for word in CODE if word & 0xFFF != 0x947])
    with pytest.raises(ValueError, match="no section of the image holds a kernel"):
        machine_code.instructions(cubin(CODE).replace(b".text.product", b".data.product"))


@pytest.mark.parametrize(("mma", "others", "bound"), [(8, 8, "products"), (2, 200, "issue")])
def test_the_longest_of_three_is_what_a_step_takes(mma: int, others: int, bound: str) -> None:
    found = cuda_forecast.forecast("tile", "tf32", [MMA] * mma + [OTHER] * others, 128, 200)
    operations = 4 * mma * 2 * 16 * 8 * 8
    cycles = {"issue": float(mma + others), "products": operations / (2048 * 0.62), "shared_memory": 0.0}
    assert {name: getattr(found, name) for name in cycles} == pytest.approx(cycles)
    assert max(cycles, key=cycles.__getitem__) == bound
    assert found.share_of_peak == pytest.approx(operations / 2048 / cycles[bound])
    assert found.share_of_roof == pytest.approx(cycles["products"] / cycles[bound])
    assert found.multiply_adds_per_cycle == pytest.approx(operations / 2 / cycles[bound])


def test_three_products_count_as_one() -> None:
    one, three = (cuda_forecast.forecast("", mode, [MMA] * 3, 128, 9) for mode in ("tf32", "tf32x3"))
    assert three.multiply_adds_per_cycle == pytest.approx(one.multiply_adds_per_cycle / 3)


def test_the_committed_forecast_says_that_it_is_none_of_a_measurement() -> None:
    content = json.loads(cuda_forecast.OUTPUT.read_text(encoding="utf-8"))
    assert content["measured"] is None and content["forecast"] == cuda_forecast.HEADING
    assert {row["precision"] for row in content["rows"]} == {"tf32", "tf32x3", "bf16"}
    assert all(0 < row["share_of_peak"] < row["share_of_roof"] <= 1 for row in content["rows"])


@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is not None, reason="kernels can be compiled here")
def test_without_the_toolkit_it_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cuda_forecast.main(["--output", str(tmp_path / "file.json")]) == 2
    assert 'pip install "numbacnn[cuda]"' in capsys.readouterr().err
