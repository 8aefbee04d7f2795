"""pytorch-forecasting's xLSTMTime. Shape letters: N batch, L length, D input, H hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, NoReturn

import mlx.core as mx

from lstm_bridge.core.affine import Linear
from lstm_bridge.core.arrays import as_array
from lstm_bridge.core.state_dict import StateDictModule
from lstm_bridge.errors import ShapeError, UnsupportedError, UsageError
from lstm_bridge.pytorch_forecasting import _checks
from lstm_bridge.pytorch_forecasting._norms import BatchNorm1d, instance_norm
from lstm_bridge.pytorch_forecasting.layers import SeriesDecomposition, mLSTMNetwork, sLSTMNetwork
from lstm_bridge.pytorch_forecasting.models.xlstm import _arguments
from lstm_bridge.pytorch_forecasting.models.xlstm._output import Output

_NETWORKS = {"slstm": sLSTMNetwork, "mlstm": mLSTMNetwork}


class xLSTMTime(StateDictModule):
    """Forecast from trend and seasonal part, through a batch norm and an xLSTM network.

    ``instance_norm(output_linear(lstm(batch_norm(input_linear([trend, seasonal])))))``, where, as
    upstream, the instance norm runs over the *batch*: a prediction depends on the other series
    in its batch, and a batch of one is refused.

    Args:
        input_size: D, number of continuous features per time step.
        hidden_size: H, width of the batch norm and of the network.
        output_size: number of steps predicted.
        xlstm_type: "slstm" or "mlstm". Default: "slstm".
        num_layers: number of stacked cells. Default: 1.
        decomposition_kernel: number of steps in the moving average. Default: 25.
        input_projection_size: as upstream, any other value than hidden_size constructs a model
            that cannot run. Default: hidden_size.
        dropout: dropout of the cells while training. Default: 0.1.
        loss: kept in hparams. Default: None.
        **kwargs: what upstream's base class takes, kept in hparams; see ``ARGUMENT_NOTES``.

    Raises:
        UsageError: a size below 1, an unknown xlstm_type or keyword.
        UnsupportedError: monotone_constraints.

    Source: pytorch_forecasting.models.xLSTMTime 1.8.0.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        "loss": _arguments.LOSS_NOTE,
        **_arguments.NOTES,
        "from_dataset": "refused, because a TimeSeriesDataSet needs pytorch-forecasting itself",
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        xlstm_type: Literal["slstm", "mlstm"] = "slstm",
        num_layers: int = 1,
        decomposition_kernel: int = 25,
        input_projection_size: int | None = None,
        dropout: float = 0.1,
        loss: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        _checks.positive(
            "xLSTMTime", input_size=input_size, hidden_size=hidden_size, output_size=output_size
        )
        if xlstm_type not in _NETWORKS:
            raise UsageError(
                "xLSTMTime xlstm_type", expected="'slstm' or 'mlstm'", got=repr(xlstm_type)
            )
        self.hparams = SimpleNamespace(
            input_size=input_size,
            hidden_size=hidden_size,
            output_size=output_size,
            xlstm_type=xlstm_type,
            num_layers=num_layers,
            decomposition_kernel=decomposition_kernel,
            input_projection_size=input_projection_size,
            dropout=dropout,
            loss=loss,
            **_arguments.accept(kwargs),
        )
        self.xlstm_type = xlstm_type
        self.decomposition = SeriesDecomposition(decomposition_kernel)
        self.batch_norm = BatchNorm1d(hidden_size)
        self.input_projection_size = input_projection_size or hidden_size
        self.input_linear = Linear(input_size * 2, self.input_projection_size)
        self.lstm = _NETWORKS[xlstm_type](
            hidden_size, hidden_size, num_layers, hidden_size, dropout
        )
        self.output_linear = Linear(hidden_size, output_size)

    def __call__(self, x: Mapping[str, Any], hidden_states: Sequence[Any] | None = None) -> Output:
        """Forecast a batch.

        Args:
            x: a batch as a TimeSeriesDataSet makes it; its ``"encoder_cont"``, ``[N, L, D]``, is
                read, with N ≥ 2 and L ≥ 1.
            hidden_states: the network's initial states, ``(h, c)`` or ``(h, c, n)``.
                Default: zeros.

        Returns:
            Output with ``prediction``, ``[N, output_size, 1]``.

        Raises:
            ShapeError: an array has another shape, or N = 1.
        """
        series = self._series(x)
        seasonal, trend = self.decomposition(series)
        y = self.input_linear(mx.concatenate([trend, seasonal], axis=-1))
        y = self.batch_norm(y).swapaxes(0, 1)
        if hidden_states is None:
            hidden_states = self.lstm.init_hidden(len(series))
        output, _ = self.lstm(y, *hidden_states)
        output = instance_norm(self.output_linear(output)[None])[0]
        return Output(prediction=output[..., None])

    def unfreeze(self, *args: Any, **kwargs: Any) -> xLSTMTime:
        """Unfreeze as MLX does, except the batch norm's statistics, which are no weights."""
        super().unfreeze(*args, **kwargs)
        # MLX unfreezes a child's parameters without asking the child.
        self.batch_norm.freeze_statistics()
        return self

    def _series(self, x: Mapping[str, Any]) -> mx.array:
        """Return the batch's continuous encoder features as an array, ``[N, L, D]``."""
        series = as_array(x["encoder_cont"], "xLSTMTime encoder_cont")
        D = self.hparams.input_size
        if series.ndim != 3 or series.shape[2] != D or not series.shape[1]:
            raise ShapeError(
                "xLSTMTime encoder_cont",
                expected=f"shape [N, L, {D}] with L ≥ 1",
                got=str(list(series.shape)),
            )
        return series

    @classmethod
    def from_dataset(cls, dataset: object, **kwargs: Any) -> NoReturn:
        """Refuse: a TimeSeriesDataSet belongs to pytorch-forecasting.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            f"{cls.__name__}.from_dataset",
            expected="the constructor's arguments",
            got=type(dataset).__name__,
            fix="construct upstream's model from the dataset, then copy its hparams and state dict",
        )
