"""Lines of forwards, each in a module of its own: ported rightly, or refused with the line."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

import lstm_bridge
from lstm_bridge.errors import UnsupportedError, UsageError

torch = pytest.importorskip("torch", reason="ports start from live torch modules")

_SPEC = importlib.util.spec_from_file_location(
    "forward_lines", Path(__file__).with_name("forward_lines.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
lines = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(lines)

PORTED = [name for name, (_, _, refused) in lines.LINES.items() if refused is None]
REFUSED = [name for name, (_, _, refused) in lines.LINES.items() if refused is not None]


def module_of(name: str) -> Any:
    return type(name, (lines.Base,), {"forward": lines.LINES[name][0]})()


def drawn(call: str, seed: int) -> tuple[Any, ...]:
    """Return the inputs of a call, of another batch and length for each seed."""
    g = torch.Generator().manual_seed(seed)
    N, L = 2 + seed % 2, 4 + 3 * (seed % 2)

    def randn(*size: int) -> Any:
        return torch.randn(*size, generator=g)

    made = {
        "x": lambda: randn(N, L, 3),
        "u": lambda: randn(L, 3),
        "i": lambda: torch.randint(0, 10, (N, L), generator=g),
        "l": lambda: torch.tensor([L, *[L - 2] * (N - 1)]),
        "s": lambda: (randn(1, N, 3), randn(1, N, 3)),
        "h": lambda: randn(1, N, 3),
        "m": lambda: randn(N, L) > -1,
        "d": lambda: {"a": randn(N, L, 3)},
    }
    return tuple(made[letter]() for letter in call.split())


@pytest.mark.parametrize("name", PORTED)
def test_lines_do_what_they_do_in_torch(
    given_values: Any, compared: Any, failures: Any, name: str
) -> None:
    module = given_values(module_of(name)).eval()
    ported = lstm_bridge.port(module)
    for call in lines.LINES[name][1]:
        verdicts = compared(module, ported, lambda s, c=call: drawn(c, s), gradients=False)
        assert failures(verdicts) == []


@pytest.mark.parametrize("name", REFUSED)
def test_lines_that_depend_on_values_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        lstm_bridge.port(module_of(name))
    text = str(caught.value)
    assert "forward_lines.py" in text
    assert lines.LINES[name][2] in text
    assert "\n" not in text


def test_a_dictionary_with_a_none_in_it(given_values: Any) -> None:
    class Batch(lines.Base):  # type: ignore[misc,name-defined]
        def forward(self, batch: Any) -> Any:
            y = self.fc(batch["x"])
            return y if batch.get("mask") is None else y * batch["mask"]

    module = given_values(Batch()).eval()
    x, mask = torch.randn(2, 4, 3), torch.rand(2, 4, 1)
    plain = lstm_bridge.port(module, ({"x": x, "mask": None},))
    masked = lstm_bridge.port(module, ({"x": x, "mask": mask},))
    given = {"x": mx.array(x.numpy()), "mask": mx.array(mask.numpy())}
    assert mx.allclose(plain(given) * given["mask"], masked(given)).item()
    assert not mx.allclose(plain(given), masked(given)).item()


def test_an_example_with_none_settles_it(given_values: Any) -> None:
    x, mask = torch.randn(2, 4, 3), torch.rand(2, 4, 3)
    ported = lstm_bridge.port(given_values(module_of("opt_mask")), (x, None))
    given = mx.array(x.numpy())
    assert mx.array_equal(ported(given), ported(given, None)).item()
    with pytest.raises(UsageError, match="mask None"):
        ported(given, mx.array(mask.numpy()))


def test_several_inputs_of_a_forward_without_names(given_values: Any) -> None:
    class Anything(lines.Base):  # type: ignore[misc,name-defined]
        def forward(self, *inputs: Any) -> Any:
            return self.fc(inputs[0]) + inputs[1]

    x = torch.randn(2, 4, 3)
    ported = lstm_bridge.port(given_values(Anything()), (x, x))
    assert ported.graph.inputs == ("inputs_0", "inputs_1")
    assert ported(mx.ones((1, 2, 3)), mx.ones((1, 2, 3))).shape == (1, 2, 3)


def test_a_way_that_cannot_be_ported_is_refused_when_it_is_taken() -> None:
    class Halves(lines.Base):  # type: ignore[misc,name-defined]
        def forward(self, x: Any, where: Any = None) -> Any:
            if where is not None:
                return x[where.nonzero()]
            if x.dim() == 2:
                raise ValueError("expected a batch")
            return self.fc(x)

    ported = lstm_bridge.port(Halves())
    assert ported(mx.ones((1, 2, 3))).shape == (1, 2, 3)
    with pytest.raises(UnsupportedError, match="nonzero"):
        ported(mx.ones((1, 2, 3)), mx.ones((1,)))
    with pytest.raises(UnsupportedError, match="expected a batch"):
        ported(mx.ones((2, 3)))


def test_what_forward_keeps_for_itself_is_found_out() -> None:
    class Keeps(lines.Base):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            if not hasattr(self, "before"):
                self.before = torch.zeros(3)
            self.before = self.before + x.sum((0, 1))
            return x + self.before

    module = Keeps()
    with pytest.raises(UnsupportedError, match=r"sets self\.before"):
        lstm_bridge.port(module)
    assert not hasattr(module, "before")


class GrowingLists(lines.Base):  # type: ignore[misc,name-defined]
    """Attends to all earlier steps."""

    def forward(self, x: Any) -> Any:
        h, before = torch.zeros(x.size(0), 3), []
        for t in range(x.size(1)):
            h = torch.tanh(self.fc(x[:, t]) + h)
            before.append(h)
            h = h + torch.stack(before, 1).mean(1)
        return h


class Zipped(lines.Base):  # type: ignore[misc,name-defined]
    """Walks through a list that a loop over a length has made."""

    def forward(self, x: Any) -> Any:
        outputs = [self.fc(step) for step in x.unbind(1)]
        return torch.stack([torch.tanh(y) for y in outputs], 1)


@pytest.mark.parametrize("cls", [GrowingLists, Zipped])
def test_loops_whose_steps_are_not_alike_are_refused(cls: Any) -> None:
    with pytest.raises(UnsupportedError, match="loop"):
        lstm_bridge.port(cls())


def test_a_loop_with_a_first_step_of_its_own_needs_that_step() -> None:
    ported = lstm_bridge.port(module_of("loop_if_first"))
    assert ported(mx.ones((2, 1, 3))).shape == (2, 1, 3)
    with pytest.raises(UsageError, match="0 on axis 1"):
        ported(mx.ones((2, 0, 3)))


def test_a_split_that_is_unpacked_must_have_as_many_parts(given_values: Any) -> None:
    class Unpacks(lines.Base):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            a, b, c = [part * 2 for part in x.split(1, dim=-1)]
            return a + b * c

    ported = lstm_bridge.port(Unpacks())
    assert ported(mx.ones((2, 3))).shape == (2, 1)
    with pytest.raises(UsageError, match="3 parts"):
        ported(mx.ones((2, 4)))


def test_a_spoilt_branch_is_caught(given_values: Any, compared: Any, failures: Any) -> None:
    module = given_values(module_of("ranks")).eval()
    ported = lstm_bridge.port(module)
    nodes = ported.describe()["graph"]
    branch = next(node for node in nodes if node["op"] == "branch")
    branch["kwargs"]["yes"], branch["kwargs"]["no"] = (
        branch["kwargs"]["no"],
        branch["kwargs"]["yes"],
    )
    from mlx.utils import tree_flatten

    spoilt = type(ported).from_description(
        ported.describe() | {"graph": nodes}, dict(tree_flatten(ported.parameters()))
    )
    one = lambda seed: drawn("u", seed)  # noqa: E731
    assert failures(compared(module, ported, one, gradients=False)) == []
    with pytest.raises((AssertionError, ValueError)):
        assert failures(compared(module, spoilt, one, gradients=False)) == []
