"""Holds the CPU device's training step against PyTorch's, on the same cores, in turns.

    python -m venv venv && venv/bin/pip install torch transformers
    cargo build --release && venv/bin/python tools/bench_step.py [--shape small|135m] [--pairs 9]

The step is that of `dqo-wgpu bench --step --shape`: SFT and AdamW in f32, of a Llama of hidden 256, 4 layers, 4 heads,
intermediate 768 and a tied vocabulary of 4096 on 8 x 128 tokens, or of one in the shape of SmolLM2-135M on 4 x 512.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path

import torch
from torch_step import median_seconds
from transformers import AutoModelForCausalLM, LlamaConfig

DQO = Path(__file__).resolve().parents[1] / "target" / "release" / "dqo-wgpu"


def dqo_report(shape):
    """This project's step: the model's configuration, the tokens, and the median step's tokens a second."""
    command = [DQO, "bench", "--step", "--shape", shape, "--device", "cpu", "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def torch_step(config, sequences, tokens):
    """Tokens a second of PyTorch's median step."""
    config = LlamaConfig.from_dict(config)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").float().train()
    logits_of = lambda ids: model(ids, use_cache=False).logits
    seconds = median_seconds(logits_of, list(model.parameters()), config.vocab_size, sequences, tokens)
    return sequences * tokens / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=["small", "135m"], default="small")
    parser.add_argument("--pairs", type=int, default=9)
    args = parser.parse_args()
    print(f"{args.shape}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    ratios = []
    for _ in range(args.pairs):
        report = dqo_report(args.shape)
        ours = report["step"]["tokens_per_second"]
        theirs = torch_step(report["config"], report["sequences"], report["tokens"])
        ratios.append(ours / theirs)
        print(f"dqo-wgpu {ours:.0f} tokens/s, PyTorch {theirs:.0f} tokens/s: {ratios[-1]:.2f} x", flush=True)
    print(f"median {statistics.median(ratios):.2f} x")


if __name__ == "__main__":
    main()
