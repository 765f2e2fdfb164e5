"""The results as Markdown, JSON and SVG."""

import html
import json
import statistics

from rig.subjects import Counted
from rig.targets import FIGURES, HIGH, LOW

MET, MISSED = "met", "missed"


class Row:
    """A target and what became of it."""

    def __init__(self, target, results, refusals):
        self.target = target
        self.ours = self.reference = self.ratio = self.spread = None
        self.why = refusals.get(target.ours) or (target.reference and refusals.get(target.reference))
        if self.why:
            return
        if target.ours not in results or (target.reference and target.reference not in results):
            self.why = "it was not run"
            return
        self.ours = results[target.ours].get(target.figure)
        self.reference = results[target.reference].get(target.figure) if target.reference else target.limit
        if self.ours is None or not self.reference:
            self.why = "the run was too short to measure"
            return
        plainly = self.ours - self.reference if target.is_more else self.ours / self.reference
        found = self.median_ratio(results)
        self.ratio = plainly if found is None else found

    def median_ratio(self, results):
        """The median of the rounds' ratios, or differences: neighbours in time share the machine's mood."""
        if not self.target.reference:
            return None
        rounds = zip(results[self.target.ours]["rounds"], results[self.target.reference]["rounds"])
        figure = self.target.figure
        both = [(ours[figure], theirs[figure]) for ours, theirs in rounds if ours.get(figure) and theirs.get(figure)]
        ratios = [ours - theirs if self.target.is_more else ours / theirs for ours, theirs in both]
        self.spread = (min(ratios), max(ratios)) if len(ratios) > 1 else None
        return statistics.median(ratios) if ratios else None

    def verdict(self):
        if self.ratio is None:
            return "not run"
        met = self.ratio <= self.target.bound if self.target.better == LOW else self.ratio >= self.target.bound
        return MET if met else MISSED

    def bound(self):
        if self.target.limit:
            return f"≤ {self.target.limit}"
        if self.target.is_more:
            return f"≤ {self.target.bound} more"
        return f"{'≤' if self.target.better == LOW else '≥'} {self.target.bound:.2f}"


def number(value):
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def markdown(rows, results, refusals, remarks):
    lines = ["| workload | figure | bitsd | reference | ratio | target | |", "| --- | --- | --: | --: | --: | --: | --- |"]
    for row in rows:
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
        if row.ratio is not None and row.target.is_more:
            ratio = f"+{ratio}"
        if row.spread:
            ratio += f" ({row.spread[0]:.2f} to {row.spread[1]:.2f})"
        words = row.verdict() + (f": {row.why}" if row.why else "")
        lines.append(
            f"| {row.target.title} | {FIGURES[row.target.figure]} | {number(row.ours)} | {number(row.reference)} "
            f"| {ratio} | {row.bound()} | {words} |"
        )
    lines += ["", "Everything that was run, medians:", ""]
    columns = [
        ("GB/s", "gb_per_s"), ("CPU s/GB", "cpu_s_per_gb"), ("CPU µs/file", "cpu_us_per_file"),
        ("machine busy s/GB", "busy_s_per_gb"), ("peak MiB", "peak_mib"), ("context switches", "context_switches"),
        ("files/s", "files_per_s"), ("fragment p99 µs", "fragment_p99_us"), ("whole upload p50 µs", "session_p50_us"),
        ("p99 µs", "session_p99_us"), ("written per byte", "written_per_byte"), ("load's share of its core", "load_cpu_share"), ("handshakes/s beside", "flood_per_s"),
        ("cores busy with others", "others_cores"),
    ]
    lines.append("| run | " + " | ".join(name for name, _ in columns) + " |")
    lines.append("| --- |" + " --: |" * len(columns))
    for key, figures in results.items():
        cells = " | ".join(number(figures.get(column)) for _, column in columns)
        lines.append(f"| {' '.join(key)} | {cells} |")
    for key, why in refusals.items():
        lines.append(f"| {' '.join(key)} | not run: {why} |" + " |" * (len(columns) - 1))
    return "\n".join(lines + [""] + ways(results) + remarks) + "\n"


def ways(results):
    """The share of the bytes that went each way, where it was counted."""
    counted = {key: figures for key, figures in results.items() if key[0] == "ways"}
    if not counted:
        return []
    lines = ["How bytes reached their file (`bitsd_written_bytes`):", "", "| load | file system | direct | ring | inline |"]
    lines.append("| --- | --- | --: | --: | --: |")
    for (_, place, load), figures in counted.items():
        shares = " | ".join(f"{figures[f'share_{route}']:.1%}" for route in Counted.ROUTES)
        lines.append(f"| {load} | {place} | {shares} |")
    return lines + [""]


def as_json(rows, results, refusals, remarks):
    described = [
        {
            "title": row.target.title, "figure": row.target.figure, "ours": row.ours, "reference": row.reference,
            "ratio": row.ratio, "better": row.target.better, "target": row.target.bound, "verdict": row.verdict(),
            "why": row.why or None,
        }
        for row in rows
    ]
    runs = [{"contest": key[0], "place": key[1], "entry": key[2], **figures} for key, figures in results.items()]
    missing = [{"contest": key[0], "place": key[1], "entry": key[2], "why": why} for key, why in refusals.items()]
    return json.dumps({"targets": described, "runs": runs, "missing": missing, "remarks": remarks}, indent=2)


def svg(rows):
    """A bar for each ratio, in units of its target: the line is the target, shorter is better."""
    width, bar_left, bar_width, step, top = 920, 440, 400, 24, 48
    height = top + step * len(rows) + 16
    scale = bar_width / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        '<text x="16" y="22" font-size="15" font-weight="bold" fill="#1b1f24">bitsd against its targets</text>',
        f'<text x="{bar_left}" y="22" fill="#57606a">cost in units of the target; the line is the target, '
        "left of it is better</text>",
    ]
    for at, row in enumerate(rows):
        y = top + step * at
        parts.append(f'<text x="16" y="{y + 12}" fill="#1b1f24">{html.escape(row.target.title)}</text>')
        if row.ratio is None:
            parts.append(f'<text x="{bar_left}" y="{y + 12}" fill="#8c959f">not run</text>')
            continue
        cost = row.ratio / row.target.bound
        if row.target.better == HIGH:
            cost = 1 / cost if cost else 2
        length = max(0, min(cost, 2)) * scale
        colour = "#2da44e" if row.verdict() == MET else "#cf222e"
        parts.append(
            f'<rect x="{bar_left}" y="{y}" width="{length:.1f}" height="16" rx="2" fill="{colour}"/>'
            f'<text x="{bar_left + length + 6:.1f}" y="{y + 12}" fill="#1b1f24">{row.ratio:.2f} '
            f"({html.escape(row.bound())})</text>"
        )
    line = bar_left + scale
    parts.append(
        f'<line x1="{line}" y1="{top - 8}" x2="{line}" y2="{height - 12}" stroke="#1b1f24" stroke-dasharray="4 3"/>'
    )
    return "\n".join(parts + ["</svg>", ""])
