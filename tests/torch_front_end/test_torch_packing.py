"""nn.utils.rnn against the live torch: the same arrays exactly, the same refusals."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils import rnn as theirs

from lstm_bridge.errors import BridgeError
from lstm_bridge.torch.nn.utils import rnn as ours

DTYPES = st.sampled_from(["float32", "int32", "float16"])


def same(mine: Any, other: Any) -> None:
    """Assert equality of arrays, None, and (named) tuples and lists of them."""
    if isinstance(other, (tuple, list)):
        assert len(mine) == len(other)
        for a, b in zip(mine, other, strict=True):
            same(a, b)
    elif other is None:
        assert mine is None
    else:
        assert isinstance(mine, mx.array)
        assert str(mine.dtype).rsplit(".", 1)[-1] == str(other.dtype).rsplit(".", 1)[-1]
        np.testing.assert_array_equal(np.array(mine), other.numpy())


def samples(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * 100).astype(dtype)


@st.composite
def batches(draw: Any) -> tuple[np.ndarray, list[int], bool]:
    N, T, first = draw(st.integers(1, 5)), draw(st.integers(1, 6)), draw(st.booleans())
    more = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    lengths = draw(st.lists(st.integers(1, T), min_size=N, max_size=N))
    return samples(((N, T) if first else (T, N)) + more, draw(DTYPES)), lengths, first


@given(batches(), st.booleans())
def test_packing_a_padded_batch(case: tuple[np.ndarray, list[int], bool], enforce: bool) -> None:
    x, lengths, first = case
    if enforce:
        lengths = sorted(lengths, reverse=True)
    mine = ours.pack_padded_sequence(x, lengths, first, enforce)
    other = theirs.pack_padded_sequence(torch.from_numpy(x), lengths, first, enforce)
    assert isinstance(mine, ours.PackedSequence)
    assert mine._fields == other._fields
    same(mine, other)


@given(batches(), st.booleans(), st.floats(-5, 5, width=16), st.none() | st.integers(6, 8))
def test_padding_a_packed_batch(
    case: tuple[np.ndarray, list[int], bool], enforce: bool, padding: float, total: int | None
) -> None:
    x, lengths, first = case
    if enforce:
        lengths = sorted(lengths, reverse=True)
    packed = theirs.pack_padded_sequence(torch.from_numpy(x), lengths, first, enforce)
    expected = theirs.pad_packed_sequence(packed, first, padding, total)
    same(ours.pad_packed_sequence(packed, first, padding, total), expected)
    same(ours.unpack_sequence(packed), theirs.unpack_sequence(packed))


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=5),
    st.lists(st.integers(1, 3), max_size=2),
    DTYPES,
    st.booleans(),
    st.floats(-5, 5, width=16),
    st.sampled_from(["left", "right"]),
)
def test_padding_and_splitting_sequences(
    lengths: list[int], more: list[int], dtype: str, first: bool, padding: float, side: str
) -> None:
    rows = [samples((n, *more), dtype, seed) for seed, n in enumerate(lengths)]
    expected = theirs.pad_sequence([torch.from_numpy(r) for r in rows], first, padding, side)
    mine = ours.pad_sequence(rows, first, padding, side)
    same(mine, expected)
    counts = torch.tensor(lengths)
    same(
        ours.unpad_sequence(mine, counts, first),
        theirs.unpad_sequence(expected.clone(), counts, first),
    )


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.booleans())
def test_packing_sequences(lengths: list[int], enforce: bool) -> None:
    if enforce:
        lengths = sorted(lengths, reverse=True)
    rows = [samples((n, 2), seed=seed) for seed, n in enumerate(lengths)]
    mine = ours.pack_sequence(rows, enforce)
    same(mine, theirs.pack_sequence([torch.from_numpy(r) for r in rows], enforce))
    for row, back in zip(rows, ours.unpack_sequence(mine), strict=True):
        np.testing.assert_array_equal(np.array(back), row)


@given(st.permutations(range(6)))
def test_inverting_a_permutation(order: list[int]) -> None:
    permutation = torch.tensor(order)
    same(ours.invert_permutation(permutation), theirs.invert_permutation(permutation))
    assert ours.invert_permutation(None) is None


def test_a_wrong_order_is_caught() -> None:
    """The comparison itself notices two swapped rows and a wrong dtype."""
    x = samples((4, 3, 2))
    mine = ours.pack_padded_sequence(x, [4, 3, 2])
    swapped = mine.data[mx.array([1, 0, *range(2, 9)])]
    other = theirs.pack_padded_sequence(torch.from_numpy(x), [4, 3, 2])
    with pytest.raises(AssertionError):
        same(swapped, other.data)
    with pytest.raises(AssertionError):
        same(mine.batch_sizes.astype(mx.int32), other.batch_sizes)


X = torch.zeros(4, 3, 2)
REFUSED: dict[str, Any] = {
    "unsorted": lambda r: r.pack_padded_sequence(X, [1, 2, 3]),
    "empty sequence": lambda r: r.pack_padded_sequence(X, [3, 2, 0]),
    "empty sequence, unsorted": lambda r: r.pack_padded_sequence(X, [3, 0, 2], False, False),
    "negative length": lambda r: r.pack_padded_sequence(X, [3, 2, -1]),
    "two lengths for three": lambda r: r.pack_padded_sequence(X, [3, 2]),
    "lengths of rank 2": lambda r: r.pack_padded_sequence(X, torch.tensor([[3, 2, 1]])),
    "lengths of rank 0": lambda r: r.pack_padded_sequence(X, torch.tensor(3)),
    "no sequence": lambda r: r.pack_padded_sequence(torch.zeros(4, 0, 2), []),
    "no step": lambda r: r.pack_padded_sequence(torch.zeros(0, 2), [0, 0]),
    "no feature": lambda r: r.pack_padded_sequence(torch.zeros(4, 2, 0), [3, 1]),
    "total too short": lambda r: r.pad_packed_sequence(
        r.pack_padded_sequence(X, [3, 2, 1]), total_length=2
    ),
    "nothing to pad": lambda r: r.pad_sequence([]),
    "unknown side": lambda r: r.pad_sequence([torch.zeros(2)], padding_side="up"),
    "features differ": lambda r: r.pad_sequence([torch.zeros(2, 3), torch.zeros(2, 4)]),
    "ranks differ": lambda r: r.pad_sequence([torch.zeros(2, 3), torch.zeros(2)]),
    "rank 0": lambda r: r.pad_sequence([torch.tensor(1.0)]),
    "no iterable": lambda r: r.pad_sequence(3),
    "pack unsorted": lambda r: r.pack_sequence([torch.zeros(1), torch.zeros(2)]),
    "pack an empty one": lambda r: r.pack_sequence([torch.zeros(1), torch.zeros(0)]),
    "lengths missing": lambda r: r.unpad_sequence(X.clone(), torch.tensor([2, 1])),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
def test_what_torch_refuses_is_refused_with_the_same_type(call: Any) -> None:
    with pytest.raises(Exception) as refusal:  # noqa: PT011  whatever torch raises
        call(theirs)
    with pytest.raises(BridgeError, match=r"expected .*, got ") as mine:
        call(ours)
    assert isinstance(mine.value, refusal.type)


def test_a_length_beyond_the_batch_is_refused() -> None:
    """torch reads on into the neighbours here; there is nothing to be compatible with."""
    with pytest.raises(RuntimeError, match="each from 1 to 4"):
        ours.pack_padded_sequence(X, [5, 2, 1])


@pytest.mark.parametrize("sizes", [[], [3, 2], [2, 3, 1], [3, 3, 0], [4, 2, 1]])
def test_batch_sizes_that_lie_are_refused(sizes: list[int]) -> None:
    with pytest.raises(RuntimeError, match="add up to 6 rows"):
        ours.pad_packed_sequence(ours.PackedSequence(mx.zeros((6, 2)), mx.array(sizes)))


def test_unpadding_leaves_its_argument_alone() -> None:
    x = mx.array(samples((4, 3, 2)))
    ours.unpad_sequence(x, [1, 2, 3])
    assert x.shape == (4, 3, 2)


def test_a_mixed_list_takes_the_first_dtype_as_in_torch() -> None:
    rows = [torch.ones(2), torch.ones(3).half()]
    same(ours.pad_sequence(rows), theirs.pad_sequence(rows))


def test_a_packed_sequence_is_made_from_a_pair_as_in_torch() -> None:
    data, sizes, order = samples((3, 2)), [2, 1], [1, 0]
    mine = ours.PackedSequence((data, sizes), sorted_indices=order)
    other = theirs.PackedSequence(
        (torch.from_numpy(data), torch.tensor(sizes)), sorted_indices=torch.tensor(order)
    )
    same(mine, other)


@pytest.mark.parametrize(
    "cast", ["double", "float", "half", "long", "int", "short", "char", "byte"]
)
def test_casts_give_torchs_dtypes(cast: str) -> None:
    x = np.abs(samples((3, 2))) % 100
    other = getattr(theirs.pack_padded_sequence(torch.from_numpy(x), [3, 1]), cast)()
    mine = getattr(ours.pack_padded_sequence(x, [3, 1]), cast)()
    if cast == "double" and mx.default_device().type == mx.DeviceType.gpu:
        assert mine.data.dtype == mx.float64
    else:
        same(mine, other)


def test_to_takes_torchs_forms() -> None:
    packed = ours.pack_padded_sequence(samples((3, 2)), [3, 1], enforce_sorted=False)
    for call in (
        packed.to(torch.float16),
        packed.to(mx.float16),
        packed.to("cpu", torch.float16),
        packed.to(dtype="float16"),
        packed.to(torch.zeros(1).half()),
        packed.to(other=mx.zeros(1, mx.float16), non_blocking=True),
    ):
        assert call.data.dtype == mx.float16
        assert call.unsorted_indices is not None
    for same_one in (packed.to("cpu"), packed.to(mx.float32), packed.cpu(), packed.cuda()):
        assert same_one is packed
    assert packed.pin_memory() is packed
    assert not packed.is_cuda
    assert not packed.is_pinned()
    with pytest.raises(TypeError, match="torch dtype"):
        packed.to(dtype="quick")
