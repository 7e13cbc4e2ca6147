"""What a base in blocks costs in quality: accuracy before and after training adapters, and how far its log-probs are from f32's.

    cargo build --release && python3 tools/base_quality.py [--model DIR] [--train FILE] [--test FILE] [--seeds 3]
    python3 tools/base_quality.py --model DIR --demonstrations assets/word-problems/demonstrations.jsonl \\
        --test assets/word-problems/test.jsonl --max-problems 128 --seeds 1

For f32, bf16, q8 and q4, the last also with embedding and head in q8: problems are solved greedily by the model, answers to others
are sampled, adapters are trained on them by DQO over the same base, and problems are solved by these. With --demonstrations adapters are
trained by SFT on these in place of the model's own answers. The drift is over the answers of the model in f32, or over
the first 60 demonstrations. CPU device.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DQO = ROOT / "target" / "release" / "dqo-wgpu"
DEMO = ROOT / "assets" / "demo"
BASES = {name: ["--base", *name.split()] for name in ["f32", "bf16", "q8", "q4", "q4 --base-head q8"]}
TASK = ["--task", "gsm8k", "--max-new-tokens", "48"]
DQO_TRAINING = ["--method", "dqo", "--lora-r", "16", "--learning-rate", "1e-4", "--value-learning-rate", "1e-3",
                "--beta", "0.3", "--batch-size", "64"]
SFT_TRAINING = ["--method", "sft", "--lora-r", "16", "--learning-rate", "3e-4", "--batch-size", "16"]


def run(verb, *options):
    """What a verb prints."""
    command = [DQO, verb, "--device", "cpu", "--quiet", *map(str, options)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def logps(model, base, answers, output):
    run("logp", "--model", model, *base, "--data", answers, "--output", output)
    return [logp for row in rows(output) for logp in row["logps"]]


def answers_of(args, base, seed, path):
    """What adapters are trained on, and how."""
    if args.demonstrations:
        return args.demonstrations, SFT_TRAINING
    run("sample", "--model", args.model, *base, "--data", args.train, *TASK, "--num-samples", 4, "--seed", seed,
        "--output", path)
    return path, DQO_TRAINING


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=DEMO / "model")
    parser.add_argument("--train", type=Path, default=DEMO / "train.jsonl")
    parser.add_argument("--test", type=Path, default=DEMO / "test.jsonl")
    parser.add_argument("--demonstrations", type=Path)
    parser.add_argument("--max-problems", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    of_test = ["--data", args.test, *TASK, *(["--max-problems", args.max_problems] if args.max_problems else [])]

    def accuracy(base, *more):
        return json.loads(run("eval", "--model", args.model, *base, *of_test, "--json", *more))["accuracy"]

    print("| base | before | after, by seed | mean | log-probs off by, mean | at most |\n|---|--:|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        scored, exact = out / "f32-0.jsonl", None
        if args.demonstrations:
            scored.write_text("".join(args.demonstrations.read_text().splitlines(keepends=True)[:60]))
        for name, base in BASES.items():
            after = []
            for seed in range(args.seeds):
                answers, training = answers_of(args, base, seed, out / f"{name}-{seed}.jsonl")
                trained = out / f"{name}-{seed}"
                run("train", "--model", args.model, *base, "--data", answers, *training, "--seed", seed,
                    "--output-dir", trained)
                after.append(accuracy(base, "--adapter", trained / "final" / "policy"))
            found = logps(args.model, base, scored, out / "logps.jsonl")
            exact = exact or found
            drift = [abs(a - b) for a, b in zip(found, exact)]
            before = accuracy(base)
            by_seed = ", ".join(f"{100 * a:.1f}" for a in after)
            print(f"| {name} | {100 * before:.1f} % | {by_seed} | {100 * statistics.mean(after):.1f} % | "
                  f"{statistics.mean(drift):.1e} | {max(drift):.1e} |", flush=True)


if __name__ == "__main__":
    main()
