"""The base of the torch front-end's layers: an MLX module that torch's own habits work on."""

from __future__ import annotations

from typing import Any

from lstm_bridge.core.state_dict import StateDictModule
from lstm_bridge.errors import UnsupportedError
from lstm_bridge.torch.dtypes import requested_dtype


class Module(StateDictModule):
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

    def keep(self, **options: Any) -> None:
        """Set plain attributes whose values MLX would take for parts of the module, e.g. tuples."""
        for name, value in options.items():
            object.__setattr__(self, name, value)

    def extra_repr(self) -> str:
        """Return what stands between the parentheses of the module's repr."""
        return ""

    def _extra_repr(self) -> str:
        return self.extra_repr()
