"""The verdict on one array: what passes, what cannot, and how errors are counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_bridge.equivalence.judge import ALLOWED_RATIO, judge
from lstm_bridge.equivalence.ulp import over_time, ulps

ORACLE = np.linspace(-0.9, 1.1, 24).reshape(2, 4, 3)
SOURCE = ORACLE.astype(np.float32)


def test_a_result_as_good_as_the_source_passes() -> None:
    verdict = judge(SOURCE, SOURCE, ORACLE)
    assert verdict.passed
    assert verdict.ratio <= 1
    assert verdict.reason == ""


@given(st.floats(0.1, 8.0).filter(lambda r: abs(r - ALLOWED_RATIO) > 0.01))
def test_the_limit_is_four_times_the_source_error(times: float) -> None:
    source = ORACLE + 1e-5
    verdict = judge(ORACLE - times * 1e-5, source, ORACLE)
    assert verdict.passed == (times < ALLOWED_RATIO)
    assert verdict.ratio == pytest.approx(times, rel=1e-6)


def test_an_exact_source_leaves_one_rounding_step_as_the_unit() -> None:
    step = 2.0**-23 * 1.1
    assert judge(ORACLE + 3.9 * step, ORACLE, ORACLE).passed
    assert not judge(ORACLE + 4.1 * step, ORACLE, ORACLE).passed


def test_below_the_normal_numbers_rounding_steps_get_no_smaller() -> None:
    tiny, step = ORACLE * 1e-40, 2.0**-149
    assert judge(tiny + 3.9 * step, tiny, tiny).passed
    assert not judge(tiny + 4.1 * step, tiny, tiny).passed
    assert not judge(np.zeros(3) + 1e-40, np.zeros(3), np.zeros(3)).passed


def test_what_rounded_inputs_move_is_no_error_of_ours() -> None:
    assert judge(ORACLE + 3.9e-3, ORACLE, ORACLE, conditioning=1e-3).passed
    assert not judge(ORACLE + 4.1e-3, ORACLE, ORACLE, conditioning=1e-3).passed
    assert not judge(ORACLE + 3.9e-3, ORACLE, ORACLE, conditioning=1e-9).passed


def test_the_worst_place_is_named() -> None:
    ours = ORACLE.copy()
    ours[1, 2, 0] += 0.5
    verdict = judge(ours, SOURCE, ORACLE)
    assert verdict.worst == (1, 2, 0)
    assert verdict.max_abs == pytest.approx(0.5)
    assert "(1, 2, 0)" in verdict.reason


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_must_stand_where_the_source_has_them(odd: float) -> None:
    poisoned = SOURCE.copy()
    poisoned[0, 1, 2] = odd
    assert judge(poisoned, poisoned, ORACLE).passed
    assert not judge(poisoned, SOURCE, ORACLE).passed
    assert not judge(SOURCE, poisoned, ORACLE).passed
    assert judge(poisoned, SOURCE, ORACLE).worst == (0, 1, 2)
    assert not judge(-poisoned if math.isinf(odd) else SOURCE, poisoned, ORACLE).passed


def test_shapes_must_agree_and_empty_arrays_pass() -> None:
    assert not judge(SOURCE[:1], SOURCE, ORACLE).passed
    assert not judge(SOURCE.reshape(4, 2, 3), SOURCE, ORACLE).passed
    assert judge(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3))).passed


def test_ulps_count_float32_neighbours() -> None:
    values = np.array([1.0, 1.5, -3.0, 1e-3, 0.75], np.float32)
    up = np.nextafter(np.nextafter(values, np.float32(9)), np.float32(9))
    assert ulps(up, values.astype(np.float64)) == (2.0, 2.0, 2.0)
    assert ulps([], []) == (0.0, 0.0, 0.0)
    assert ulps([math.nan, 1.0], [1.0, 1.0]).max == 0.0
    assert ulps([2.0**-149], [0.0]).max == 1.0  # the smallest denormal is one step from zero


def test_error_over_time_takes_the_largest_of_each_step() -> None:
    ours = ORACLE.copy()
    ours[1, 2, 0] += 0.25
    assert over_time(ours, ORACLE, 1) == (0.0, 0.0, 0.25, 0.0)
    assert over_time(ours, ORACLE, 0) == (0.0, 0.25)
    assert over_time(ours, ORACLE, None) == ()
