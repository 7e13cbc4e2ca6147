"""Trains by every method with each --matmul-precision on the demo's model and sums, and shows the accuracies side by side.

    cargo build --release && python3 tools/by_precision.py [--seeds 3] [--epochs 1] [--folder DIR]

For each seed 8 responses to each of 300 sums are sampled once; every method learns from them, at each precision, and is asked 400 other
sums: one sample each. What is in the folder is kept and not computed again.
"""

import argparse
import json
import math
import statistics
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DQO = ROOT / "target" / "release" / "dqo-wgpu"
DEMO = ROOT / "assets" / "demo"
PRECISIONS = ["highest", "high", "medium"]
METHODS = {
    "sft": ["--learning-rate", "1e-4"],
    "rs": ["--learning-rate", "1e-4"],
    "dpo": ["--learning-rate", "1e-5", "--beta", "0.1"],
    "kto": ["--learning-rate", "1e-5", "--beta", "0.1"],
    "dro": ["--learning-rate", "1e-4", "--value-learning-rate", "1e-3", "--beta", "0.1"],
    "dqo": ["--learning-rate", "1e-4", "--value-learning-rate", "1e-3", "--beta", "0.1", "--value-is", "false"],
    "a2po": ["--learning-rate", "1e-5"],
    "grpo": ["--learning-rate", "1e-5"],
    "ppo": ["--learning-rate", "1e-4", "--value-learning-rate", "1e-3", "--task", "gsm8k", "--max-new-tokens", "48"],
}


def run(*arguments):
    command = [DQO, *map(str, arguments), "--device", "cpu", "--quiet", "--json"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def rollouts(folder, seed):
    path = folder / f"rollouts-{seed}.jsonl"
    if not path.exists():
        run("sample", "--model", DEMO / "model", "--task", "gsm8k", "--data", DEMO / "train.jsonl", "--num-samples", 8,
            "--max-new-tokens", 48, "--top-k", 0, "--top-p", 1, "--min-prob", 0, "--seed", seed, "--output", path)
    return path


def accuracy(folder, method, precision, seed, epochs):
    """The share of right samples after training."""
    output = folder / f"{method}-{precision}-{seed}"
    result = folder / f"{method}-{precision}-{seed}.json"
    if not result.exists():
        data = DEMO / "train.jsonl" if method == "ppo" else rollouts(folder, seed)
        run("train", "--method", method, "--model", DEMO / "model", "--data", data, "--output-dir", output,
            "--num-train-epochs", epochs, "--seed", seed, "--matmul-precision", precision, *METHODS[method])
        said = run("eval", "--model", output / "final" / "policy", "--task", "gsm8k", "--data", DEMO / "test.jsonl",
                   "--max-new-tokens", 48, "--sample", "--seed", seed, "--matmul-precision", precision)
        result.write_text(said)
    return json.loads(result.read_text())["accuracy"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("by-precision"))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    print(f"| method | {' | '.join(PRECISIONS)} | standard error |")
    print("|---|--:|--:|--:|--:|")
    for method in METHODS:
        of = lambda precision, seed: accuracy(args.folder, method, precision, seed, args.epochs)
        means = [statistics.mean(of(precision, seed) for seed in range(1, args.seeds + 1)) for precision in PRECISIONS]
        # Of the mean of so many samples of sums.
        error = math.sqrt(means[0] * (1 - means[0]) / (400 * args.seeds))
        print(f"| {method} | {' | '.join(f'{100 * mean:.1f} %' for mean in means)} | {100 * error:.1f} |", flush=True)


if __name__ == "__main__":
    main()
