"""Instructions in machine code for NVIDIA GPUs of compute capability 9.0, counted without NVIDIA's disassembler.

An instruction is 16 bytes. The lowest 12 bits are its name and the kind of its operands. What else is known here is how
far a branch goes: words of 4 bytes from the next instruction, the low 8 bits of that from bit 16 on, the others from
bit 34 on. Both were compared with what nvdisasm 13.4 prints.
"""

from __future__ import annotations

import struct
from collections import Counter

__all__ = ["counts", "instructions", "product_loop"]

SIZE = 16
BRANCH = 0x947
NAMES = {
    0x23C: "mma", 0x223: "ffma", 0x423: "ffma", 0x823: "ffma", 0xA23: "ffma", 0xC23: "ffma",
    0x83B: "ldmatrix", 0x984: "load shared", 0x388: "store shared", 0xFAE: "copy", 0x981: "load",
    0x387: "store local", 0x983: "load local", BRANCH: "branch",
}  # fmt: skip
PRODUCTS = ("mma", "ffma")


def instructions(image: bytes) -> list[int]:
    """The instructions of the kernel in a cubin, as numbers of 128 bits. ValueError for what holds no kernel."""
    (table,) = struct.unpack_from("<Q", image, 0x28)
    size, count, of_names = struct.unpack_from("<HHH", image, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, table + size * i) for i in range(count)]
    names = sections[of_names][4]
    for name, _, _, _, start, length, *_ in sections:
        if image[names + name :].startswith(b".text."):
            code = image[start : start + length]
            return [int.from_bytes(code[i : i + SIZE], "little") for i in range(0, length, SIZE)]
    raise ValueError("no section of the image holds a kernel")


def counts(code: list[int]) -> Counter[str]:
    """How many there are of each of NAMES, and ``"others"``."""
    return Counter(NAMES.get(word & 0xFFF, "others") for word in code)


def _jump(word: int) -> int:
    """Instructions from the one after a branch to where it goes."""
    far = word >> 34 & (1 << 48) - 1
    far -= (far >> 47) << 48
    return (far * 256 + (word >> 16 & 0xFF)) * 4 // SIZE


def product_loop(code: list[int]) -> list[int]:
    """The shortest loop that holds nine tenths of the kernel's products. ValueError where no loop does."""
    products = [NAMES.get(word & 0xFFF) in PRODUCTS for word in code]
    loops = [
        (at + 1 + _jump(word), at + 1) for at, word in enumerate(code) if word & 0xFFF == BRANCH and _jump(word) < -1
    ]
    found = [loop for loop in loops if sum(products[slice(*loop)]) >= 0.9 * sum(products) > 0]
    if not found:
        raise ValueError("no loop holds the kernel's products")
    first, last = min(found, key=lambda loop: loop[1] - loop[0])
    return code[first:last]
