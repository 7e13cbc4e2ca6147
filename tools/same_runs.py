"""Whether builds of the command compute the same runs, to the bit: what a change that must change nothing is held against.

    python3 tools/same_runs.py BEFORE [AFTER] [--only NAME] [--save FILE] [--against FILE]

BEFORE and AFTER are binaries. A set of small runs of every verb that computes (every method, full and by adapters, on the
CPU device and on the first adapter) is made by each, and the SHA-256 of every file of the results is compared: final
weights, checkpoints' optimizers, predictions, rollouts, log-probs, values, and metrics without the times in them. Bits are
those of one machine: both binaries run here. Exit code 1 where a file differs.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GOLDENS = ROOT / "kernels-tests" / "goldens"
DEMO = ROOT / "assets" / "demo"
DEVICES = ["cpu", "gpu"]
# What says how long something took; everything else in a metrics row is computed.
TIMES = {"seconds", "tokens_per_second"}
KEPT = {".safetensors", ".jsonl", ".json"}


def runs(device):
    """(name, words of the command) of every run; paths without a slash are in the run's own directory."""
    sets = {name: GOLDENS / name for name in ["methods", "ppo", "dqo/switches"]}
    base = ["train", "--device", device, "--output-dir", "OUT", "--learning-rate", "1e-2", "--batch-size", "4"]
    base += ["--max-steps", "6", "--tokens-per-micro-batch", "40", "--save-steps", "3"]

    def rows(directory, name="rows.jsonl"):
        return ["--model", directory / "policy", "--data", directory / name]

    lora = ["--lora-r", "5", "--lora-alpha", "8"]
    for method in ["sft", "rs", "dqo", "dro", "dpo", "kto"]:
        train = [*base, "--method", method, *rows(sets["methods"])]
        own = ["--beta", "0.2"] if method in ["dqo", "dro", "dpo", "kto"] else []
        yield method, [*train, *own]
        yield f"{method} lora", [*train, *own, *lora, "--gradient-checkpointing"]
    yield "dpo of pairs", [*base, "--method", "dpo", *rows(sets["methods"], "pairs.jsonl")]
    yield "kto weights", [
        *[*base, "--method", "kto", *rows(sets["methods"])],
        *["--desirable-weight", "1.5", "--undesirable-weight", "0.5", "--ref-model", sets["methods"] / "reference"],
    ]
    switches = {
        "lambda": ["--lambda", "0.95"],
        "paper": ["--lambda", "0.95", "--lambda-tail", "paper", "--policy-target", "td"],
        "mean": ["--loss-reduction", "mean", "--policy-is", "false"],
        "bootstrap": ["--truncated", "bootstrap", "--value-is", "false", "--process-scale", "0.5"],
        "drop": ["--truncated", "drop", "--value-learning-rate", "0.003"],
        "sgd": ["--optimizer", "sgd", "--max-grad-norm", "0"],
        "schedule": ["--lr-scheduler-type", "cosine", "--warmup-ratio", "0.3", "--weight-decay", "0.1"],
        "bf16": ["--dtype", "bf16"],
        "checkpointing": ["--gradient-checkpointing"],
    }
    if device == "cpu":
        switches["f64"] = ["--dtype", "f64"]
    for name, options in switches.items():
        extra = ["--value-model", sets["dqo/switches"] / "value", "--ref-model", sets["dqo/switches"] / "reference"]
        yield f"dqo {name}", [*base, "--method", "dqo", *rows(sets["dqo/switches"]), *extra, *options]
    for family in ["gemma", "llama3", "qwen2", "qwen3"]:
        yield f"dqo {family}", [*base, "--method", "dqo", *rows(GOLDENS / "dqo" / family)]
        model = GOLDENS / "models" / family
        log_probs = ["logp", "--device", device, "--model", model, "--data", model / "rows.jsonl"]
        yield f"logp {family}", [*log_probs, "--output", "logps.jsonl"]
    adapters = GOLDENS / "lora" / "qwen2"
    go_on = ["--model", adapters / "model", "--adapter", adapters / "policy", "--data", adapters / "rows.jsonl"]
    yield "dqo adapter", [*base, "--method", "dqo", *go_on, "--value-model", adapters / "value"]
    ppo = [*base, "--method", "ppo", "--model", sets["ppo"] / "policy", "--data", sets["ppo"] / "problems.jsonl"]
    ppo += ["--task", "gsm8k", "--max-new-tokens", "9", "--rollouts-per-round", "8", "--num-samples", "2"]
    yield "ppo", [*ppo, "--beta", "0.05", "--lambda", "0.95", "--ppo-epochs", "2"]
    yield "ppo lora", [*ppo, *lora, "--clip-range", "0.1", "--value-clip-range", "0.3"]

    model, problems = DEMO / "model", DEMO / "train.jsonl"
    policy = ["--device", device, "--model", model, "--data", problems, "--task", "gsm8k", "--max-problems", "12"]
    policy += ["--max-new-tokens", "48", "--seed", "7"]
    yield "demo", ["demo", "--device", device, "--max-problems", "24", "--num-train-epochs", "2", "--output-dir", "OUT"]
    yield "sample", ["sample", *policy, "--num-samples", "3", "--output", "rollouts.jsonl"]
    yield "eval", ["eval", *policy, "--output", "predictions.jsonl"]
    yield "eval sampled", ["eval", *policy, "--sample", "--num-seeds", "2", "--output", "predictions.jsonl"]


def process_reward(device):
    """Rollouts of the demo's model, and process rewards of them."""
    policy = ["--device", device, "--model", DEMO / "model", "--task", "gsm8k", "--max-new-tokens", "48"]
    sample = ["sample", *policy, "--data", DEMO / "train.jsonl", "--max-problems", "4", "--num-samples", "4"]
    scored = ["process-reward", *policy, "--data", "rollouts.jsonl", "--num-samples", "3", "--output", "scored.jsonl"]
    return [[*sample, "--output", "rollouts.jsonl"], scored]


def digest(path):
    data = path.read_bytes()
    if path.name == "metrics.jsonl":
        rows = [json.loads(line) for line in data.decode().splitlines()]
        kept = [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
        data = "\n".join(json.dumps(row, sort_keys=True) for row in kept).encode()
    return hashlib.sha256(data).hexdigest()


# What records where a run was made, or by which program; and an adapter's base by its path.
RECORDS = {"manifest.json", "reference.json", "adapter_config.json"}


def results(directory):
    files = [path for path in directory.rglob("*") if path.suffix in KEPT and path.name not in RECORDS]
    return {str(path.relative_to(directory)): digest(path) for path in sorted(files) if ".reference" not in str(path)}


def make(binary, commands):
    with tempfile.TemporaryDirectory() as directory:
        for words in commands:
            # Runs write beside their rows: they get a copy.
            words = [str(word) for word in words]
            if "--data" in words:
                place = words.index("--data") + 1
                copy = Path(directory) / "given" / Path(words[place]).name
                if os.sep in words[place]:
                    copy.parent.mkdir(exist_ok=True)
                    copy.write_bytes(Path(words[place]).read_bytes())
                    words[place] = str(copy)
            done = subprocess.run([binary, *words], cwd=directory, capture_output=True, text=True)
            if done.returncode != 0:
                return {"exit code": str(done.returncode), "error": done.stderr.strip().splitlines()[-1:]}
        return {name: sha for name, sha in results(Path(directory)).items() if not name.startswith("given")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binaries", nargs="+", type=Path)
    parser.add_argument("--only", default="", help="only runs whose name contains this")
    parser.add_argument("--save", type=Path, help="write the hashes of the first binary's results")
    parser.add_argument("--against", type=Path, help="compare with hashes that were saved on this machine")
    args = parser.parse_args()
    wanted = []
    for device in DEVICES:
        of_device = [(name, [words]) for name, words in runs(device)] + [("process-reward", process_reward(device))]
        wanted += [(f"{device}: {name}", commands) for name, commands in of_device]
    before, failed, files = {}, 0, 0
    if args.against:
        before = json.loads(args.against.read_text())
    for name, commands in wanted:
        if args.only not in name:
            continue
        made = [make(binary.resolve(), commands) for binary in args.binaries]
        if args.against:
            made.insert(0, before[name])
        before.setdefault(name, made[0])
        differ = sorted({file for of_one in made[1:] for file in set(made[0]) | set(of_one) if made[0].get(file) != of_one.get(file)})
        failed += bool(differ or "exit code" in made[0])
        files += len(made[0])
        print(f"{'DIFFERS' if differ else 'same' if len(made) > 1 else 'made'}  {name}: {len(made[0])} files {' '.join(differ)}", flush=True)
        if "exit code" in made[-1] or "exit code" in made[0]:
            print(f"    {made[-1].get('error')} {made[0].get('error')}")
    if args.save:
        args.save.write_text(json.dumps(before, indent=1))
    print(f"{files} files, {failed} runs differ")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
