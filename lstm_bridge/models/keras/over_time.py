"""A whole model at every time step: what ``TimeDistributed`` of a model is.

Shape letters: N batch, L length.
"""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import ShapeError
from lstm_bridge.keras.masks import get_keras_mask, set_keras_mask
from lstm_bridge.models.graph import Graph, Node, Ref
from lstm_bridge.models.keras.runtime import KerasModel
from lstm_bridge.models.whole import MODELS, Part


class TimeDistributedModel(KerasModel):
    """Applies a model with one input and one output to each step of ``[N, L, ...]``.

    Source: keras.layers.TimeDistributed 3.15.
    """

    KIND: ClassVar[str] = "models.TimeDistributedModel"

    @classmethod
    def around(cls, model: KerasModel, name: str) -> TimeDistributedModel:
        """Return a model at every step, under a name of its own.

        Raises:
            ShapeError: the model takes or returns several arrays.
        """
        inputs, shape = model._options["inputs"], model._options["output_shapes"]
        if len(inputs) != 1 or not all(n is None or isinstance(n, int) for n in shape):
            raise ShapeError(
                f"{name}.layer", expected="a model with one input and one output",
                got=f"{len(inputs)} inputs, output shapes {shape}",
            )  # fmt: skip
        wide = [inputs[0]["shape"][0], None, *inputs[0]["shape"][1:]]
        options = {
            "name": name,
            "inputs": [{**inputs[0], "name": "inputs", "key": "inputs", "shape": wide}],
            "output_shapes": [shape[0], None, *shape[1:]],
        }
        nodes = (
            Node("inputs", "input"),
            Node("layer", "module", "layer", (Ref("inputs"),)),
            Node("output", "output", "", (Ref("layer"),)),
        )
        return cls([Part("layer", type(model).KIND, {}, model)], Graph(nodes), None, options)

    @property
    def layer(self) -> Any:
        """The model that is applied."""
        return self["layer"]

    def __call__(
        self, *inputs: Any, training: bool | None = None, mask: Any = None, **named: Any
    ) -> mx.array:
        """Run the model step by step.

        Args:
            inputs: ``[N, L, ...]``.
            training: passed on. Default: as the model takes it.
            mask: ``[N, L]`` or with more axes, passed on step by step. Default: that of the input.
            named: the input by name.

        Returns:
            The outputs, ``[N, L, ...]``.
        """
        values = self._given(inputs, named)
        x = values["inputs"]
        mask = get_keras_mask(x) if mask is None else as_array(mask, "mask")
        steps = [
            self.layer(x[:, t], training=training, mask=None if mask is None else mask[:, t])
            for t in range(x.shape[1])
        ]
        y = mx.stack(steps, axis=1)
        if mask is not None:
            set_keras_mask(y, mask)
        return y


MODELS[TimeDistributedModel.KIND] = TimeDistributedModel
