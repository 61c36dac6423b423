"""What was measured, for people: Markdown and a plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

Measured = Mapping[str, Any]

_WORDS = {
    "tensorflow": "TensorFlow",
    "onnxruntime": "ONNX Runtime",
    "f32": "ours, f32",
    "bf16": "ours, bf16",
    "int8": "ours, int8",
    "auto": "ours, by default",
}
#: The goals, each as (section, how to find the number, its words, the bound, whether it is a least one).
_GOALS = (
    ("networks", ("times_tensorflow", "1", "f32"), "ensemble at batch 1, f32, times TensorFlow", 2.4, True),
    ("networks", ("share_of_peak", "f32"), "ensemble at batch 1, f32, share of the peak", 0.8, True),
    ("networks", ("times_tensorflow", "1", "int8"), "ensemble at batch 1, int8, times TensorFlow", 4.0, True),
    ("networks", ("times_tensorflow", "8", "int8"), "ensemble at batch 8, int8, times TensorFlow", 4.0, True),
    ("preprocessing", ("1024x768", "ms", "all"), "preprocessing of 1024 × 768, ms", 15.0, False),
    ("preprocessing", ("4000x3000", "ms", "all"), "preprocessing of 12 megapixels, ms", 40.0, False),
    ("way", ("p50_over_bare",), "one client's p50 over the bare work", 1.8, False),
    ("way", ("share_of_bare_throughput",), "saturated throughput over the bare engine's", 0.8, True),
    ("peer", ("times_litserve",), "answers a second, times LitServe with TensorFlow", 5.0, True),
    ("footprint", ("idle_mb_together",), "idle memory of everything, MB", 1200, False),
    ("footprint", ("ready_s", "next start"), "seconds until ready", 15, False),
)


def markdown(measured: Measured) -> str:
    """Every section as tables, goals first."""
    lines = ["# What `make bench` measured", ""]
    lines += [
        "Ratios are of one run of one section; contestants took turns.",
        "",
        *table(("section", "measured", "machine"), [(name, *_when(section)) for name, section in measured.items()]),
        "",
        "## Goals",
        "",
        *table(("", "goal", "measured", ""), list(_goals(measured))),
    ]
    for name, draw in _DRAW.items():
        if name in measured:
            lines += ["", *draw(measured[name])]
    return "\n".join(lines) + "\n"


def _when(section: Measured) -> tuple[str, str]:
    machine = section["machine"]
    words = f"{machine['cores']} cores, {machine['memory_gb']} GB, {machine['architecture']}"
    return section["measured"], f"{words}, {' '.join(machine['instructions'])}; load before: {machine['load_before']}"


def _goals(measured: Measured) -> Iterable[Sequence[object]]:
    for section, way, words, bound, least in _GOALS:
        value: Any = measured.get(section)
        for step in way:
            value = value.get(step) if isinstance(value, Mapping) else None
        told = "not measured" if value is None else value
        met = "" if value is None else ("yes" if (value >= bound if least else value <= bound) else "no")
        yield words, f"{'≥' if least else '≤'} {bound:g}", told, met


def _networks(section: Measured) -> list[str]:
    contestants = list(section["ensemble_ms"]["1"])
    heads = ["ms at batch 1", *(_WORDS.get(name, name) for name in contestants), "GFLOP an image"]
    alone = [
        (network, *(taken[name] for name in contestants), section["gflop_per_image"][network])
        for network, taken in section["alone_batch_1_ms"].items()
    ]
    together = []
    for batch, taken in section["ensemble_ms"].items():
        together.append((f"all four, batch {batch}", *(taken[name] for name in contestants), ""))
        times = section["times_tensorflow"][batch]
        together.append(("times TensorFlow", *(times[name] for name in contestants), ""))
    reached = section["ensemble_batch_1_gflops"]
    peaks = section["peak_gflops"]
    rates = [
        ("GFLOP/s at batch 1", *(reached[name] for name in contestants), ""),
        ("a bare convolution's", *(peaks.get(name, "") for name in contestants), ""),
    ]
    offered = ", ".join(section.get("offered", ["f32"]))
    told = f"Offered: {offered}; the others show what they would give. By default: the quickest that is offered."
    return ["## Networks", "", *table(heads, [*alone, *together, *rates]), "", told]


def _preprocessing(section: Measured) -> list[str]:
    sizes = [name for name in section if "x" in name]
    heads = ["ms on one core", *(f"{size}, {section[size]['file_kb']} kB" for size in sizes)]
    rows = [(step, *(section[size]["ms"][step] for size in sizes)) for step in section[sizes[0]]["ms"]]
    return ["## Preprocessing", "", *table(heads, rows)]


def _peer(section: Measured) -> list[str]:
    calls = [(name, value) for name, value in section["call_ms"].items()]
    rates = [(count, rate["embedded"], rate["litserve"]) for count, rate in section["answers_per_s"].items()]
    memory = section["memory_mb"]
    # Missing in what was measured before it was written down.
    precision = f" ({section['precision']})" if "precision" in section else ""
    return [
        f"## One call, and a peer{precision}", "",
        *table(("one call", "ms"), calls), "",
        *table(("clients", "embedded server, answers/s", "LitServe with TensorFlow, answers/s"), rates), "",
        f"Memory: {memory['embedded']} MB and {memory['litserve']} MB.",
    ]  # fmt: skip


def _way(section: Measured) -> list[str]:
    bare, whole = section["bare_ms"], section["upload_to_done_ms"]
    rows = [
        ("upload → done, p50", whole["p50"]), ("p95", whole["p95"]), ("p99", whole["p99"]),
        ("bare preprocessing", bare["preprocessing"]), ("bare networks", bare["networks"]),
        ("bare, both", bare["both"]), ("p50 over bare", section["p50_over_bare"]),
    ]  # fmt: skip
    rates = list(section["uploads_per_s"].items())
    alone = section["bare_ensembles_per_s"]
    # A number in what was measured while one client asked the bare engine.
    by_clients = alone if isinstance(alone, Mapping) else {"1": alone}
    bare_rates = [(f"bare ensemble, {count}", rate) for count, rate in by_clients.items()]
    core = section.get("core_ms_per_upload", {})
    crowd = [(name, *got.values()) for name, got in section.get("with_8_clients", {}).items()]
    return [
        f"## The whole way ({section['precision']}, 1024 × 768)", "",
        *table(("one client", "ms"), rows), "",
        *table(("clients", "uploads/s"), [*rates, *bare_rates]), "",
        *table(("eight clients", "uploads/s", "p50 ms", "p95 ms"), crowd), "",
        *table(("core time of one upload", "ms"), [*core.items(), ("together", round(sum(core.values()), 1))]),
    ]  # fmt: skip


def _footprint(section: Measured) -> list[str]:
    rows = [*section["idle_mb"].items(), ("together", section["idle_mb_together"])]
    ready = ", ".join(f"{name} {seconds} s" for name, seconds in section["ready_s"].items())
    return ["## Memory and start", "", *table(("process, idle", "MB"), rows), "", f"Ready: {ready}."]


_DRAW = {
    "networks": _networks,
    "preprocessing": _preprocessing,
    "peer": _peer,
    "way": _way,
    "footprint": _footprint,
}


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table, with numbers in all columns but the first."""
    line = "| " + " | ".join(heads) + " |"
    rule = "| --- " + "| ---: " * (len(heads) - 1) + "|"
    return [line, rule, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)]


# --- the plot ---------------------------------------------------------------------------------------------------------

_WIDTH, _BAR, _GAP, _LEFT = 720, 18, 6, 230


def plot(measured: Measured) -> str:
    """Bars, as an SVG that follows the reader's light or dark theme."""
    charts = []
    if "networks" in measured:
        for batch, taken in measured["networks"]["ensemble_ms"].items():
            title = f"All four networks, batch {batch}: images a second"
            bars = [(_WORDS.get(name, name), int(batch) * 1000 / value) for name, value in taken.items()]
            charts.append((title, bars))
    if "peer" in measured:
        best = measured["peer"]["answers_per_s"]
        bars = [
            (words, max(rate[name] for rate in best.values()))
            for name, words in (("embedded", "embedded server"), ("litserve", "LitServe, TensorFlow"))
        ]
        charts.append(("Servers of the four networks: answers a second", bars))
    if "way" in measured:
        rates = measured["way"]["uploads_per_s"]
        charts.append(("Upload → done: uploads a second", [(f"{n} clients", float(rate)) for n, rate in rates.items()]))
    if "preprocessing" in measured:
        for size in (name for name in measured["preprocessing"] if "x" in name):
            steps = measured["preprocessing"][size]["ms"]
            charts.append((f"Preprocessing, {size}: ms", [(step, float(value)) for step, value in steps.items()]))
    parts, top = [], 10
    for title, bars in charts:
        parts.append(f'<text x="10" y="{top + 16}" class="t">{escape(title)}</text>')
        top += 26
        most = max(value for _, value in bars) or 1.0
        for label, value in bars:
            length = (_WIDTH - _LEFT - 80) * value / most
            parts.append(
                f'<text x="{_LEFT - 8}" y="{top + 14}" class="l">{escape(label)}</text>'
                f'<rect x="{_LEFT}" y="{top}" width="{length:.1f}" height="{_BAR}" rx="2"/>'
                f'<text x="{_LEFT + length + 6:.1f}" y="{top + 14}">{value:.1f}</text>'
            )
            top += _BAR + _GAP
        top += 16
    style = (
        "text{font:13px sans-serif;fill:#222}.t{font-weight:600}.l{text-anchor:end}rect{fill:#3b7}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top}" viewBox="0 0 {_WIDTH} {top}">'
        f"<style>{style}</style>{''.join(parts)}</svg>\n"
    )
