"""State as bytes: whatever went in comes out bit for bit, and damage is refused."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as shapes

from ibs_core.bars import BAR
from ibs_core.errors import DataError
from ibs_core.snapshot import pack, unpack

NESTED = np.dtype([("head", BAR, (2,)), ("rings", "f8", (3,)), ("none", "i8", (0,))])
DTYPES = ("f8", "f4", "i8", "?", "U6", "S3", BAR, NESTED)


@st.composite
def states(draw):
    names = draw(st.lists(st.text("ab/é", min_size=1, max_size=6), unique=True, max_size=5))
    found = {}
    for name in names:
        dtype = np.dtype(draw(st.sampled_from(DTYPES)))
        shape = draw(shapes.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
        n_bytes = dtype.itemsize * int(np.prod(shape))
        code = 65 if dtype.kind in "US" else draw(st.integers(0, 1))
        raw = np.full(n_bytes // 4 + 1, code, "<u4").tobytes()[:n_bytes]
        found[name] = np.ndarray(shape, dtype, raw).copy()
    return found


@given(state=states())
def test_what_was_packed_comes_back_bit_for_bit_and_can_be_written_to(state):
    block = pack(state)
    found = unpack(block)
    assert sorted(found) == sorted(state)
    for name, array in state.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
        assert found[name].flags.writeable
    assert pack(found) == block
    assert pack(dict(reversed(state.items()))) == block


def test_an_array_that_is_not_contiguous_is_packed_as_its_values():
    grid = np.arange(12.0).reshape(3, 4)
    for array in (grid.T, grid[:, ::2], np.asfortranarray(grid)):
        assert (unpack(pack({"a": array}))["a"] == array).all()


@given(data=st.data())
def test_a_block_that_is_damaged_anywhere_is_refused(data):
    block = pack({"bars": np.zeros(3, BAR), "name": np.array(["ES"])})
    place = data.draw(st.integers(0, len(block) - 1))
    other = data.draw(st.integers(1, 255))
    for wrong in (
        block[:place],
        block[:place] + bytes([block[place] ^ other]) + block[place + 1 :],
    ):
        with pytest.raises(DataError, match="damaged"):
            unpack(wrong)


@pytest.mark.parametrize("n_left", range(1, 60, 7))
def test_a_block_that_was_cut_before_it_was_compressed_is_refused(n_left):
    room = zlib.decompress(pack({"rows": np.ones((4, 2))}))
    with pytest.raises(DataError, match="damaged"):
        unpack(zlib.compress(room[:n_left]))


def test_objects_are_no_state():
    with pytest.raises(AssertionError):
        pack({"a": np.array([None])})
