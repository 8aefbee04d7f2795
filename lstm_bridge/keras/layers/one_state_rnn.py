"""``keras.layers.GRU`` and ``SimpleRNN``: an RNN over a cell, whose arguments are the layer's."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from lstm_bridge.errors import UnsupportedError, UsageError
from lstm_bridge.keras.layers.gru_cell import GRUCell
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.lstm_cell import CELL_NOTES
from lstm_bridge.keras.layers.recurrent_cell import OneStateCell
from lstm_bridge.keras.layers.rnn import RNN, RNN_NOTES, shortcut_drops_all
from lstm_bridge.keras.layers.simple_rnn_cell import SIMPLE_NOTES, SimpleRNNCell
from lstm_bridge.keras.saving import keras_export

_OF_RNN = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll")


class OneStateRNN(RNN):
    """An RNN that makes its cell itself; the cell's arguments are attributes of the layer.

    Args:
        cell_class: the cell.
        arguments: the sub-class's constructor arguments, by name.
        kwargs: ``zero_output_for_mask`` and the arguments of Layer.
    """

    input_ndim = 3

    def __init__(
        self, cell_class: type[OneStateCell], arguments: dict[str, Any], **kwargs: Any
    ) -> None:
        own = ("self", "kwargs", "__class__", "activity_regularizer", "use_cudnn", *_OF_RNN)
        cell_arguments = {k: v for k, v in arguments.items() if k not in own}
        if "implementation" in kwargs:
            implementation = kwargs.pop("implementation")
            if cell_class is GRUCell:
                cell_arguments["implementation"] = implementation
        cell = cell_class(
            **cell_arguments,
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            name=CELL_NAMES[cell_class],
        )
        super().__init__(
            cell,
            activity_regularizer=arguments["activity_regularizer"],
            **{name: arguments[name] for name in _OF_RNN},
            **kwargs,
        )

    def __getattr__(self, key: str) -> Any:
        # The cell's own arguments are the layer's too: ``layer.units``.
        if key in CELL_ARGUMENTS and "cell" in self:
            return getattr(self["cell"], key)
        return super().__getattr__(key)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        base = {key: value for key, value in super().get_config().items() if key != "cell"}
        return {"activity_regularizer": None, **base, **self.cell.own_config()}

    @classmethod
    def _from_arguments(cls, arguments: dict[str, Any]) -> Self:
        return cls(**arguments)


CELL_NAMES: dict[type[OneStateCell], str] = {GRUCell: "gru_cell", SimpleRNNCell: "simple_rnn_cell"}
CELL_ARGUMENTS = {
    *("units", "activation", "recurrent_activation", "use_bias", "dropout", "recurrent_dropout"),
    *("reset_after", "seed"),
    *(
        f"{part}_{kind}"
        for part in OneStateCell.PARTS
        for kind in ("initializer", "regularizer", "constraint")
    ),
}


@keras_export("keras.layers")
class GRU(OneStateRNN):
    """A layer of GRU over sequences ``[N, L, D]``.

    Args:
        units: see GRUCell, like all arguments up to ``seed``.
        activity_regularizer: penalty on the output, divided by the batch size. Default: None.
        return_sequences: see RNN, like the next four.
        reset_after: see GRUCell. Default: True.
        use_cudnn: ``"auto"`` or False; True is refused. Default: ``"auto"``.
        kwargs: ``zero_output_for_mask`` (see RNN), ``implementation`` (see GRUCell) and the
            arguments of Layer.

    Raises:
        UnsupportedError: ``use_cudnn=True``.
        UsageError: a value out of range or of the wrong kind.

    Source: keras.layers.GRU 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        **Layer.ARGUMENT_NOTES,
        **CELL_NOTES,
        **RNN_NOTES,
        "use_cudnn": "'auto' and False: no effect here, because there is no cuDNN in MLX; "
        "True: refused for that reason",
    }
    _drops_all = shortcut_drops_all

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        reset_after: bool = True,
        use_cudnn: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(GRUCell, dict(locals()), **kwargs)
        if use_cudnn not in ("auto", True, False):
            raise UsageError("use_cudnn", expected="'auto', True or False", got=repr(use_cudnn))
        if use_cudnn is True:
            raise UnsupportedError(
                "use_cudnn", expected="'auto' or False", got="True", fix="MLX has no cuDNN"
            )
        self.use_cudnn = use_cudnn


@keras_export("keras.layers")
class SimpleRNN(OneStateRNN):
    """A layer of a simple RNN over sequences ``[N, L, D]``.

    Args:
        units: see SimpleRNNCell, like all arguments up to ``seed``.
        activity_regularizer: penalty on the output, divided by the batch size. Default: None.
        return_sequences: see RNN, like the next four.
        kwargs: ``zero_output_for_mask`` (see RNN) and the arguments of Layer.

    Raises:
        UsageError: a value out of range or of the wrong kind.

    Source: keras.layers.SimpleRNN 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        **Layer.ARGUMENT_NOTES,
        **SIMPLE_NOTES,
        **RNN_NOTES,
    }

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(SimpleRNNCell, dict(locals()), **kwargs)
