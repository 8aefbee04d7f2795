"""Names and shapes that make no layer: the page's Semantic paragraph, line by line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

D, H = 3, 5
State = dict[str, torch.Tensor]
NO_LSTM = "this is no LSTM; pass --ignore 'PREFIX.*' to leave it out"
INCOMPLETE = "the checkpoint is incomplete"
SUFFIX = (
    "expected a layer suffix such as _l0 or _l1_reverse, got {!r}; rename the tensor to torch's "
    "own spelling, or pass --ignore"
)


def lstm(prefix: str = "", **options: object) -> State:
    torch.manual_seed(0)
    state = torch.nn.LSTM(D, H, **options).state_dict()  # type: ignore[arg-type]
    return {prefix + name: tensor for name, tensor in state.items()}


def without(state: State, *names: str) -> State:
    return {name: tensor for name, tensor in state.items() if name not in names}


def renamed(state: State, old: str, new: str) -> State:
    return {name.replace(old, new): tensor for name, tensor in state.items()}


def rows(count: int) -> State:
    return {"weight_ih_l0": torch.ones(count, D), "weight_hh_l0": torch.ones(count, H)}


class Case(NamedTuple):
    """A state dict, the one line that must come of converting it, and the options used."""

    state: Callable[[], object]
    message: str
    options: tuple[str, ...] = ()
    status: int = 3


def bad(state: Callable[[], object], tensor: str, rest: str) -> Case:
    return Case(state, f"[E500] m.pt tensor '{tensor}': {rest}")


def quantized() -> object:
    """What ``quantize_dynamic`` leaves of an LSTM: a quantized tensor under torch's plain names."""
    weight = torch.quantize_per_tensor(torch.ones(4 * H, H), 0.1, 0, torch.qint8)
    return {**lstm(), "weight_hh_l0": weight}


def two() -> State:
    return lstm("encoder.") | lstm("decoder.")


CASES: dict[str, dict[str, Case]] = {
    "rows not divisible by 4": {
        "18 rows": bad(
            lambda: rows(18),
            "weight_hh_l0",
            f"expected 4H = 20 rows for H = 5, got 18 rows; {NO_LSTM}",
        )
    },
    "3H rows": {
        "a GRU": bad(
            lambda: torch.nn.GRU(D, H).state_dict(),
            "weight_hh_l0",
            f"expected 4H = 20 rows for H = 5, got 15 rows (3H: looks like a GRU); {NO_LSTM}",
        )
    },
    "1H rows": {
        "an RNN": bad(
            lambda: torch.nn.RNN(D, H).state_dict(),
            "weight_hh_l0",
            f"expected 4H = 20 rows for H = 5, got 5 rows (1H: looks like a simple RNN); {NO_LSTM}",
        )
    },
    "weight_hh not 4H×H": {
        "another H": bad(
            lambda: {**lstm(), "weight_hh_l0": torch.ones(20, 4)},
            "weight_hh_l0",
            f"expected 4H = 16 rows for H = 4, got 20 rows; {NO_LSTM}",
        ),
        "of rank 3": bad(
            lambda: {**lstm(), "weight_hh_l0": torch.ones(20, 5, 1)},
            "weight_hh_l0",
            f"expected shape [4H, H], got [20, 5, 1]; {NO_LSTM}",
        ),
        "of rank 0": bad(
            lambda: {**lstm(), "weight_hh_l0": torch.tensor(1.0)},
            "weight_hh_l0",
            f"expected shape [4H, H], got []; {NO_LSTM}",
        ),
    },
    "layer l's input not H × directions": {
        "one direction's H": bad(
            lambda: {
                **lstm(num_layers=2, bidirectional=True),
                "weight_ih_l1": torch.ones(4 * H, H),
            },
            "weight_ih_l1",
            f"expected shape [20, 10], got [20, 5]; {NO_LSTM}",
        )
    },
    "bias_ih without bias_hh": {
        "in layer 0": bad(
            lambda: without(lstm(), "bias_hh_l0"),
            "weight_ih_l0",
            "expected a bias_hh beside it, as in layer 0, got none; every layer needs the same "
            "parts, and a bias both of its halves",
        )
    },
    "_reverse for some layers only, or alone": {
        "some": bad(
            lambda: without(
                lstm(num_layers=2, bidirectional=True),
                *(f"{p}_l1_reverse" for p in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
            ),
            "(root)",
            "expected layer l1_reverse, got none; layers and directions must be complete",
        ),
        "alone": bad(
            lambda: {
                name: tensor
                for name, tensor in lstm(bidirectional=True).items()
                if name.endswith("_reverse")
            },
            "(root)",
            f"expected a layer l0 that runs forward, got none; {INCOMPLETE}",
        ),
    },
    "layer gap l0, l2": {
        "no l1": bad(
            lambda: renamed(lstm(num_layers=2), "_l1", "_l2"),
            "(root)",
            "expected layer l1, got none; layers and directions must be complete",
        )
    },
    "l01, l-1, Unicode digits": {
        suffix: bad(
            lambda suffix=suffix: {**lstm(), f"weight_hh{suffix}": torch.ones(20, H)},
            f"weight_hh{suffix}",
            SUFFIX.format(suffix),
        )
        for suffix in ("_l01", "_l-1", "_l٣", "_l1_Reverse", "_l")
    },
    "several candidate LSTMs where one is asked for": {
        "a file that holds one": Case(
            two,
            "[E500] m.pt: expected one recurrent layer, since how several are connected is not "
            "known, got encoder, decoder; choose one with --prefix PATH",
            ("--to", "keras"),
        ),
        "a prefix of none": Case(
            two,
            "[E700] prefix: expected one of encoder, decoder, got 'coder'",
            ("--prefix", "coder"),
            2,
        ),
    },
    "prefix stripping that collides": {
        "_orig_mod": bad(
            lambda: lstm("_orig_mod.") | lstm(),
            "weight_ih_l0",
            "expected a name of its own once wrappers are taken off, got that of "
            "'_orig_mod.weight_ih_l0'; rename one of them in the source",
        )
    },
    "weight_norm keys": {
        "g without v": bad(
            lambda: {**without(lstm(), "weight_hh_l0"), "weight_hh_l0_g": torch.ones(20, 1)},
            "weight_hh_l0_g",
            f"expected weight_norm's g and v together, got one of them without the other; "
            f"{INCOMPLETE}",
        ),
        "v without g": bad(
            lambda: {**without(lstm(), "weight_hh_l0"), "weight_hh_l0_v": torch.ones(20, 5)},
            "weight_hh_l0_v",
            f"expected weight_norm's g and v together, got one of them without the other; "
            f"{INCOMPLETE}",
        ),
        "original0 without original1": bad(
            lambda: {
                **without(lstm(), "weight_hh_l0"),
                "parametrizations.weight_hh_l0.original0": torch.ones(20, 1),
            },
            "(root)",
            f"expected a tensor weight_hh_l0, got none; {INCOMPLETE}",
        ),
    },
    "LSTMCell keys": {
        "a cell and a layer under one name": bad(
            lambda: lstm(bias=False) | renamed(lstm(bias=False), "_l0", ""),
            "(root)",
            "expected the parameters of one cell or of one LSTM, got both weight_hh, weight_hh_l0, "
            "weight_ih, weight_ih_l0; split the file",
        )
    },
    "both square matrices": {
        "Wx and Wh": bad(
            lambda: {"Wx": torch.ones(4, 4), "Wh": torch.ones(4, 4)},
            "Wh",
            "expected Wx [4H, D], Wh [4H, H] and bias [4H], got Wx [4, 4], Wh [4, 4]; this is no "
            "mlx.nn.LSTM; pass --ignore 'PREFIX.*' to leave it out",
        ),
        "weight_ih and weight_hh": bad(
            lambda: {"weight_ih_l0": torch.ones(4, 4), "weight_hh_l0": torch.ones(4, 4)},
            "weight_hh_l0",
            "expected 4H = 16 rows for H = 4, got 4 rows (1H: looks like a simple RNN); " + NO_LSTM,
        ),
        "transposed": bad(
            lambda: {"weight_ih_l0": torch.ones(D, 20), "weight_hh_l0": torch.ones(H, 20)},
            "weight_hh_l0",
            f"expected 4H = 80 rows for H = 20, got 5 rows; {NO_LSTM}",
        ),
    },
    "unconsumed tensors": {
        "beside the one layer of a Keras file": Case(
            lambda: {**lstm("lstm."), "fc.weight": torch.ones(2, H)},
            "[E500] m.pt: expected no tensors beside the recurrent layer's, got 1, the first "
            "'fc.weight'; leave them out with --prefix or --ignore",
            ("--to", "keras"),
        ),
        "none at all are recurrent": Case(
            lambda: {"fc.weight": torch.ones(2, H)},
            "[E500] m.pt: expected at least one LSTM-family layer, got 1 tensors of other kinds; "
            "see what the file holds with: lstm-bridge inspect FILE",
        ),
    },
    "quantized LSTM": {
        "quantize_dynamic": Case(
            quantized,
            "[E100] m.pt:m/data.pkl tensor 'weight_hh_l0': expected a tensor that torch's plain "
            "rebuild functions make, got a quantized tensor made by "
            "'torch._utils._rebuild_qtensor'; save a state_dict of plain tensors",
        )
    },
}

PAGE = [*CASES, "optimizer/EMA state beside the weights"]
"""The lines of the page's paragraph; what the last one holds converts, and is told."""


@pytest.mark.filterwarnings("ignore:.*quant:UserWarning", "ignore:.*quant:DeprecationWarning")
@pytest.mark.parametrize(
    ("line", "case"), [(line, case) for line, cases in CASES.items() for case in cases]
)
def test_it_is_one_line_and_nothing_else(line, case, bridge, tmp_path) -> None:
    state, message, options, status = CASES[line][case]
    torch.save(state(), tmp_path / "m.pt")
    target = "out.keras" if "keras" in options else "out"
    result = bridge(tmp_path, "convert", "m.pt", target, *options)
    assert result.stderr == f"error{message}\n"
    assert result.status == status


def test_a_cell_is_accepted_as_a_cell(bridge, tmp_path) -> None:
    torch.save(torch.nn.LSTMCell(D, H).state_dict(), tmp_path / "m.pt")
    result = bridge(tmp_path, "convert", "m.pt", "out", "--json")
    assert [x["class"] for x in json.loads(result.stdout)["layers"]] == ["torch.nn.LSTMCell"]


def test_one_of_several_candidates_is_chosen(bridge, tmp_path) -> None:
    torch.save(two(), tmp_path / "m.pt")
    result = bridge(tmp_path, "convert", "m.pt", "out", "--prefix", "decoder", "--json")
    account = json.loads(result.stdout)
    assert [layer["path"] for layer in account["layers"]] == ["decoder"]
    assert account["ignored"] == [f"encoder.{name}" for name in lstm()]


def test_unconsumed_tensors_are_left_out_when_asked(bridge, tmp_path) -> None:
    torch.save({**lstm("lstm."), "fc.weight": torch.ones(2, H)}, tmp_path / "m.pt")
    options = ("--to", "keras", "--ignore", "fc.*", "--json")
    result = bridge(tmp_path, "convert", "m.pt", "out.keras", *options)
    assert json.loads(result.stdout)["ignored"] == ["fc.weight"]


def test_weight_norm_whole_is_multiplied_out(bridge, tmp_path) -> None:
    torch.manual_seed(0)
    normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.LSTM(D, H), "weight_hh_l0")
    torch.save(normed.state_dict(), tmp_path / "m.pt")
    result = bridge(tmp_path, "convert", "m.pt", "out", "--json")
    assert json.loads(result.stdout)["tensors"]["weight_hh_l0"]["how"] == "weight_norm applied"


def test_optimizer_state_is_left_out_and_said_so(bridge, tmp_path: Path) -> None:
    model = torch.nn.LSTM(D, H)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 1, D))[0].sum().backward()
    optimizer.step()
    both = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(both, tmp_path / "m.pt")
    result = bridge(tmp_path, "convert", "m.pt", "out", "--json")
    account = json.loads(result.stdout)
    assert list(account["left_out"]) == ["optimizer"]
    assert "optimizer" in account["left_out"]["optimizer"]
    assert set(account["tensors"]) == set(model.state_dict())


def test_an_average_beside_the_weights_is_another_candidate(bridge, tmp_path: Path) -> None:
    torch.save({"model": lstm(), "ema": lstm()}, tmp_path / "m.pt")
    result = bridge(tmp_path, "convert", "m.pt", "out", "--prefix", "ema", "--json")
    assert [x["path"] for x in json.loads(result.stdout)["layers"]] == ["ema"]
    assert np.all([name.startswith("model.") for name in json.loads(result.stdout)["ignored"]])


def test_every_line_of_the_page_has_a_case() -> None:
    assert all(CASES.values())
    assert len(PAGE) == 17
