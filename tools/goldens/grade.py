"""Makes kernels-tests/goldens/grade/gsm8k.jsonl: responses to GSM8K as lm-evaluation-harness grades them by its strict filter.

    python -m venv venv && venv/bin/pip install lm-eval
    venv/bin/python tools/goldens/grade.py

A row is a response, a reference solution, and whether the task's own filter and metric find them the same.
"""

import json
import random
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import yaml
from lm_eval.api.metrics import exact_match_hf_evaluate
from lm_eval.filters.extraction import RegexFilter

OUT = Path(__file__).parents[2] / "kernels-tests/goldens/grade"
ROWS = 400

NUMBERS = ["18", "-18", "1,800", "1800", "18.0", "0.5", ".5", "18.", "18..", "18.50", "1,8", "$18", "- 18", "+18", "018", ",", "."]
MARKS = ["#### ", "#### ", "#### ", "####", "####  ", "####\n", "### ", "##### ", "The answer is "]
AROUND = ["", "", " ", "\n", ".", ",", "%", " dollars", ".\n", "$", "a", "\\"]
STARTS = ["", "She has 9 * 2 = 18 eggs.\n", "#### \n", "#### x\n", "#### 7\n"]
REFERENCES = ["18", "-18", "1,800", "1800", "0.5", "18.5", "18."]


def task():
    """The task's regular expressions: the strict filter's, and those that the metric takes out."""
    text = (files("lm_eval") / "tasks/gsm8k/gsm8k.yaml").read_text()
    settings = yaml.safe_load(text)
    strict = next(f for f in settings["filter_list"] if f["name"] == "strict-match")
    metric = settings["metric_list"][0]
    names = ["regexes_to_ignore", "ignore_case", "ignore_punctuation"]
    return strict["filter"][0]["regex_pattern"], {name: metric[name] for name in names}


def main():
    pattern, metric = task()
    draw = random.Random(1)
    rows = []
    for _ in range(ROWS):
        parts = [draw.choice(list_) for list_ in (STARTS, MARKS, NUMBERS, AROUND, AROUND)]
        answer = "9 * 2\n#### " + draw.choice(REFERENCES)
        # Half of the rows have the reference's own number, in some form.
        if draw.random() < 0.5:
            parts[2] = answer.split("#### ")[1]
        completion = "".join(parts)
        [[found]] = RegexFilter(pattern).apply([[completion]], [{}])
        right = exact_match_hf_evaluate([found], [answer], **metric)["exact_match"] == 1
        rows.append({"completion": completion, "answer": answer, "right": bool(right)})
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "gsm8k.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"lm-eval {version('lm-eval')}: {sum(row['right'] for row in rows)} of {ROWS} are right")


main()
