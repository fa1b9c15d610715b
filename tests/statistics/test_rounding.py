"""A number beside 0 is never shown as 0."""

import pytest

from calot.report.tables import Undefined, interval_text, number
from calot.statistics.rounding import between, rounded


@pytest.mark.parametrize(
    ("value", "digits", "sign", "shown"),
    [
        (0.04, 1, True, "+0.04"),
        (-0.004, 1, True, "-0.004"),
        (-0.0004, 1, True, "+0.0"),
        (0.06, 1, True, "+0.1"),
        (-0.06, 1, False, "-0.1"),
        (0.0, 1, True, "+0.0"),
        (-0.0, 2, False, "0.00"),
        (12.345, 1, False, "12.3"),
        (0.0004, 3, False, "0.0004"),
    ],
)
def test_digits_are_added_until_a_side_shows(value: float, digits: int, sign: bool, shown: str) -> None:
    assert rounded(value, digits=digits, sign=sign) == shown


def test_bounds_on_either_side_of_zero_do_not_look_alike() -> None:
    assert between(0.0002, 0.061, sign=True) == "+0.02 to +6.1"
    assert between(-0.0002, 0.061, sign=True) == "-0.02 to +6.1"
    assert interval_text(0.0002, 0.061, sign=True) == "+0.02 to +6.1"
    assert interval_text(-0.0002, 0.061, sign=True) == "−0.02 to +6.1"


def test_a_cell_beside_zero_is_not_zero_and_nan_is_no_number() -> None:
    assert number(0.0004) == "0.0004"
    assert number(-0.0004, sign=True) == "\N{MINUS SIGN}0.0004"
    assert number(0.0) == "0.000"
    assert number(float("nan"), reason="no clip") == Undefined("no clip")
