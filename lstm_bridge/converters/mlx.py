"""MLX's dialect: ``Wx``, ``Wh``, ``bias``, which is the canonical layout itself.

Shape letters: D input, H hidden.
"""

from __future__ import annotations

from lstm_bridge.converters.layer import Dialect, Found, FoundLayer, Slot, Tensors
from lstm_bridge.converters.names import clean, grouped, inverted
from lstm_bridge.converters.recipe import Source

SLOTS = (
    Slot("Wx", "Wx", "copy"),
    Slot("Wh", "Wh", "copy"),
    Slot("bias", "bias_x", "copy"),
)

_NAMES = {slot.parameter for slot in SLOTS}


def find(tensors: Tensors) -> Found:
    """Find ``mlx.nn.LSTM`` parameters; a lone ``bias`` belongs to some other layer."""
    found = Found(renamed=clean(tensors))
    for path, members in grouped(inverted(found.renamed), _NAMES.__contains__).items():
        if "Wx" not in members or "Wh" not in members:
            continue
        entries = {name: tensors.entries[source].shape for name, source in members.items()}
        rows, D = entries["Wx"] if len(entries["Wx"]) == 2 else (0, 0)
        H = rows // 4
        shapes = {"Wx": (4 * H, D), "Wh": (4 * H, H), "bias": (4 * H,)}
        wrong = [n for n, shape in entries.items() if shape != shapes[n] or 0 in shape]
        if wrong:
            found.refused[path] = tensors.refuse(
                members[wrong[0]],
                "Wx [4H, D], Wh [4H, H] and bias [4H]",
                f"Wx {list(entries['Wx'])}, {wrong[0]} {list(entries[wrong[0]])}",
                "this is no mlx.nn.LSTM; pass --ignore 'PREFIX.*' to leave it out",
            )
            found.claimed.update(dict.fromkeys(members.values(), path))
            continue
        found.layers.append(
            FoundLayer(
                path,
                "mlx.nn.LSTM",
                {"input_size": D, "hidden_size": H, "bias": "bias" in members},
                {name: Source(source) for name, source in members.items()},
            )
        )
    return found


DIALECT = Dialect("mlx", ("mlx.nn.LSTM",), {}, SLOTS, find)
