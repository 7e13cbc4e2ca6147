"""What a base in blocks costs in quality: accuracy before and after DQO with adapters, and how far its log-probs are from f32's.

    cargo build --release && python3 tools/base_quality.py [--model DIR] [--train FILE] [--test FILE] [--seeds 3]

For f32, bf16, q8 and q4: problems are solved greedily by the model, answers to others are sampled, adapters are trained on them
over the same base, and problems are solved by these. The drift is over answers that the model in f32 sampled. CPU device.
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
BASES = ["f32", "bf16", "q8", "q4"]
TASK = ["--task", "gsm8k", "--max-new-tokens", "48"]
TRAINING = ["--method", "dqo", "--lora-r", "16", "--learning-rate", "1e-4", "--value-learning-rate", "1e-3",
            "--beta", "0.3", "--batch-size", "64"]


def run(verb, *options):
    """What a verb prints."""
    command = [DQO, verb, "--device", "cpu", "--quiet", *map(str, options)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def accuracy(model, base, test, *more):
    return json.loads(run("eval", "--model", model, "--base", base, "--data", test, *TASK, "--json", *more))["accuracy"]


def logps(model, base, rollouts, output):
    run("logp", "--model", model, "--base", base, "--data", rollouts, "--output", output)
    return [logp for row in rows(output) for logp in row["logps"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=DEMO / "model")
    parser.add_argument("--train", type=Path, default=DEMO / "train.jsonl")
    parser.add_argument("--test", type=Path, default=DEMO / "test.jsonl")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    print("| base | before | after, by seed | mean | log-probs off by, mean | at most |\n|---|--:|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        exact = None
        for base in BASES:
            after = []
            for seed in range(args.seeds):
                rollouts, trained = out / f"{base}-{seed}.jsonl", out / f"{base}-{seed}"
                run("sample", "--model", args.model, "--base", base, "--data", args.train, *TASK, "--num-samples", 4,
                    "--seed", seed, "--output", rollouts)
                run("train", "--model", args.model, "--base", base, "--data", rollouts, *TRAINING, "--seed", seed,
                    "--output-dir", trained)
                after.append(accuracy(args.model, base, args.test, "--adapter", trained / "final" / "policy"))
            found = logps(args.model, base, out / "f32-0.jsonl", out / "logps.jsonl")
            exact = exact or found
            drift = [abs(a - b) for a, b in zip(found, exact)]
            before = accuracy(args.model, base, args.test)
            by_seed = ", ".join(f"{100 * a:.1f}" for a in after)
            print(f"| {base} | {100 * before:.1f} % | {by_seed} | {100 * statistics.mean(after):.1f} % | "
                  f"{statistics.mean(drift):.1e} | {max(drift):.1e} |", flush=True)


if __name__ == "__main__":
    main()
