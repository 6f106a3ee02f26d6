from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbacnn.backends.shared.philox import drop_threshold, dropout_words, philox4x32, split_words
from tests.strategies import CHECKS

# kat_vectors of the Random123 distribution: counter, key, words.
KNOWN_ANSWERS = (
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
)


def words(text: str) -> list[np.uint64]:
    return [np.uint64(int(word, 16)) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers_of_scalars(counter: str, key: str, expected: str) -> None:
    assert list(philox4x32(*words(counter), *words(key))) == words(expected)


def test_known_answers_of_arrays() -> None:
    counters = np.array([words(counter) for counter, _, _ in KNOWN_ANSWERS])
    keys = np.array([words(key) for _, key, _ in KNOWN_ANSWERS])
    result = np.stack(philox4x32(*counters.T, *keys.T), axis=1)
    np.testing.assert_array_equal(result, [words(expected) for _, _, expected in KNOWN_ANSWERS])
    assert result.dtype == np.uint64


def test_the_same_source_compiles_to_the_same_words() -> None:
    compiled = numba.njit(philox4x32)
    for counter, key, expected in KNOWN_ANSWERS:
        assert list(compiled(*words(counter), *words(key))) == words(expected)
    (returned,) = [signature.return_type for signature in compiled.nopython_signatures]
    assert returned == numba.types.UniTuple(numba.uint64, 4)


@CHECKS
@given(st.integers(0, 2**64 - 1))
def test_split_words_is_undone_by_joining(value: int) -> None:
    low, high = split_words(value)
    assert int(low) + (int(high) << 32) == value
    assert max(low, high) < 2**32


@CHECKS
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 40))
def test_element_takes_word_i_mod_4_of_block_i_div_4(seed: int, offset: int, element: int) -> None:
    block = philox4x32(np.uint64(element // 4), np.uint64(0), *split_words(offset), *split_words(seed))
    many = dropout_words(41, seed, offset)
    assert many[element] == block[element % 4]
    np.testing.assert_array_equal(dropout_words(element, seed, offset), many[:element])


def test_seed_and_offset_change_the_words() -> None:
    first = dropout_words(64, 1, 1)
    for seed, offset in ((2, 1), (1, 2), (1 + 2**32, 1), (1, 1 + 2**32)):
        assert not np.array_equal(first, dropout_words(64, seed, offset))


def test_thresholds() -> None:
    assert drop_threshold(0) == 0
    assert drop_threshold(0.5) == 2**31
    assert drop_threshold(1) == 2**32
    # The share of dropped elements among 100000 has a standard deviation of 0.0014.
    share = (dropout_words(100_000, 7, 3) < drop_threshold(0.3)).mean()
    assert abs(share - 0.3) < 0.006
