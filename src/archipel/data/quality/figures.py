"""Figures as people read them."""

from __future__ import annotations


def number(value: float) -> str:
    """Four digits, without an exponent where people expect none."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = f"{value:.4g}"
        return f"{value:.0f}" if "e" in digits else digits
    return f"{value:.3g}"
