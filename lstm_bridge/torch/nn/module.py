"""The base of the torch front-end's layers: an MLX module that torch's own habits work on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import mlx.nn

from lstm_bridge.errors import UnsupportedError
from lstm_bridge.torch.dtypes import requested_dtype
from lstm_bridge.torch.nn.state_dict import IncompatibleKeys, load_state_dict, state_dict


class Module(mlx.nn.Module):
    """An :class:`mlx.nn.Module` that calls ``forward`` and has torch's state dict and repr.

    ``parameters()``, ``train()``, ``eval()``, ``freeze()`` and the optimizers are MLX's.

    Source: torch.nn.Module 2.13.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return ``self.forward(*args, **kwargs)``."""
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's output; every subclass defines it.

        Raises:
            UnsupportedError: the subclass does not define it.
        """
        raise UnsupportedError(
            f"Module [{type(self).__name__}]", expected="a forward method", got="none"
        )

    def state_dict(
        self,
        *,
        destination: dict[str, mx.array] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, mx.array]:
        """Return all parameters by their dotted names, in the order they were made.

        Args:
            destination: dictionary to add to. Default: a new one.
            prefix: put in front of every name. Default: none.
            keep_vars: no effect here, because an MLX array carries no gradient history to keep.

        Returns:
            The dictionary.
        """
        return state_dict(self, {} if destination is None else destination, prefix)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Take over parameters by name; on error nothing is changed.

        Args:
            state_dict: names to mx.array, NumPy array or anything with DLPack.
            strict: missing and unexpected names are errors. Default: True.
            assign: keep the arrays' own dtypes instead of casting to the module's. Default: False.

        Returns:
            Named tuple of ``missing_keys`` and ``unexpected_keys``.

        Raises:
            ArgumentTypeError: ``state_dict`` is no mapping.
            CallError: names (when strict) or shapes do not fit.
        """
        return load_state_dict(self, state_dict, strict, assign)

    def to(self, *args: Any, **kwargs: Any) -> Module:
        """Cast the floating parameters to the dtype that is asked for, if any; return self.

        Args:
            args: torch's forms: a dtype, a device, a device and a dtype, or an array.
            kwargs: the same by name. A device has no effect here, because MLX arrays live in
                memory that all its devices share.
        """
        dtype = requested_dtype(args, kwargs)
        if dtype is not None:
            self.set_dtype(dtype)
        return self

    def extra_repr(self) -> str:
        """Return what stands between the parentheses of the module's repr."""
        return ""

    def _extra_repr(self) -> str:
        return self.extra_repr()
