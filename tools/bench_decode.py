"""Holds decoding on the CPU device against transformers' generate, on the same cores, in turns.

    python -m venv venv && venv/bin/pip install torch transformers
    cargo build --release && venv/bin/python tools/bench_decode.py MODEL [BATCH]

Both decode greedily in f32: 64 tokens behind prompts of 128, a batch together; the prefill is not counted.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

DQO = Path(__file__).resolve().parents[1] / "target" / "release" / "dqo-wgpu"
PROMPT, RESPONSE, ROUNDS = 128, 64, 5


def transformers_speed(model, batch):
    """Tokens a second behind the first."""
    times = []


    ids = torch.randint(0, model.config.vocab_size, (batch, PROMPT))

    def mark(_, scores, **kwargs):
        times.append(time.perf_counter())
        return scores

    with torch.no_grad():
        model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=RESPONSE, min_new_tokens=RESPONSE,
                       pad_token_id=0, logits_processor=[mark])
    return batch / statistics.median(b - a for a, b in zip(times, times[1:]))


def dqo_speed(model, batch):
    command = [DQO, "bench", "--decode", "--device", "cpu", "--model", model, "--batch-size", str(batch), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["decode"]["tokens_per_second"]


def main():
    directory, batch = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 32
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, batch {batch}")
    ratios = []
    for _ in range(ROUNDS):
        ours, theirs = dqo_speed(directory, batch), transformers_speed(model, batch)
        ratios.append(ours / theirs)
        print(f"dqo-wgpu {ours:.0f} tokens/s, transformers {theirs:.0f} tokens/s: {ratios[-1]:.2f} x")
    print(f"median {statistics.median(ratios):.2f} x")


if __name__ == "__main__":
    main()
