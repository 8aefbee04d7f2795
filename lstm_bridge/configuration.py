"""What this installation runs on."""

from __future__ import annotations

import platform
from typing import Any

import mlx.core as mx

import lstm_bridge
from lstm_bridge.core import native


def config() -> dict[str, Any]:
    """Return the versions, the default device, and whether the fused CPU kernel serves.

    Returns:
        ``lstm_bridge``, ``mlx`` and ``python`` versions, ``machine``, ``device`` (MLX's default),
        and ``native``: ``serves``, the ``reason`` if it does not, the instruction set ``variant``
        in use, all ``variants`` of this processor, and ``threads``.
    """
    status = native.status()._asdict()
    return {
        "lstm_bridge": lstm_bridge.__version__,
        "mlx": str(mx.__version__),  # type: ignore[attr-defined]  # missing in mlx's stubs
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": mx.default_device().type.name,
        "native": status | {"variants": list(status["variants"])},
    }
