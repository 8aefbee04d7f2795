"""``keras.layers.LSTM``: an RNN over an LSTMCell, with the cell's arguments as its own."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from lstm_bridge.errors import UnsupportedError, UsageError
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.lstm_cell import CELL_NOTES, LSTMCell
from lstm_bridge.keras.layers.rnn import RNN, RNN_NOTES, shortcut_drops_all
from lstm_bridge.keras.saving import keras_export


def _of_cell(name: str) -> property:
    """An attribute that is the cell's."""
    return property(lambda self: getattr(self.cell, name), doc=f"The cell's ``{name}``.")


@keras_export("keras.layers")
class LSTM(RNN):
    """A layer of LSTM over sequences ``[N, L, D]``.

    Args:
        units: see LSTMCell, like all arguments up to ``seed``.
        activity_regularizer: penalty on the output, divided by the batch size. Default: None.
        return_sequences: see RNN, like the next four.
        use_cudnn: ``"auto"`` or False; True is refused. Default: ``"auto"``.
        kwargs: ``zero_output_for_mask`` (see RNN), ``implementation`` (see LSTMCell) and the
            arguments of Layer.

    Raises:
        UnsupportedError: ``use_cudnn=True``.
        UsageError: a value out of range or of the wrong kind.

    Source: keras.layers.LSTM 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        **Layer.ARGUMENT_NOTES,
        **CELL_NOTES,
        **RNN_NOTES,
        "use_cudnn": "'auto' and False: no effect here, because there is no cuDNN in MLX; "
        "True: refused for that reason",
    }
    input_ndim = 3

    units = _of_cell("units")
    activation = _of_cell("activation")
    recurrent_activation = _of_cell("recurrent_activation")
    use_bias = _of_cell("use_bias")
    unit_forget_bias = _of_cell("unit_forget_bias")
    kernel_initializer = _of_cell("kernel_initializer")
    recurrent_initializer = _of_cell("recurrent_initializer")
    bias_initializer = _of_cell("bias_initializer")
    kernel_regularizer = _of_cell("kernel_regularizer")
    recurrent_regularizer = _of_cell("recurrent_regularizer")
    bias_regularizer = _of_cell("bias_regularizer")
    kernel_constraint = _of_cell("kernel_constraint")
    recurrent_constraint = _of_cell("recurrent_constraint")
    bias_constraint = _of_cell("bias_constraint")
    dropout = _of_cell("dropout")
    recurrent_dropout = _of_cell("recurrent_dropout")
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
        unit_forget_bias: bool = True,
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
        use_cudnn: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        cell = LSTMCell(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            unit_forget_bias=unit_forget_bias,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            name="lstm_cell",
            implementation=kwargs.pop("implementation", 2),
        )
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        _check_cudnn(use_cudnn)
        self.use_cudnn = use_cudnn

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        base = {key: value for key, value in super().get_config().items() if key != "cell"}
        return {"activity_regularizer": None, **base, **self.cell.own_config()}

    @classmethod
    def _from_arguments(cls, arguments: dict[str, Any]) -> Self:
        return cls(**arguments)


def _check_cudnn(use_cudnn: bool | str) -> None:
    if use_cudnn not in ("auto", True, False):
        raise UsageError("use_cudnn", expected="'auto', True or False", got=repr(use_cudnn))
    if use_cudnn is True:
        raise UnsupportedError(
            "use_cudnn", expected="'auto' or False", got="True", fix="MLX has no cuDNN"
        )
