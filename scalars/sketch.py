"""A small inline picture of a curve, for notebooks."""

from __future__ import annotations

from collections.abc import Callable

WIDTH, HEIGHT, POINTS = 180, 48, 120


def html(title: str, value_at: Callable[[float], float]) -> str:
    """Return ``title`` over an SVG line through the values of a whole run, and their range."""
    from html import escape

    values = [value_at(i / POINTS) for i in range(POINTS + 1)]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = WIDTH / (len(values) - 1)
    points = " ".join(
        f"{i * step:.1f},{2 + (HEIGHT - 4) * (1 - (value - low) / span):.1f}"
        for i, value in enumerate(values)
    )
    labels = "".join(
        f'<text x="{WIDTH + 6}" y="{y}" font-size="11" fill="currentColor">{value:.4g}</text>'
        for y, value in ((12, high), (HEIGHT - 4, low))
    )
    return (
        f"<div><code>{escape(title)}</code><br>"
        f'<svg width="{WIDTH + 80}" height="{HEIGHT}" role="img">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
        f"{labels}</svg></div>"
    )
