"""xLSTMTime's arguments that configure Lightning's training loop and logs, not the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstm_bridge.errors import UnsupportedError, UsageError

_LOGGING = "no effect here, because it configures Lightning's logging; kept in hparams"
_TRAINING = (
    "no effect here, because it configures Lightning's training loop; kept in hparams: build the "
    "optimizer and the loss with mlx"
)
_DATASET = "no effect here, because upstream drops it too"

LOSS_NOTE = (
    "no effect on the network; kept in hparams. Default None here, SMAPE() upstream: train with a "
    "loss function of your own"
)

NOTES: dict[str, str] = {
    "dataset_parameters": "no effect here, because only upstream's predict() on a "
    "TimeSeriesDataSet reads it; kept in hparams",
    "log_interval": _LOGGING,
    "log_val_interval": _LOGGING,
    "learning_rate": _TRAINING,
    "log_gradient_flow": _LOGGING,
    "logging_metrics": _LOGGING,
    "reduce_on_plateau_patience": _TRAINING,
    "reduce_on_plateau_reduction": _TRAINING,
    "reduce_on_plateau_min_lr": _TRAINING,
    "weight_decay": _TRAINING,
    "optimizer_params": _TRAINING,
    "monotone_constraints": "refused unless empty, because it adds a gradient penalty to the loss "
    "inside Lightning's training step",
    "output_transformer": "no effect on the network's output, as upstream: transform_output, which "
    "reads it, is not mirrored; kept in hparams",
    "optimizer": _TRAINING,
    "target": _DATASET,
    "target_lags": _DATASET,
}
"""What becomes of each keyword that upstream's base class takes."""

_DROPPED = ("target", "target_lags")


def accept(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords worth keeping.

    Raises:
        UsageError: a keyword that upstream does not know.
        UnsupportedError: a keyword whose effect cannot be had here.
    """
    unknown = sorted(kwargs.keys() - NOTES.keys())
    if unknown:
        raise UsageError(
            "xLSTMTime", expected=f"keywords among {', '.join(NOTES)}", got=", ".join(unknown)
        )
    if kwargs.get("monotone_constraints"):
        raise UnsupportedError(
            "xLSTMTime monotone_constraints",
            expected="none",
            got=repr(kwargs["monotone_constraints"]),
            fix="upstream adds them to the loss in Lightning's training step; add the penalty to "
            "your own loss",
        )
    return {name: value for name, value in kwargs.items() if name not in _DROPPED}
