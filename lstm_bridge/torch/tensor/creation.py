"""torch's new tensors, with sizes that may come from other tensors.

Source: torch 2.13.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from lstm_bridge.torch.dtypes import requested_dtype
from lstm_bridge.torch.tensor.shapes import whole_numbers


def zeros(*size: Any, **options: Any) -> mx.array:
    """Zeros of a shape."""
    return mx.zeros(_shape(size, options), _dtype(options))


def ones(*size: Any, **options: Any) -> mx.array:
    """Ones of a shape."""
    return mx.ones(_shape(size, options), _dtype(options))


def full(size: Any, fill_value: Any, **options: Any) -> mx.array:
    """One value in a shape."""
    return mx.full(tuple(size), fill_value, _dtype(options, _kind_of(fill_value)))


def rand(*size: Any, **options: Any) -> mx.array:
    """Samples of the uniform distribution in [0, 1)."""
    return mx.random.uniform(shape=_shape(size, options)).astype(_dtype(options))


def randn(*size: Any, **options: Any) -> mx.array:
    """Samples of the standard normal distribution."""
    return mx.random.normal(_shape(size, options)).astype(_dtype(options))


def arange(start: Any, end: Any = None, step: Any = 1, **options: Any) -> mx.array:
    """Numbers from start to before end, int64 unless one of them is no integer."""
    first, last = (0, start) if end is None else (start, end)
    numbers: list[Any] = [v.item() if isinstance(v, mx.array) else v for v in (first, last, step)]
    whole = all(isinstance(v, int) for v in numbers)
    low, high, by = numbers
    return mx.arange(low, high, by, dtype=_dtype(options, mx.int64 if whole else mx.float32))


def linspace(start: float, end: float, steps: int, **options: Any) -> mx.array:
    """So many numbers at equal distances, both ends among them."""
    return mx.linspace(start, end, steps, dtype=_dtype(options))


def eye(n: int, m: int | None = None, **options: Any) -> mx.array:
    """The identity matrix."""
    return mx.eye(n, m, dtype=_dtype(options))


def tensor(data: Any, **options: Any) -> mx.array:
    """An array of numbers; whole numbers are int64, others float32."""
    array = mx.array(data)
    whole = mx.int64 if array.dtype == mx.int32 else array.dtype
    return array.astype(_dtype(options, whole))


def zeros_like(input: mx.array, **options: Any) -> mx.array:  # noqa: A002
    """Zeros of an array's shape and dtype."""
    return mx.zeros(input.shape, _dtype(options, input.dtype))


def ones_like(input: mx.array, **options: Any) -> mx.array:  # noqa: A002
    """Ones of an array's shape and dtype."""
    return mx.ones(input.shape, _dtype(options, input.dtype))


def full_like(input: mx.array, fill_value: Any, **options: Any) -> mx.array:  # noqa: A002
    """One value in an array's shape and dtype."""
    return mx.full(input.shape, fill_value, _dtype(options, input.dtype))


def rand_like(input: mx.array, **options: Any) -> mx.array:  # noqa: A002
    """Samples of the uniform distribution in an array's shape and dtype."""
    return mx.random.uniform(shape=input.shape).astype(_dtype(options, input.dtype))


def randn_like(input: mx.array, **options: Any) -> mx.array:  # noqa: A002
    """Samples of the standard normal distribution in an array's shape and dtype."""
    return mx.random.normal(input.shape).astype(_dtype(options, input.dtype))


def new_zeros(input: mx.array, *size: Any, **options: Any) -> mx.array:  # noqa: A002
    """Zeros of a shape in an array's dtype."""
    return mx.zeros(_shape(size, options), _dtype(options, input.dtype))


def new_ones(input: mx.array, *size: Any, **options: Any) -> mx.array:  # noqa: A002
    """Ones of a shape in an array's dtype."""
    return mx.ones(_shape(size, options), _dtype(options, input.dtype))


def new_full(input: mx.array, size: Any, fill_value: Any, **options: Any) -> mx.array:  # noqa: A002
    """One value in a shape, in an array's dtype."""
    return mx.full(tuple(size), fill_value, _dtype(options, input.dtype))


def new_tensor(input: mx.array, data: Any, **options: Any) -> mx.array:  # noqa: A002
    """An array of numbers in an array's dtype."""
    return mx.array(data).astype(_dtype(options, input.dtype))


def new(input: mx.array, *size: Any) -> mx.array:  # noqa: A002
    """Zeros of a shape in an array's dtype; of numbers in a list, those."""
    if len(size) == 1 and isinstance(size[0], list):
        return new_tensor(input, size[0])
    return new_zeros(input, *size)


def randint(*limits: Any, **options: Any) -> mx.array:
    """Random integers from low, 0 by default, to before high."""
    low, high, size = (0, *limits)[-3:] if len(limits) < 3 else limits
    return mx.random.randint(low, high, tuple(size)).astype(_dtype(options, mx.int64))


def randperm(n: int, **options: Any) -> mx.array:
    """The numbers below n in random order."""
    return mx.random.permutation(n).astype(_dtype(options, mx.int64))


def bernoulli(input: mx.array, p: float | None = None) -> mx.array:  # noqa: A002
    """1 with the probabilities that the elements are, or with one for all, else 0."""
    odds = input if p is None else mx.full(input.shape, p)
    return mx.random.bernoulli(odds).astype(input.dtype)


def normal(mean: Any, std: Any = 1.0, size: Any = None, **options: Any) -> mx.array:
    """Samples of normal distributions."""
    arrays = [v for v in (mean, std) if isinstance(v, mx.array)]
    shape = tuple(size) if size is not None else mx.broadcast_arrays(*arrays)[0].shape
    return mx.add(mean, std * mx.random.normal(shape).astype(_dtype(options)))


def _shape(size: tuple[Any, ...], options: dict[str, Any]) -> tuple[int, ...]:
    given = (options["size"],) if not size and "size" in options else size
    if len(given) == 1 and isinstance(given[0], tuple | list):
        given = tuple(given[0])
    return whole_numbers(given)


def _dtype(options: dict[str, Any], default: mx.Dtype = mx.float32) -> mx.Dtype:
    """Return the dtype asked for; device, layout and requires_grad have no effect here."""
    return requested_dtype((), {"dtype": options.get("dtype")}) or default


def _kind_of(value: Any) -> mx.Dtype:
    if isinstance(value, bool):
        return mx.bool_
    return mx.int64 if isinstance(value, int) else mx.float32


_MAKERS: tuple[Callable[..., mx.array], ...] = (
    zeros, ones, full, rand, randn, arange, linspace, eye, tensor, zeros_like, ones_like,
    full_like, rand_like, randn_like, new_zeros, new_ones, new_full, new_tensor, new, randint,
    randperm, bernoulli, normal,
)  # fmt: skip

CREATION: dict[str, Callable[..., Any]] = {
    **{maker.__name__: maker for maker in _MAKERS},
    # What torch leaves undefined is zero here.
    "empty": zeros,
    "empty_like": zeros_like,
    "new_empty": new_zeros,
    "as_tensor": tensor,
}
"""torch's name → function."""
