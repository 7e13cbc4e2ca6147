"""Makes assets/word-problems: sums in words, of one and two steps, with worked solutions in GSM8K's format.

    python3 tools/word_problems.py [DIRECTORY]

`demonstrations.jsonl` are prompts with solutions, `train.jsonl` and `test.jsonl` problems with answers. No problem stands
twice. The test's problems have templates of their own and numbers of their own: no template and no pair of first numbers
of theirs is in the other files.
"""

import json
import random
import sys
from pathlib import Path

OUT = Path(__file__).resolve().parents[1] / "assets" / "word-problems"
COUNTS = {"demonstrations": 480, "train": 480, "test": 400}
LIMIT = 50  # of every number, results too
SYSTEM = "Solve the problem step by step. End with #### and the answer."
NAMES = "Ann Ben Carla Dan Emma Finn Grace Hugo Ida Jack Kate Leo Mia Noah Olga Paul Rosa Sam Tina Will".split()
THINGS = "apples books cards coins eggs marbles pens shells stamps stickers".split()

# A step is one operation; `a`, `b` and `c` are the problem's numbers, `r` the result of the step before.
ADD, SUBTRACT, TIMES = "a+b", "a-b", "a*b"
THEN_ADD, THEN_SUBTRACT, THEN_TIMES = "r+c", "r-c", "r*c"

# A template: the problem, and for each step the operation and what its line of the solution says before it.
TRAIN = [
    ("{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?", [(ADD, "{name} has")]),
    ("There are {a} {things} in a box and {b} {things} in a bag. How many {things} are there in all?", [(ADD, "There are")]),
    ("{name} found {a} {things} on Monday and {b} on Tuesday. How many {things} did {name} find?", [(ADD, "{name} found")]),
    ("{name} is {a} years old. How old will {name} be in {b} years?", [(ADD, "{name} will be")]),
    ("{name} had {a} {things} and gave {b} to {other}. How many {things} are left?", [(SUBTRACT, "There are")]),
    ("A shop had {a} {things} and sold {b} of them. How many {things} remain?", [(SUBTRACT, "There remain")]),
    ("{name} has {a} {things}, {other} has {b}. How many more does {name} have?", [(SUBTRACT, "{name} has more by")]),
    ("{name} read {b} of the {a} pages of a story. How many pages are left to read?", [(SUBTRACT, "The pages left are")]),
    ("{name} buys {a} packs of {b} {things}. How many {things} is that?", [(TIMES, "The {things} are")]),
    ("A row has {b} chairs. How many chairs do {a} rows have?", [(TIMES, "The chairs are")]),
    ("{name} runs {b} miles every day. How many miles does {name} run in {a} days?", [(TIMES, "{name} runs")]),
    (
        "{name} has {a} {things}, buys {b} more and then loses {c}. How many {things} does {name} have?",
        [(ADD, "With those bought"), (THEN_SUBTRACT, "After losing some")],
    ),
    (
        "A bus has {a} people. {b} get off and {c} get on. How many people are on the bus now?",
        [(SUBTRACT, "After some get off"), (THEN_ADD, "After some get on")],
    ),
    (
        "{name} has {a} bags with {b} {things} each, and {c} {things} more. How many {things} does {name} have?",
        [(TIMES, "In the bags"), (THEN_ADD, "With the others")],
    ),
    (
        "{name} bakes {a} trays of {b} cookies and eats {c} of them. How many cookies are left?",
        [(TIMES, "The trays have"), (THEN_SUBTRACT, "After eating")],
    ),
    (
        "{name} has {a} red and {b} blue {things}. {other} has {c} times as many. How many {things} does {other} have?",
        [(ADD, "{name} has"), (THEN_TIMES, "{other} has")],
    ),
]
TEST = [
    ("{name} picked {a} {things} in the morning and {b} in the evening. How many were picked?", [(ADD, "")]),
    ("{name} owns {a} {things}. {other} gives {name} {b} of them more. How many {things} does {name} own?", [(ADD, "")]),
    ("Of {a} {things} on a table, {name} takes {b} away. How many {things} are on the table now?", [(SUBTRACT, "")]),
    ("{name} needs {a} {things} and has {b}. How many {things} are missing?", [(SUBTRACT, "")]),
    ("Each of {a} boxes holds {b} {things}. How many {things} do the boxes hold?", [(TIMES, "")]),
    ("{name} works {b} hours a day. How many hours does {name} work in {a} days?", [(TIMES, "")]),
    ("{name} had {a} {things}, won {b} and lost {c}. How many {things} does {name} have now?", [(ADD, ""), (THEN_SUBTRACT, "")]),
    ("A pond had {a} ducks. {b} flew away, then {c} came. How many ducks are in the pond?", [(SUBTRACT, ""), (THEN_ADD, "")]),
    (
        "{name} fills {a} jars with {b} {things} each and keeps {c} {things} besides. How many {things} are there?",
        [(TIMES, ""), (THEN_ADD, "")],
    ),
    ("{a} shelves have {b} {things} each. {name} sells {c}. How many {things} are left?", [(TIMES, ""), (THEN_SUBTRACT, "")]),
]


def numbers_of(steps, rng, of_the_test):
    """Numbers of which no result leaves 1 to LIMIT - 1. A fifth of the pairs of first numbers is the test's."""
    product = steps[0][0] == TIMES
    while True:
        a, b = (rng.randint(2, 9), rng.randint(2, 9)) if product else (rng.randint(2, 45), rng.randint(2, 45))
        c = rng.randint(2, 3) if steps[-1][0] == THEN_TIMES else rng.randint(2, 20)
        numbers, results = {"a": a, "b": b, "c": c}, []
        for operation, _ in steps:
            left, sign, right = operation
            values = numbers | {"r": results[-1] if results else None}
            x, y = values[left], values[right]
            results.append({"+": x + y, "-": x - y, "*": x * y}[sign])
        if all(0 < result < LIMIT for result in results) and ((a + 2 * b) % 5 == 0) == of_the_test:
            return numbers, results


def problem(templates, rng, of_the_test):
    """A question, its worked solution and its answer."""
    text, steps = rng.choice(templates)
    numbers, results = numbers_of(steps, rng, of_the_test)
    name, other = rng.sample(NAMES, 2)
    words = {"name": name, "other": other, "things": rng.choice(THINGS)} | numbers
    lines = []
    for (operation, said), result in zip(steps, results):
        left, sign, right = operation
        values = words | {"r": results[0]}
        lines.append(f"{said.format(**words)} {values[left]}{sign}{values[right]}={result}.")
    return text.format(**words), "\n".join([*lines, f"#### {results[-1]}"]), results[-1]


def rows(kind, rng, seen):
    templates = TEST if kind == "test" else TRAIN
    while True:
        question, solution, answer = problem(templates, rng, kind == "test")
        if question in seen:
            continue
        seen.add(question)
        prompt = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        yield {"prompt": prompt} | ({"completion": solution} if kind == "demonstrations" else {"answer": str(answer)})


def main():
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    directory.mkdir(parents=True, exist_ok=True)
    rng, seen = random.Random(0), set()
    for kind, count in COUNTS.items():
        made = rows(kind, rng, seen)
        with open(directory / f"{kind}.jsonl", "w", encoding="utf-8", newline="\n") as file:
            for _ in range(count):
                file.write(json.dumps(next(made)) + "\n")


if __name__ == "__main__":
    main()
