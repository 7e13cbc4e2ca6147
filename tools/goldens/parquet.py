"""Makes kernels-tests/goldens/parquet: rows as pyarrow writes them into Parquet, and the same rows as JSON lines.

    python -m venv venv && venv/bin/pip install pyarrow
    venv/bin/python tools/goldens/parquet.py
"""

import datetime
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

OUT = Path(__file__).parents[2] / "kernels-tests/goldens/parquet"

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
STEP = pa.struct([("end", pa.int32()), ("reward", pa.float32())])
ROLLOUTS = pa.schema(
    [
        ("prompt", pa.list_(MESSAGE)),
        ("completion", pa.large_string()),
        ("reward", pa.float64()),
        ("answer", pa.dictionary(pa.int32(), pa.string())),
        ("prompt_ids", pa.list_(pa.int64())),
        ("completion_ids", pa.list_(pa.uint16())),
        ("behavior_logps", pa.list_(pa.float32())),
        ("step_rewards", pa.list_(STEP)),
        ("finish_reason", pa.string()),
        ("bytes", pa.binary()),
        ("nested", pa.struct([("a", pa.list_(pa.list_(pa.int8()))), ("b", pa.bool_())])),
        ("counts", pa.map_(pa.string(), pa.int64())),
    ]
)


def rollout(i):
    """A row; some of its fields are missing in some rows."""
    return {
        "prompt": [{"role": "system", "content": "Sum."}, {"role": "user", "content": f"{i} + 1 = ? \u00e9\U0001f600"}],
        "completion": f"It is {i + 1}.\n\n#### {i + 1}",
        "reward": i / 4,
        "answer": str(i % 2 + 1),
        "prompt_ids": [1, 2, i],
        "completion_ids": [3, 4],
        "behavior_logps": None if i % 3 == 0 else [-0.5, -i / 8],
        "step_rewards": [{"end": 1, "reward": 0.25}, {"end": 2, "reward": -0.5}] if i % 2 else [],
        "finish_reason": ["stop", "length", None][i % 3],
        "bytes": "text",
        "nested": None if i == 2 else {"a": [[1, -2], []], "b": i == 1},
        "counts": {"x": i},
    }


def write(name, rows, schema=None, **options):
    """Both files of some rows."""
    if schema is ROLLOUTS:
        cells = [row | {"bytes": row["bytes"].encode(), "counts": list(row["counts"].items())} for row in rows]
    else:
        cells = rows
    pq.write_table(pa.Table.from_pylist(cells, schema), OUT / f"{name}.parquet", **options)
    (OUT / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    write("rollouts", [rollout(i) for i in range(7)], ROLLOUTS, row_group_size=3)
    write("rollouts_v2", [rollout(i) for i in range(7)], ROLLOUTS, data_page_version="2.0", compression="none")
    said = lambda i, answer: [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": answer}]
    write("messages", [{"messages": said(i, f"{i}!"), "label": i % 2 == 0} for i in range(4)])
    write("pairs", [{"chosen": said(i, "yes"), "rejected": said(i, "no")} for i in range(3)])
    problems = [{"question": f"{i}+{i}?", "answer": f"So it is {2 * i}.\n#### {2 * i}"} for i in range(3)]
    write("problems", problems, use_dictionary=False)
    # What is refused.
    pq.write_table(pa.table({"prompt": ["a", "b"], "completion": ["c", "d"], "reward": [1.0, float("nan")]}), OUT / "nan.parquet")
    pq.write_table(pa.table({"prompt": ["a"], "completion": ["b"]}), OUT / "zstd.parquet", compression="zstd")
    pq.write_table(pa.table({"when": [datetime.datetime(2026, 1, 1)], "prompt": ["a"]}), OUT / "time.parquet")


if __name__ == "__main__":
    main()
