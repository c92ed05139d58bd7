"""A small inline picture of a curve, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 180, 48


def html(title: str, values: Sequence[float]) -> str:
    """Return ``title`` over an SVG line through ``values``, with its largest and smallest."""
    from html import escape

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
