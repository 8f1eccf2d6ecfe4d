"""Plotly figures of a report: escaped labels, colors of runs, parallel coordinates."""

import json
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mprnet_lit.reports.differences import setting
from mprnet_lit.reports.page import printable_text
from mprnet_lit.reports.trials import Trial
from mprnet_lit.runs.files import is_number

if TYPE_CHECKING:
    import plotly.graph_objects as go

FAILED = ("failed", "killed")
"""States of runs that did not end as intended."""
MAX_AXES = 12
"""Maximum number of settings in one figure."""
_MAX_LINES = 300
_MAX_TICKS = 14
_MAX_INTEGER_TICKS = 5
"""Maximum number of distinct integers that each get a tick."""
_MARGIN = 0.05
"""Margin at both ends of an axis, as a share of its length."""
_MAX_AXIS_LABEL = 24
PALETTE = (
    *("#3b82f6", "#f08c2e", "#10a37f", "#e0527a", "#8b5cf6"),
    *("#b98a12", "#14a8c4", "#c2588f", "#7d9b1f", "#8a8f9c"),
)
"""Colors of up to ten lines, legible on light and on dark pages."""
DASHES = ("solid", "dash", "dot")
RAMP = ("#7a5cd6", "#268bd2", "#20aa8c", "#96b028", "#ec9814")
_NO_PSNR = "#8a8f9c"
_HOVER_LINE, _MAX_HOVER = 40, 240
"""Maximum number of characters of a line and of a name in hover texts, which fit 500 pixels."""


def label(value: Any, max_length: int = 48) -> str:
    """Return a value as text, escaped so that plotly shows it literally.

    Plotly renders a subset of HTML, including links, then substitutes ``%{...}``, then decodes
    entities.

    Args:
        value: text, number, boolean or ``None``.
        max_length: maximum number of characters; longer texts are shortened in the middle.
    """
    if value is None:
        return "\u2013"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    text = " ".join(printable_text(text).splitlines())
    if len(text) > max_length:
        head = max_length // 3
        text = f"{text[:head]}\u2026{text[head + 1 - max_length :]}"
    return re.sub("[&<>%]", lambda found: f"&#{ord(found[0])};", text)


def _dash(trial: Trial) -> str:
    """Return the dash style in parallel coordinates: dotted for failed runs and without PSNR."""
    return "dot" if trial.psnr is None or trial.state in FAILED else "solid"


def plain(figure: "go.Figure") -> dict[str, Any]:
    """Return a figure as plain values, without title and theme, which the page provides."""
    figure.update_layout(template="none", title=None, width=None, height=None)
    content: dict[str, Any] = json.loads(figure.to_json())
    del content["layout"]["template"]
    return content


def run_looks(trials: Sequence[Trial]) -> list[tuple[str, str]]:
    """Return a color and a dash style for each run.

    The 30 best runs have distinct pairs: the ten colors with solid lines, then with dashed and
    dotted lines. Further runs are gray.
    """
    order = sorted(range(len(trials)), key=lambda k: -_psnr(trials[k]))
    looks = [(_NO_PSNR, "solid")] * len(trials)
    for k, look in zip(order, ((c, d) for d in DASHES for c in PALETTE), strict=False):
        looks[k] = look
    return looks


def _psnr(trial: Trial) -> float:
    return -math.inf if trial.psnr is None else trial.psnr


def hover_name(trial: Trial) -> str:
    """Return the full name of a run in lines of 40 characters, with the state unless complete."""
    name = " ".join(printable_text(trial.name).splitlines())[:_MAX_HOVER]
    lines = [name[k : k + _HOVER_LINE] for k in range(0, len(name), _HOVER_LINE)]
    text = "<br>".join(label(line) for line in lines)
    return text if trial.state == "complete" else f"{text} ({label(trial.state)})"


def psnr_colors(trials: Sequence[Trial]) -> list[str]:
    """Return a color for each run by the rank of its PSNR; gray for runs without PSNR."""
    from plotly.colors import sample_colorscale

    known = sorted({trial.psnr for trial in trials if trial.psnr is not None})
    shares = [rank / max(len(known) - 1, 1) for rank in range(len(known))]
    colors = dict(zip(known, sample_colorscale(list(RAMP), shares), strict=True))
    return [_NO_PSNR if trial.psnr is None else colors[trial.psnr] for trial in trials]


def parallel_coordinates(trials: Sequence[Trial], keys: Sequence[str]) -> dict[str, Any] | None:
    """Return parallel coordinates of the settings and the PSNR of the runs, the best run on top.

    The figure has at most 12 settings and the 300 best runs. It is drawn in SVG, because plotly's
    ``parcoords`` requires WebGL and has no hover text.

    Returns:
        The figure, or ``None`` if no setting differs or fewer than two runs have a PSNR.
    """
    import plotly.graph_objects as go

    if not keys or sum(t.psnr is not None for t in trials) < 2:
        return None
    names = [*keys[:MAX_AXES], "PSNR (dB)"]
    ranks = [(trial.psnr is not None, trial.psnr or 0, k) for k, trial in enumerate(trials)]
    order = [k for _, _, k in sorted(ranks)[-_MAX_LINES:]]
    columns = [[setting(trials[k], key) for k in order] for key in names[:-1]]
    columns.append([trials[k].psnr for k in order])
    places, axes = zip(*map(_axis, columns), strict=True)
    colors = psnr_colors(trials)
    figure = go.Figure()
    for at, k in enumerate(order):
        values = (f"{label(n)}: {label(c[at])}" for n, c in zip(names, columns, strict=True))
        figure.add_scatter(
            x=list(range(len(axes))),
            y=[place[at] for place in places],
            meta=k,
            mode="lines+markers",
            connectgaps=True,
            cliponaxis=False,
            line={"color": colors[k], "dash": _dash(trials[k])},
            hoverinfo="text",
            hovertext="<br>".join((f"<b>{hover_name(trials[k])}</b>", *values)),
        )
    for number, axis in enumerate(axes, start=2):  # plotly hides an axis without a trace
        figure.add_scatter(x=[None], y=[None], yaxis=f"y{number}", hoverinfo="skip")
        figure.update_layout({f"yaxis{number}": axis})
    last = len(axes) - 1
    span = last * (1 + 2 * _MARGIN)
    figure.update_layout(
        {f"yaxis{k + 2}_position": (k + last * _MARGIN) / span for k in range(last + 1)},
        xaxis={"range": _wider(0, last), "side": "top", "showgrid": False, "ticklabelstandoff": 6},
        xaxis_tickvals=list(range(last + 1)),
        xaxis_ticktext=[label(name, _MAX_AXIS_LABEL) for name in names],
        yaxis={"range": _wider(0, 1), "visible": False},
        showlegend=False,
    )
    figure.update_xaxes(zeroline=False, fixedrange=True)  # dragging selects runs
    figure.update_yaxes(zeroline=False, fixedrange=True)
    return plain(figure)


def _wider(low: float, high: float) -> list[float]:
    """Return a range with a margin, so that a selection box can enclose the outermost points."""
    margin = (high - low) * _MARGIN
    return [low - margin, high + margin]


def _axis(values: Sequence[Any]) -> tuple[list[float | None], dict[str, Any]]:
    """Return the position of each value from 0 to 1, and the layout of the plotly axis."""
    kind = scale(values)
    layout: dict[str, Any] = {"type": "log" if kind == "log" else "linear"}
    layout |= {"overlaying": "y", "anchor": "free", "side": "right"}
    layout |= {"showline": True, "showgrid": False, "ticks": "outside", "automargin": False}
    numbers: list[float | None]
    if kind == "categories":
        texts = ["\u2013" if value is None else str(value) for value in values]
        known = sorted(set(texts), key=natural)
        numbers = [known.index(text) for text in texts]
        ticks = range(0, len(known), math.ceil(len(known) / _MAX_TICKS))
        names = [label(known[k], _MAX_AXIS_LABEL) for k in ticks]
        layout |= {"tickvals": list(ticks), "ticktext": names}
    elif kind == "log":
        numbers = [None if value is None else math.log10(value) for value in values]
        layout["dtick"] = 1
    else:
        numbers = [None if value is None else float(value) for value in values]
        if all(isinstance(v, int) for v in values) and len(set(values)) <= _MAX_INTEGER_TICKS:
            layout |= {"tickvals": sorted(set(map(float, values)))}
    found = [number for number in numbers if number is not None]
    low, high = min(found), max(found)
    if low == high:
        low, high = low - 1, high + 1
    positions = [None if n is None else (n - low) / (high - low) for n in numbers]
    return positions, layout | {"range": _wider(low, high)}


def scale(values: Sequence[Any]) -> str:
    """Return the axis scale for a list of values: "linear", "log" or "categories"."""
    known = [value for value in values if value is not None]
    if len(known) < 2 or not all(is_number(value) for value in known):
        return "categories"
    low, high = min(known), max(known)
    return "log" if low > 0 and high / low > 100 else "linear"


def natural(text: str) -> tuple[bool, float, str]:
    """Return a sort key: numbers first, by value, then texts."""
    try:
        return False, float(text), ""
    except ValueError:
        return True, 0.0, text
