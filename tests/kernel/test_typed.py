"""Numbers as people type them: what stands for thousands and what for a decimal point."""

from __future__ import annotations

import pytest

from apps.kernel.typed import number_typed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5", 1.5), ("1,5", 1.5), ("99,95 %", 99.95), ("1,000", 1000.0), ("12 000", 12_000.0),
        ("1,234,567.5", 1_234_567.5),
        ("0,25", 0.25), ("-3", -3.0), ("5%", 5.0),
    ],
)  # fmt: skip
def test_thousands_and_decimal_commas_are_told_apart(text: str, value: float) -> None:
    assert number_typed(text) == value


@pytest.mark.parametrize("text", ["", " ", "%", "one", "nan", "inf", "1,2,3", "1..5"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        number_typed(text)
