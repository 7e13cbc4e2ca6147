"""Holds the CPU device's training step against PyTorch's, on the same cores, in turns.

    python -m venv venv && venv/bin/pip install torch transformers
    cargo build --release && venv/bin/python tools/bench_step.py [--shape small|smollm2-135m] [--pairs 9] [--threads 2]

A step is 8 x 128 tokens, SFT, AdamW, f32, of a Llama with random weights: a small one, as in `dqo-wgpu bench --step`, or
one in the shape of SmolLM2-135M.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

DQO = Path(__file__).resolve().parents[1] / "target" / "release" / "dqo-wgpu"
SEQUENCES, TOKENS = 8, 128
# Of each shape: its configuration, and how many steps are timed after the first.
SHAPES = {
    "small": (dict(vocab_size=4096, hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4), 7),
    "smollm2-135m": (dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                          num_attention_heads=9, num_key_value_heads=3), 2),
}


class Steps:
    """Steps of both on one model and the same tokens."""

    def __init__(self, config, steps, dir):
        self.steps, self.dir = steps, Path(dir)
        self.model = LlamaForCausalLM(LlamaConfig(tie_word_embeddings=True, attn_implementation="sdpa", **config)).float()
        self.model.save_pretrained(self.dir / "model")
        self.optimizer = torch.optim.AdamW(self.model.train().parameters(), lr=5e-7, weight_decay=0.0)
        rows = [[random.randrange(config["vocab_size"]) for _ in range(TOKENS + 1)] for _ in range(SEQUENCES)]
        self.ids = torch.tensor(rows)
        lines = [json.dumps({"prompt_ids": row[:1], "completion_ids": row[1:]}) for row in rows]
        (self.dir / "rows.jsonl").write_text("\n".join(lines) + "\n")

    def torch(self):
        """Tokens a second of PyTorch's median step."""
        seconds = []
        for _ in range(self.steps + 1):
            start = time.perf_counter()
            self.optimizer.zero_grad()
            logits = self.model(self.ids[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), self.ids[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            seconds.append(time.perf_counter() - start)
        return SEQUENCES * TOKENS / statistics.median(seconds[1:])

    def dqo(self, threads):
        """Tokens a second of this project's median step."""
        with tempfile.TemporaryDirectory(dir=self.dir) as out:
            command = [DQO, "train", "--method", "sft", "--device", "cpu", "--model", self.dir / "model",
                       "--data", self.dir / "rows.jsonl", "--output-dir", Path(out) / "run", "--batch-size", SEQUENCES,
                       "--num-train-epochs", self.steps + 1, "--save-steps", 0]
            environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
            subprocess.run([str(part) for part in command], check=True, capture_output=True, env=environment)
            rows = (Path(out) / "run" / "metrics.jsonl").read_text().splitlines()
        seconds = [json.loads(row)["seconds"] for row in rows]
        return SEQUENCES * TOKENS / statistics.median(seconds[1:])


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--shape", choices=SHAPES, default="small")
    arguments.add_argument("--pairs", type=int, default=9)
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = arguments.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.shape}, PyTorch {torch.__version__}, {arguments.threads} threads")
    ratios = []
    with tempfile.TemporaryDirectory() as dir:
        steps = Steps(*SHAPES[arguments.shape], dir)
        for _ in range(arguments.pairs):
            ours, theirs = steps.dqo(arguments.threads), steps.torch()
            ratios.append(ours / theirs)
            print(f"dqo-wgpu {ours:.0f} tokens/s, PyTorch {theirs:.0f} tokens/s: {ratios[-1]:.2f} x", flush=True)
    print(f"median {statistics.median(ratios):.2f} x")


if __name__ == "__main__":
    main()
