"""Layers inside a module, called in the ways that their forwards allow, in both modes."""

from __future__ import annotations

from typing import Any

import pytest

import lstm_bridge

torch = pytest.importorskip("torch", reason="ports start from live torch modules")
nn = torch.nn


class Calls(nn.Module):
    """Calls one layer with what it is given."""

    def __init__(self, layer: Any, options: dict[str, Any]) -> None:
        super().__init__()
        self.layer, self.options = layer, options

    def forward(self, *inputs: Any) -> Any:
        return self.layer(*inputs, **self.options)


class Attends(nn.Module):
    """Attention with masks that may be missing."""

    def __init__(self, weights: bool, **options: Any) -> None:
        super().__init__()
        self.attention, self.weights = nn.MultiheadAttention(8, 2, **options), weights

    def forward(self, q: Any, k: Any, v: Any, padding: Any = None, mask: Any = None) -> Any:
        return self.attention(
            q, k, v, key_padding_mask=padding, attn_mask=mask, need_weights=self.weights
        )


class Encodes(nn.Module):
    """Transformer layers with masks that may be missing."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x: Any, mask: Any = None, padding: Any = None) -> Any:
        return self.encoder(x, mask=mask, src_key_padding_mask=padding)


def randn(*sizes: tuple[int, ...]) -> Any:
    return lambda: tuple(torch.randn(*size) for size in sizes)


def padding(N: int, L: int) -> Any:
    mask = torch.zeros(N, L, dtype=torch.bool)
    mask[0, -2:] = True
    return mask


CAUSAL = torch.triu(torch.ones(4, 4), 1).bool()
QKV = ((3, 4, 8), (3, 5, 8), (3, 5, 8))
ENCODER = {"d_model": 8, "nhead": 2, "dim_feedforward": 16, "dropout": 0.0}
BAGS = torch.tensor([0, 3, 3, 7])


def tokens(*size: int) -> Any:
    return torch.randint(0, 10, size)


CALLS: dict[str, tuple[Any, Any]] = {
    **{
        f"attention {weights} {name}": (lambda w=weights, o=options: Attends(w, **o), draw)
        for weights in (True, False)
        for name, options, draw in [
            ("padding", {"batch_first": True}, lambda: (*randn(*QKV)(), padding(3, 5))),
            (
                "added",
                {"batch_first": True},
                lambda: (*randn(*QKV)(), padding(3, 5).float() * -2, torch.randn(4, 5)),
            ),
            (
                "extra keys",
                {"kdim": 5, "vdim": 6, "add_bias_kv": True, "add_zero_attn": True},
                lambda: (*randn((4, 3, 8), (5, 3, 5), (5, 3, 6))(), padding(3, 5)),
            ),
            ("no batch", {"bias": False}, randn((4, 8), (5, 8), (5, 8))),
        ]
    },
    "attention causal": (
        lambda: Attends(True, batch_first=True),
        lambda: (*randn(*[(3, 4, 8)] * 3)(), None, CAUSAL),
    ),
    **{
        f"encoder layer {act} {first}": (
            lambda a=act, f=first: nn.TransformerEncoderLayer(
                **ENCODER, activation=a, batch_first=True, norm_first=f
            ),
            randn((3, 4, 8)),
        )
        for act in ("relu", "gelu")
        for first in (False, True)
    },
    "encoder padded": (Encodes, lambda: (torch.randn(3, 4, 8), None, padding(3, 4))),
    "encoder causal": (Encodes, lambda: (torch.randn(3, 4, 8), CAUSAL, None)),
    "decoder layer": (
        lambda: nn.TransformerDecoderLayer(**ENCODER, batch_first=True),
        randn((3, 4, 8), (3, 5, 8)),
    ),
    **{
        f"bags {mode} {index}": (
            lambda m=mode, i=index: nn.EmbeddingBag(10, 4, mode=m, padding_idx=i),
            lambda: (tokens(9), BAGS),
        )
        for mode in ("sum", "mean", "max")
        for index in (None, 0)
    },
    "bags square": (lambda: nn.EmbeddingBag(10, 4, mode="max"), lambda: (tokens(3, 5),)),
    "bags ended": (
        lambda: nn.EmbeddingBag(10, 4, include_last_offset=True),
        lambda: (tokens(9), torch.tensor([0, 3, 3, 9])),
    ),
    "bags weighted": (
        lambda: nn.EmbeddingBag(10, 4, mode="sum"),
        lambda: (tokens(9), BAGS, torch.randn(9)),
    ),
    "lp pool": (lambda: nn.LPPool1d(3, 3, 2, ceil_mode=True), lambda: (torch.rand(2, 4, 10),)),
    "cross entropy": (
        lambda: nn.CrossEntropyLoss(torch.rand(4), ignore_index=2),
        lambda: (torch.randn(9, 4), torch.randint(0, 4, (9,))),
    ),
    "transposed 2d": (
        lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1),
        randn((2, 4, 5, 4)),
    ),
    "instances 2d": (lambda: nn.InstanceNorm2d(4, affine=True), randn((3, 4, 6, 5))),
    "upsampled": (lambda: nn.Upsample(scale_factor=1.7, mode="linear"), randn((3, 4, 6))),
    **{
        cls.__name__: (lambda c=cls: c(2), randn((3, 4, 6, 5)))
        for cls in (nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ZeroPad2d)
    },
    "circular": (lambda: nn.CircularPad1d((1, 2)), randn((3, 4, 6))),
}


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_of_a_layer_is_torchs(
    given_values: Any, compared: Any, failures: Any, name: str, mode: str
) -> None:
    make, make_inputs = CALLS[name]
    layer = make()
    module = layer if layer.__module__ == __name__ else Calls(layer, {})
    given_values(module).train(mode == "train")

    def draw(seed: int) -> tuple[Any, ...]:
        torch.manual_seed(seed)
        inputs: tuple[Any, ...] = make_inputs()
        return inputs

    ported = lstm_bridge.port(module, draw(0))
    dead = "attention" in name or "coder" in name  # some true gradients are zero: noise in both
    assert failures(compared(module, ported, draw, gradients=not dead)) == []


def test_a_wrong_mask_is_caught(given_values: Any, compared: Any, failures: Any) -> None:
    module = given_values(Attends(True, batch_first=True)).eval()
    ported = lstm_bridge.port(module, (*randn(*QKV)(), padding(3, 5)))

    def draw(seed: int) -> tuple[Any, ...]:
        torch.manual_seed(seed)
        return (*randn(*QKV)(), padding(3, 5))

    class Unmasked:
        def __call__(self, *inputs: Any) -> Any:
            return ported(*inputs[:3])

        def __getattr__(self, name: str) -> Any:
            return getattr(ported, name)

    assert failures(compared(module, ported, draw, gradients=False)) == []
    assert failures(compared(module, Unmasked(), draw, gradients=False)) != []
