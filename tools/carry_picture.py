"""Draws docs/carry.svg: V along two responses to one sum of the demo, before and after training.

    ./tools/demo --device cpu
    python3 tools/carry_picture.py

Before training the model forgets the carry, after it not; both responses are those that the demo sampled, and V is what the
demo's value network says of them, by `dqo-wgpu values`.
"""

import json
import subprocess
import tempfile
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo"
OUT = ROOT / "docs" / "carry.svg"
SUM = "263+438"

WIDTH, TOP, HEIGHT, LEFT, RIGHT = 880, 64, 200, 46, 22
# The ends of the scale are round numbers beyond all values of V.
LOW, HIGH = -0.1, 1.0
STYLE = """
  .card { fill: #ffffff; stroke: #d8d8d4; }
  .ink { fill: #1c1d20; } .soft { fill: #5c5f68; }
  .grid { stroke: #e4e4e0; } .mark { fill: #fff0cf; }
  .before { --line: #c4520a; } .after { --line: #1f62c0; }
  .before path, .after path { stroke: var(--line); } .before circle, .after circle { fill: var(--line); }
  .before text, .after text { fill: var(--line); }
  path { fill: none; stroke-width: 2; stroke-linejoin: round; }
  text { font: 13px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
  .title { font-size: 15px; font-weight: 600; }
  .token { font: 600 14px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; text-anchor: middle; }
  @media (prefers-color-scheme: dark) {
    .card { fill: #17181c; stroke: #3a3c44; }
    .ink { fill: #e9eaee; } .soft { fill: #a2a5af; }
    .grid { stroke: #2c2e35; } .mark { fill: #40351a; }
    .before { --line: #f0935a; } .after { --line: #7fb0ff; }
  }
"""


def response(name):
    """The sampled response of a file of predictions, as a row for `values`."""
    rows = map(json.loads, (DEMO / f"{name}.jsonl").read_text().splitlines())
    row = next(row for row in rows if row["prompt"][0]["content"] == SUM)
    return {key: row[key] for key in ["prompt", "completion", "completion_ids"]} | {"reward": float(row["correct"])}


def values(rows):
    """V of the state before each token of each row; and the rows' segments."""
    with tempfile.TemporaryDirectory() as directory:
        data, output = Path(directory) / "rows.jsonl", Path(directory) / "values.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = [ROOT / "target" / "release" / "dqo-wgpu", "values", "--value", DEMO / "run" / "final" / "value"]
        command += ["--data", data, "--output", output, "--device", "cpu"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return [json.loads(line) for line in output.read_text().splitlines()]


def places(responses):
    """Where each token stands, in columns: a step of one response begins where the same step of the other does."""
    columns, start = [[] for _ in responses], 0
    for steps in zip(*(valued["segments"] for valued in responses), strict=True):
        widths = []
        for placed, step in zip(columns, steps):
            count = len(step["text"])  # a token a character
            placed.extend(start + i for i in range(count))
            widths.append(count)
        start += max(widths)
    return columns, start


def curve(name, row, valued, columns, x, y, baseline):
    """A response's line of V after each token, and its tokens below."""
    text = row["completion"]
    points = [(x(column), y(v)) for column, v in zip(columns, valued["values"][1:])]
    path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in points)
    dots = "".join(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.6"/>' for px, py in points)
    tokens = "".join(
        f'<text class="token" x="{x(column):.1f}" y="{baseline}">{escape(token)}</text>'
        for column, token in zip(columns, text)
        if not token.isspace()
    )
    return f'<g class="{name}"><path d="{path}"/>{dots}{tokens}</g>\n'


def picture(rows, valued):
    columns, count = places(valued)
    step = (WIDTH - LEFT - RIGHT) / count
    x = lambda column: LEFT + (column + 0.5) * step
    y = lambda v: TOP + (HIGH - v) / (HIGH - LOW) * HEIGHT
    before, after = rows
    slip = next(i for i, (a, b) in enumerate(zip(before["completion"], after["completion"])) if a != b)
    from_v, to_v = valued[0]["values"][slip : slip + 2]
    other = valued[1]["values"][slip + 1]
    lines = [TOP + HEIGHT + 34, TOP + HEIGHT + 58]
    grid = "".join(
        f'<path class="grid" d="M{LEFT} {y(v):.1f}H{WIDTH - RIGHT}"/>'
        f'<text class="soft" x="{LEFT - 10}" y="{y(v) + 4.5:.1f}" text-anchor="end">{v:g}</text>'
        for v in (0, 0.5, 1)
    )
    mark = x(columns[0][slip])
    about = (
        f"V along two responses to {SUM}. The one before training writes {before['completion'][slip]} where the carry "
        f"{after['completion'][slip]} belongs, and V falls from {from_v:.2f} to {to_v:.2f} at that token; along the one "
        f"after training it stays at {other:.2f}."
    )
    height = lines[1] + 40
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'role="img" aria-label="{escape(about)}">\n<style>{STYLE}</style>\n',
            f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10"/>\n',
            f'<text class="ink title" x="{LEFT}" y="30">V after each token of two responses to {SUM}: '
            f"it falls where a carry is forgotten</text>\n",
            f'<rect class="mark" x="{mark - step / 2:.1f}" y="{TOP - 8}" width="{step:.1f}" '
            f'height="{lines[1] + 14 - TOP}" rx="4"/>\n{grid}\n',
            f'<text class="soft" x="{LEFT - 10}" y="{TOP - 14}" text-anchor="end">V</text>\n',
            curve("before", before, valued[0], columns[0], x, y, lines[0]),
            curve("after", after, valued[1], columns[1], x, y, lines[1]),
            f'<g class="before"><text x="{LEFT}" y="{height - 14}">before training: {before["completion"][slip]} is carried, '
            f"V falls from {from_v:.2f} to {to_v:.2f}</text></g>\n",
            f'<g class="after"><text x="{WIDTH - RIGHT}" y="{height - 14}" text-anchor="end">after training: '
            f'{after["completion"][slip]} is carried, V is {other:.2f}</text></g>\n</svg>\n',
        ]
    )


def main():
    rows = [response("before"), response("after")]
    OUT.write_text(picture(rows, values(rows)))
    print(OUT.relative_to(ROOT))


if __name__ == "__main__":
    main()
