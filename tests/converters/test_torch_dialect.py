"""torch's names: what makes a layer, what is refused, and the line that says so."""

from __future__ import annotations

import pytest

from lstm_bridge.converters.layer import Tensors
from lstm_bridge.converters.plan import Plan, make_plan
from lstm_bridge.converters.recipe import Entry, Source
from lstm_bridge.errors import RefusedInput, SemanticError, UsageError

D, H, P = 3, 5, 2


def lstm(
    prefix: str = "lstm.", layers: int = 1, reverse: bool = False, bias: bool = True, proj: int = 0
) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    width, out = D, proj or H
    for k in range(layers):
        for r in ("", "_reverse") if reverse else ("",):
            shapes[f"{prefix}weight_ih_l{k}{r}"] = (4 * H, width)
            shapes[f"{prefix}weight_hh_l{k}{r}"] = (4 * H, out)
            if bias:
                shapes |= {f"{prefix}bias_{p}_l{k}{r}": (4 * H,) for p in ("ih", "hh")}
            if proj:
                shapes[f"{prefix}weight_hr_l{k}{r}"] = (proj, H)
        width = out * (2 if reverse else 1)
    return shapes


def plan(shapes: dict[str, tuple[int, ...]], dtype: str = "F32", **more: object) -> Plan:
    ignore = more.pop("ignore", ())
    entries = {name: Entry(shape, dtype) for name, shape in shapes.items()}
    metadata = more.pop("metadata", {})
    return make_plan(Tensors("m.pt", entries, metadata, **more), ignore)  # type: ignore[arg-type]


def without(shapes: dict[str, tuple[int, ...]], *names: str) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in shapes.items() if name not in names}


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("proj", [0, P])
def test_options_come_from_the_shapes(layers: int, reverse: bool, bias: bool, proj: int) -> None:
    shapes = lstm(layers=layers, reverse=reverse, bias=bias, proj=proj)
    made = plan(shapes | {"fc.weight": (1, H), "fc.bias": (1,)})
    (layer,) = made.layers
    assert (layer.path, layer.kind) == ("lstm", "torch.nn.LSTM")
    assert layer.options == {
        "input_size": D,
        "hidden_size": H,
        "num_layers": layers,
        "bidirectional": reverse,
        "proj_size": proj,
        "bias": bias,
        "batch_first": False,
        "dropout": 0.0,
    }
    assert {layer.name_of(p): r for p, r in layer.parameters.items()} == {
        name: Source(name) for name in shapes
    }
    assert made.passed == {"fc.weight": "fc.weight", "fc.bias": "fc.bias"}
    assert not made.refused


def test_a_cell_is_a_cell() -> None:
    made = plan({k.removesuffix("_l0"): v for k, v in lstm("").items()})
    assert [(x.path, x.kind) for x in made.layers] == [("", "torch.nn.LSTMCell")]
    assert made.layers[0].options == {"input_size": D, "hidden_size": H, "bias": True}


def test_what_the_file_does_not_hold_can_be_stated() -> None:
    made = plan(lstm(), assume={"batch_first": True})
    assert made.layers[0].options["batch_first"] is True
    assert "batch_first=True (stated)" in made.layers[0].rules[0]
    with pytest.raises(UsageError, match=r"assume: expected one of .*, got 'batchfirst'"):
        plan(lstm(), assume={"batchfirst": True})


@pytest.mark.parametrize(
    ("wrapped", "metadata"),
    [
        ("module.lstm.", {}),
        ("_orig_mod.module.lstm.", {}),
        ("module._orig_mod.lstm.", {}),
        ("state_dict.lstm.", {"sections": ("state_dict",)}),
        ("encoder_state_dict.module.lstm.", {"sections": ("encoder_state_dict",)}),
    ],
)
def test_wrappers_are_taken_off(wrapped: str, metadata: dict[str, object]) -> None:
    assert [x.path for x in plan(lstm(wrapped), metadata=metadata).layers] == ["lstm"]


def test_a_tensor_beside_the_state_dict_keeps_its_name() -> None:
    shapes = lstm("model_state_dict.module.lstm.") | {"loss": ()}
    made = plan(shapes, metadata={"sections": ("model_state_dict",)})
    assert [x.path for x in made.layers] == ["lstm"]
    assert made.passed == {"loss": "loss"}


@pytest.mark.parametrize(
    ("shapes", "metadata", "path"),
    [
        (lstm("model.lstm."), {}, "model.lstm"),
        (lstm("module.lstm.") | {"fc.weight": (1, H)}, {}, "module.lstm"),
        (lstm("encoder.lstm."), {"sections": ("encoder", "decoder")}, "encoder.lstm"),
    ],
)
def test_what_belongs_to_the_model_stays(
    shapes: dict[str, tuple[int, ...]], metadata: dict[str, object], path: str
) -> None:
    assert [x.path for x in plan(shapes, metadata=metadata).layers] == [path]


def test_colliding_names_are_refused() -> None:
    with pytest.raises(SemanticError, match=r"expected a name of its own once wrappers are taken"):
        plan(lstm("_orig_mod.lstm.") | lstm("lstm."))


GRU = {"lstm.weight_ih_l0": (3 * H, D), "lstm.weight_hh_l0": (3 * H, H)}
RNN = {"lstm.weight_ih_l0": (H, D), "lstm.weight_hh_l0": (H, H)}
NO_LSTM = "this is no LSTM; pass --ignore 'PREFIX.*' to leave it out"
REFUSALS = {
    "gru": (
        GRU,
        "[E500] m.pt tensor 'lstm.weight_hh_l0': expected 4H = 20 rows for H = 5, got 15 rows "
        f"(3H: looks like a GRU); {NO_LSTM}",
    ),
    "rnn": (
        RNN,
        "[E500] m.pt tensor 'lstm.weight_hh_l0': expected 4H = 20 rows for H = 5, got 5 rows "
        f"(1H: looks like a simple RNN); {NO_LSTM}",
    ),
    "rows not divisible by 4": (
        {"lstm.weight_ih_l0": (18, D), "lstm.weight_hh_l0": (18, H)},
        f"[E500] m.pt tensor 'lstm.weight_hh_l0': expected 4H = 20 rows for H = 5, got 18 rows; "
        f"{NO_LSTM}",
    ),
    "weight_ih of other rows": (
        lstm() | {"lstm.weight_ih_l0": (16, D)},
        f"[E500] m.pt tensor 'lstm.weight_ih_l0': expected shape [20, 3], got [16, 3]; {NO_LSTM}",
    ),
    "next layer's input": (
        lstm(layers=2, reverse=True) | {"lstm.weight_ih_l1": (4 * H, H)},
        f"[E500] m.pt tensor 'lstm.weight_ih_l1': expected shape [20, 10], got [20, 5]; {NO_LSTM}",
    ),
    "bias_ih without bias_hh": (
        without(lstm(), "lstm.bias_hh_l0"),
        "[E500] m.pt tensor 'lstm.weight_ih_l0': expected a bias_hh beside it, as in layer 0, got "
        "none; every layer needs the same parts, and a bias both of its halves",
    ),
    "bias in one layer only": (
        without(lstm(layers=2), "lstm.bias_ih_l0", "lstm.bias_hh_l0"),
        "[E500] m.pt tensor 'lstm.weight_ih_l1': expected no bias_ih beside it, as in layer 0, got "
        "one; every layer needs the same parts, and a bias both of its halves",
    ),
    "reverse for some layers": (
        lstm(layers=2) | {k: v for k, v in lstm(layers=2, reverse=True).items() if "l1_r" in k},
        "[E500] m.pt tensor 'lstm': expected reverse weights for every layer or none, got only "
        "l1_reverse; complete it",
    ),
    "reverse alone": (
        {k: v for k, v in lstm(reverse=True).items() if k.endswith("_reverse")},
        "[E500] m.pt tensor 'lstm': expected a layer l0 that runs forward, got none; the "
        "checkpoint is incomplete",
    ),
    "layer gap": (
        {k.replace("l1", "l2"): v for k, v in lstm(layers=2).items()},
        "[E500] m.pt tensor 'lstm': expected layer l1, got none; layers and directions must be "
        "complete",
    ),
    "l01": (
        lstm() | {"lstm.weight_hh_l01": (4 * H, H)},
        "[E500] m.pt tensor 'lstm.weight_hh_l01': expected a layer suffix such as _l0 or "
        "_l1_reverse, got '_l01'; rename the tensor to torch's own spelling, or pass --ignore",
    ),
    "l-1": (
        lstm() | {"lstm.bias_ih_l-1": (4 * H,)},
        "[E500] m.pt tensor 'lstm.bias_ih_l-1': expected a layer suffix such as _l0 or "
        "_l1_reverse, got '_l-1'; rename the tensor to torch's own spelling, or pass --ignore",
    ),
    "Unicode digits": (
        lstm() | {"lstm.weight_hh_l٣": (4 * H, H)},
        "[E500] m.pt tensor 'lstm.weight_hh_l٣': expected a layer suffix such as _l0 or "
        "_l1_reverse, got '_l٣'; rename the tensor to torch's own spelling, or pass --ignore",
    ),
    "no weight_hh": (
        without(lstm(), "lstm.weight_hh_l0"),
        "[E500] m.pt tensor 'lstm': expected a tensor weight_hh_l0, got none; the checkpoint is "
        "incomplete",
    ),
    "zero-size": (
        {"lstm.weight_ih_l0": (0, D), "lstm.weight_hh_l0": (0, 0)},
        f"[E500] m.pt tensor 'lstm.weight_hh_l0': expected shape [4H, H], got [0, 0]; {NO_LSTM}",
    ),
    "a cell and a layer under one name": (
        lstm() | {k.removesuffix("_l0"): v for k, v in lstm().items()},
        "[E500] m.pt tensor 'lstm': expected the parameters of one cell or of one LSTM, got both "
        "bias_hh, bias_hh_l0, bias_ih, bias_ih_l0, weight_hh, weight_hh_l0, weight_ih, "
        "weight_ih_l0; split the file",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_name_the_tensor_and_the_fix(case: str) -> None:
    shapes, message = REFUSALS[case]
    made = plan(shapes)
    with pytest.raises(RefusedInput) as caught:
        made.require("m.pt")
    assert str(caught.value) == message
    assert set(made.claimed) == set(shapes), "a refused layer's tensors are accounted for"


def test_a_refused_layer_can_be_ignored() -> None:
    gru = {name.replace("lstm", "gru"): shape for name, shape in GRU.items()}
    made = plan(lstm() | gru, ignore=("gru.*",))
    made.require("m.pt")
    assert made.ignored == ("gru.weight_ih_l0", "gru.weight_hh_l0")
    assert [x.path for x in made.layers] == ["lstm"]


def test_nothing_to_convert_is_refused() -> None:
    with pytest.raises(SemanticError, match="expected at least one LSTM-family layer, got 1 tens"):
        plan({"fc.weight": (2, 2)}).require("m.pt")


@pytest.mark.parametrize("dtype", ["I64", "BOOL", "U8"])
def test_integers_are_no_weights(dtype: str) -> None:
    with pytest.raises(RefusedInput, match=f"expected one of F64, F32, F16, BF16, got {dtype}"):
        plan(lstm(), dtype).require("m.pt")


def test_mixed_dtypes_in_a_layer_are_refused() -> None:
    entries = {name: Entry(shape, "F32") for name, shape in lstm().items()}
    entries["lstm.bias_ih_l0"] = Entry((4 * H,), "F16")
    made = make_plan(Tensors("m.pt", entries, {}))
    with pytest.raises(RefusedInput, match="expected F32, as the rest of its layer, got F16"):
        made.require("m.pt")


def test_every_tensor_has_exactly_one_fate() -> None:
    shapes = lstm("a.") | {f"b.{k.partition('.')[2]}": v for k, v in GRU.items()}
    shapes |= {"fc.weight": (1, H), "skip.me": (7,)}
    made = plan(shapes, ignore=("skip.*",))
    used = [s.name for x in made.layers for s in x.parameters.values() if isinstance(s, Source)]
    assert sorted([*used, *made.passed, *made.claimed, *made.ignored]) == sorted(shapes)
