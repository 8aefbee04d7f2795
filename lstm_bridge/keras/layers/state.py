"""What a layer holds: weights with Keras's names, dtypes, losses; all in an mlx.nn.Module."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import UsageError
from lstm_bridge.keras import constraints, dtype_policies, initializers, regularizers
from lstm_bridge.keras.dtype_policies import DTypePolicy, name_of, to_mlx
from lstm_bridge.keras.variables import Variable, WeightRule

_FLOATS = (mx.float32, mx.bfloat16, mx.float16, mx.float64)


def flat(value: Any) -> list[Any]:
    """Return what a nest of lists, tuples and plain dictionaries holds; a module is one item."""
    if isinstance(value, nn.Module):
        return [value]
    if isinstance(value, dict):
        return [item for part in value.values() for item in flat(part)]
    if isinstance(value, (list, tuple)):
        return [item for part in value for item in flat(part)]
    return [value]


def assign_all(owner: str, variables: Sequence[Any], values: Sequence[Any]) -> None:
    """Give each of a layer's or a model's weights its value; see ``set_weights``."""
    if len(variables) != len(values):
        raise UsageError(
            f"{owner}.set_weights", expected=f"{len(variables)} arrays", got=str(len(values))
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


class StateHolder(nn.Module):
    """An MLX module whose parameters are also Keras weights.

    Args:
        name: the layer's name.
        trainable: False freezes all weights once they exist.
        dtype: anything that names a dtype policy.
    """

    def __init__(self, name: str, trainable: bool, dtype: Any) -> None:
        super().__init__()
        # Plain attributes: as entries of the module they would count as its state.
        empty: dict[str, Any] = {"_rules": {}, "_pending": {}, "_losses": [], "_build_shapes": {}}
        for key, value in empty.items():
            object.__setattr__(self, key, value)
        self.name = name
        self._path: str | None = None
        self._trainable = trainable
        self._dtype_policy = dtype_policies.get(dtype)

    def __setattr__(self, key: str, value: Any) -> None:
        plain = isinstance(value, (dict, list, tuple)) and not isinstance(value, nn.Module)
        if plain and value and not any(isinstance(v, (mx.array, dict)) for v in flat(value)):
            self.pop(key, None)
            object.__setattr__(self, key, value)  # e.g. state_size: a list of ints is no parameter
            return
        super().__setattr__(key, value)
        waiting = self.__dict__.get("_pending")
        if waiting and isinstance(value, mx.array) and id(value) in waiting:
            rule = waiting.pop(id(value))[1]
            self._rules[key] = rule = rule if rule.name else replace(rule, name=key)
            if not rule.trainable:
                self.freeze(recurse=False, keys=key)

    # --- dtypes -----------------------------------------------------------------------------

    def _held_dtype(self) -> mx.Dtype | None:
        """The dtype of the first floating weight, which Module.set_dtype may have changed."""
        inner: mx.Dtype | None = None
        for key, value in self.items():
            if isinstance(value, mx.array):
                if value.dtype in _FLOATS and not key.startswith("_"):
                    return value.dtype
            elif inner is None:
                held = (one._held_dtype() for one in flat(value) if isinstance(one, StateHolder))
                inner = next((dtype for dtype in held if dtype is not None), None)
        return inner

    @property
    def compute_type(self) -> mx.Dtype:
        """The dtype of inputs, computation and outputs; ``compute_dtype`` is its name."""
        held, policy = self._held_dtype(), self._dtype_policy
        if held is None or (policy.mixed and held == mx.float32):
            return to_mlx(policy.compute_dtype)
        return held

    @property
    def dtype_policy(self) -> DTypePolicy:
        """The policy, renamed when the weights were cast with ``Module.set_dtype``."""
        held = self._held_dtype()
        if held is None or name_of(held) == self._dtype_policy.variable_dtype:
            return self._dtype_policy
        return DTypePolicy(name_of(held))

    @dtype_policy.setter
    def dtype_policy(self, value: Any) -> None:
        self._dtype_policy = dtype_policies.get(value)

    @property
    def variable_dtype(self) -> str:
        """Name of the weights' dtype."""
        return self.dtype_policy.variable_dtype

    @property
    def dtype(self) -> str:
        """Name of the weights' dtype."""
        return self.variable_dtype

    @property
    def compute_dtype(self) -> str:
        """Name of the dtype of inputs, computation and outputs."""
        return self.dtype_policy.compute_dtype

    # --- weights ----------------------------------------------------------------------------

    def add_weight(
        self,
        shape: Sequence[int] = (),
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        name: str | None = None,
    ) -> mx.array:
        """Return a new array for the caller to assign to an attribute, which makes it a weight.

        Args:
            shape: its shape. Default: a scalar.
            initializer: of its values. Default: glorot_uniform, zeros for integers.
            dtype: its dtype. Default: the layer's variable dtype.
            trainable: whether an optimizer may change it. Default: True.
            autocast: accepted; a layer casts its weights where it uses them.
            regularizer: penalty that appears in ``losses``. Default: None.
            constraint: projection that ``apply_constraints`` applies. Default: None.
            name: its name in ``weights``. Default: the attribute's.
        """
        mx_dtype = to_mlx(dtype or self.variable_dtype)
        if initializer is None:
            floating = mx.issubdtype(mx_dtype, mx.floating)
            initializer = "glorot_uniform" if floating else "zeros"
        made = initializers.get(initializer)(tuple(shape), dtype=name_of(mx_dtype))
        value = as_array(made, name or "weight", mx_dtype)
        rule = WeightRule(
            name or "", trainable, regularizers.get(regularizer), constraints.get(constraint)
        )
        self._pending[id(value)] = (value, rule)
        return value

    def _sublayers(self) -> Iterator[StateHolder]:
        """Layers held directly, in the order they were assigned."""
        for value in self.values():
            yield from (item for item in flat(value) if isinstance(item, StateHolder))

    def _own_variables(self) -> list[Variable]:
        keys = [k for k, v in self.items() if isinstance(v, mx.array) and not k.startswith("_")]
        found = [Variable(self, key, self._rules.get(key) or WeightRule(key)) for key in keys]
        return sorted(found, key=lambda variable: not variable.rule.trainable)

    @property
    def weights(self) -> list[Variable]:
        """All weights, own ones first, each once."""
        found = {(id(v.owner), v.key): v for v in self._own_variables()}
        for layer in self._sublayers():
            found.update({(id(v.owner), v.key): v for v in layer.weights})
        return list(found.values())

    @property
    def variables(self) -> list[Variable]:
        """Same as ``weights``: random seeds are no variables here."""
        return self.weights

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights an optimizer may change."""
        return [v for v in self.weights if v.trainable] if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights an optimizer may not change."""
        return [v for v in self.weights if not v.trainable] if self.trainable else self.weights

    trainable_variables = trainable_weights
    non_trainable_variables = non_trainable_weights

    @property
    def trainable(self) -> bool:
        """Whether the layer's weights are trained; setting it reaches all inner layers."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for variable in self._own_variables():
            if not value:
                self.freeze(recurse=False, keys=variable.key)
            elif variable.rule.trainable:
                self.unfreeze(recurse=False, keys=variable.key)
        for layer in self._sublayers():
            layer.trainable = value

    def get_weights(self) -> list[Any]:
        """Return NumPy copies of ``weights``; bfloat16, which NumPy lacks, as float32."""
        return [variable.numpy() for variable in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replace the values of ``weights``, in order.

        Raises:
            UsageError: another number of arrays.
            ShapeError: an array of another shape.
        """
        assign_all(self.name, self.weights, weights)

    def apply_constraints(self) -> None:
        """Project every constrained weight; call it after each optimizer update."""
        for variable in self.weights:
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable.value))

    def count_params(self) -> int:
        """Return the number of scalars in all weights; UsageError unless built."""
        if not self.built:
            raise UsageError(
                f"{self.name}.count_params", expected="a built layer", got="one not built yet",
                fix="call it or its build() first",
            )  # fmt: skip
        return sum(math.prod(variable.shape) for variable in self.weights)

    # --- losses -----------------------------------------------------------------------------

    def add_loss(self, loss: Any) -> None:
        """Add a scalar, or several, to ``losses`` until the next call."""
        self._losses.extend(loss if isinstance(loss, (list, tuple)) else [loss])

    def _own_losses(self) -> list[Any]:
        return [*self._losses, *(x for layer in self._sublayers() for x in layer._own_losses())]

    @property
    def losses(self) -> list[Any]:
        """Penalties of the last call and of the weights, as scalars to add to the loss."""
        penalties = [v.regularizer(v.value) for v in self.trainable_weights if v.regularizer]
        return [*self._own_losses(), *penalties]

    def _clear_losses(self) -> None:
        self._losses.clear()
        for layer in self._sublayers():
            layer._clear_losses()
