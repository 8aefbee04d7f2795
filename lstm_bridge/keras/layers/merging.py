"""Keras's layers that make one array of several."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core.products import matmul
from lstm_bridge.core.sums import add
from lstm_bridge.errors import ShapeError, UsageError
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.normalization import unit
from lstm_bridge.keras.masks import get_keras_mask
from lstm_bridge.keras.saving import keras_export

_DOT_EPSILON = 1e-7  # keras.backend.epsilon()


def _several(owner: str, inputs: Any, least: int = 1) -> list[Any]:
    if not isinstance(inputs, (list, tuple)) or len(inputs) < least:
        got = f"{len(inputs)}" if isinstance(inputs, (list, tuple)) else type(inputs).__name__
        raise UsageError(f"{owner} input", expected=f"a list of {least} arrays or more", got=got)
    return list(inputs)


class _Merge(Layer):
    """Combines arrays element by element; missing axes are added behind the batch's."""

    supports_masking = True
    COMBINE: ClassVar[Any]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def build(self, input_shape: Shape) -> None:
        """Check that the shapes broadcast against each other."""
        self.compute_output_shape(input_shape)

    def call(self, inputs: Sequence[mx.array]) -> mx.array:
        """Combine.

        Args:
            inputs: list of arrays.

        Raises:
            UsageError: they are no list, or too few.
        """
        arrays = _several(self.name, inputs)
        rank = max(x.ndim for x in arrays)
        masks = [get_keras_mask(x) if x.ndim == rank else None for x in arrays]
        arrays = [x.reshape(x.shape[0], *[1] * (rank - x.ndim), *x.shape[1:]) for x in arrays]
        wide = [None if m is None else _wide(m, x) for m, x in zip(masks, arrays, strict=True)]
        return self._merged(arrays, wide)

    def _merged(self, arrays: list[mx.array], masks: list[mx.array | None]) -> mx.array:
        """Combine arrays of one rank; a mask is as wide as its array."""
        return functools.reduce(type(self).COMBINE, arrays)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the masks or-ed together, None unless every input has one."""
        if mask is None or any(one is None for one in mask):
            return None
        return functools.reduce(mx.logical_or, mask)

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the broadcast shape; ShapeError where there is none."""
        shapes = [tuple(s) for s in _several(self.name, input_shape)]
        rank = max(len(s) for s in shapes)
        wide = [(s[0], *[1] * (rank - len(s)), *s[1:]) for s in shapes]
        return tuple(_common(self.name, sizes) for sizes in zip(*wide, strict=True))


def _wide(mask: mx.array, x: mx.array) -> mx.array:
    """A mask of time steps as a mask of all the numbers in them."""
    return mx.broadcast_to(mask[..., None].astype(mx.bool_), x.shape)


def _common(owner: str, sizes: tuple[int | None, ...]) -> int | None:
    """The size that sizes broadcast to; unknown where one of them is and none decides."""
    known = {size for size in sizes if size not in (1, None)}
    if len(known) > 1:
        raise ShapeError(f"{owner} input", expected="sizes that broadcast", got=str(sorted(known)))
    if known:
        return known.pop()
    return None if None in sizes else 1


@keras_export("keras.layers")
class Add(_Merge):
    """The sum of all inputs.

    Args:
        kwargs: the arguments of Layer.

    Source: keras.layers.Add 3.15.
    """

    COMBINE: ClassVar[Any] = staticmethod(add)


@keras_export("keras.layers")
class Multiply(_Merge):
    """The product of all inputs; a masked number counts as 1, and as 0 where all are masked.

    Args:
        kwargs: the arguments of Layer.

    Source: keras.layers.Multiply 3.15.
    """

    COMBINE: ClassVar[Any] = staticmethod(mx.multiply)

    def _merged(self, arrays: list[mx.array], masks: list[mx.array | None]) -> mx.array:
        filled = [
            x if mask is None else mx.where(mask, x, mx.ones_like(x))
            for x, mask in zip(arrays, masks, strict=True)
        ]
        product = super()._merged(filled, masks)
        known = [mask for mask in masks if mask is not None]
        if len(known) < len(masks):
            return product
        kept = functools.reduce(mx.logical_or, known)
        return mx.where(kept, product, mx.zeros_like(product))


class _Extreme(_Merge):
    """The largest or smallest of numbers that are not masked."""

    def _merged(self, arrays: list[mx.array], masks: list[mx.array | None]) -> mx.array:
        total, kept = arrays[0], masks[0]
        for x, mask in zip(arrays[1:], masks[1:], strict=True):
            one = x if mask is None else mx.where(mask, x, total)
            total = total if kept is None else mx.where(kept, total, one)
            total = type(self).COMBINE(total, one)
            kept = None if mask is None or kept is None else mask | kept
        return total


@keras_export("keras.layers")
class Maximum(_Extreme):
    """The largest of all inputs, element by element; a masked number does not count.

    Args:
        kwargs: the arguments of Layer.

    Source: keras.layers.Maximum 3.15.
    """

    COMBINE: ClassVar[Any] = staticmethod(mx.maximum)


@keras_export("keras.layers")
class Minimum(_Extreme):
    """The smallest of all inputs, element by element; a masked number does not count.

    Args:
        kwargs: the arguments of Layer.

    Source: keras.layers.Minimum 3.15.
    """

    COMBINE: ClassVar[Any] = staticmethod(mx.minimum)


@keras_export("keras.layers")
class Average(_Merge):
    """The mean of all inputs.

    Args:
        kwargs: the arguments of Layer.

    Source: keras.layers.Average 3.15.
    """

    COMBINE: ClassVar[Any] = staticmethod(add)

    def _merged(self, arrays: list[mx.array], masks: list[mx.array | None]) -> mx.array:
        return super()._merged(arrays, masks) / len(arrays)


@keras_export("keras.layers")
class Subtract(_Merge):
    """The first input minus the second.

    Args:
        kwargs: the arguments of Layer.

    Source: keras.layers.Subtract 3.15.
    """

    COMBINE: ClassVar[Any] = staticmethod(mx.subtract)

    def build(self, input_shape: Shape) -> None:
        """Check that there are two inputs."""
        if len(_several(self.name, input_shape, 2)) != 2:
            raise UsageError(f"{self.name} input", expected="two arrays", got=str(len(input_shape)))
        super().build(input_shape)


@keras_export("keras.layers")
class Concatenate(Layer):
    """All inputs, one after the other along an axis.

    Args:
        axis: the axis. Default: -1.
        kwargs: the arguments of Layer.

    Source: keras.layers.Concatenate 3.15.
    """

    supports_masking = True

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def build(self, input_shape: Shape) -> None:
        """Check that the shapes fit."""
        self.compute_output_shape(input_shape)

    def call(self, inputs: Sequence[mx.array]) -> mx.array:
        """Concatenate a list of arrays."""
        return mx.concatenate(_several(self.name, inputs), axis=self.axis)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the concatenated masks; an input without one is not masked."""
        if mask is None or all(one is None for one in mask):
            return None
        masks = []
        for x, one in zip(inputs, mask, strict=True):
            if one is None:
                masks.append(mx.ones(x.shape, mx.bool_))
            else:
                masks.append(_wide(one, x) if one.ndim < x.ndim else one)
        return mx.any(mx.concatenate(masks, axis=self.axis), axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the shape with the sizes along the axis added; ShapeError where others differ."""
        shapes = [list(s) for s in _several(self.name, input_shape)]
        joined, axis = shapes[0], self.axis % len(shapes[0])
        for shape in shapes[1:]:
            pairs = [p for a, p in enumerate(zip(joined, shape, strict=False)) if a != axis]
            if len(shape) != len(joined) or any(None not in p and p[0] != p[1] for p in pairs):
                raise ShapeError(
                    f"{self.name} input",
                    expected=f"shapes that differ along axis {self.axis} only",
                    got=str(shapes),
                )
            unknown = None in (joined[axis], shape[axis])
            joined[axis] = None if unknown else joined[axis] + shape[axis]
        return tuple(joined)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "axis": self.axis}


@keras_export("keras.layers")
class Dot(Layer):
    """The scalar products of two arrays along an axis of each.

    Args:
        axes: the axis of both, or one for each; not the batch's.
        normalize: scale both to an L2 norm of 1 before. Default: False.
        kwargs: the arguments of Layer.

    Raises:
        UsageError: axes of another form.

    Source: keras.layers.Dot 3.15.
    """

    supports_masking = True

    def __init__(self, axes: Any, normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        both = axes if isinstance(axes, (list, tuple)) else (axes, axes)
        if len(both) != 2 or any(isinstance(a, bool) or not isinstance(a, int) for a in both):
            raise UsageError("axes", expected="an integer or two of them", got=repr(axes))
        self.axes = axes
        self.normalize = normalize

    def _axes(self, ranks: Sequence[int]) -> tuple[int, int]:
        both = self.axes if isinstance(self.axes, (list, tuple)) else (self.axes, self.axes)
        first, second = (a % rank for a, rank in zip(both, ranks, strict=True))
        if 0 in (first, second):
            raise UsageError("axes", expected="no axis 0, the batch's", got=repr(self.axes))
        return first, second

    def build(self, input_shape: Shape) -> None:
        """Check that the two axes have one size."""
        shapes = _several(self.name, input_shape, 2)
        a, b = self._axes([len(s) for s in shapes])
        if len(shapes) != 2 or shapes[0][a] != shapes[1][b]:
            raise ShapeError(
                f"{self.name} input",
                expected=f"two arrays with one size along axes {self.axes}",
                got=str(input_shape),
            )

    def call(self, inputs: Sequence[mx.array]) -> mx.array:
        """Return the products, ``[N, rest of the first, rest of the second]``."""
        x, y = _several(self.name, inputs, 2)
        a, b = self._axes([x.ndim, y.ndim])
        if self.normalize:
            x, y = unit(x, a, _DOT_EPSILON), unit(y, b, _DOT_EPSILON)
        x, y = mx.moveaxis(x, a, -1), mx.moveaxis(y, b, 1)
        left, right = x.shape[1:-1], y.shape[2:]
        product = matmul(x.reshape(x.shape[0], -1, x.shape[-1]), y.reshape(*y.shape[:2], -1))
        shape = (*left, *right) or (1,)
        return product.reshape(x.shape[0], *shape)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """Return None."""

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the sizes of both without the two axes."""
        first, second = (list(s) for s in input_shape)
        a, b = self._axes([len(first), len(second)])
        first.pop(a)
        second.pop(b)
        shape = [*first, *second[1:]]
        return tuple(shape if len(shape) > 1 else [*shape, 1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "axes": self.axes, "normalize": self.normalize}
