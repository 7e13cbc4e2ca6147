"""Holds the CPU device's training step against PyTorch's, on the same cores, in turns.

    python -m venv venv && venv/bin/pip install torch transformers
    cargo build --release && venv/bin/python tools/bench_step.py

The step is that of `dqo-wgpu bench --step`: a Llama of hidden 256, 4 layers, 4 heads, intermediate 768 and a tied
vocabulary of 4096, 8 x 128 tokens, SFT, AdamW, f32.
"""

import json
import statistics
import subprocess
from pathlib import Path

import torch
from torch_step import median_seconds
from transformers import LlamaConfig, LlamaForCausalLM

DQO = Path(__file__).resolve().parents[1] / "target" / "release" / "dqo-wgpu"
SEQUENCES, TOKENS, ROUNDS = 8, 128, 5


def torch_step():
    """Tokens a second of PyTorch's median step."""
    config = LlamaConfig(vocab_size=4096, hidden_size=256, intermediate_size=768, num_hidden_layers=4,
                         num_attention_heads=4, tie_word_embeddings=True, attn_implementation="sdpa")
    model = LlamaForCausalLM(config).float().train()
    logits_of = lambda ids: model(ids, use_cache=False).logits
    return SEQUENCES * TOKENS / median_seconds(logits_of, list(model.parameters()), 4096, SEQUENCES, TOKENS)


def dqo_step():
    """Tokens a second of this project's median step."""
    command = [DQO, "bench", "--step", "--device", "cpu", "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["step"]["tokens_per_second"]


def main():
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    ratios = []
    for _ in range(ROUNDS):
        ours, theirs = dqo_step(), torch_step()
        ratios.append(ours / theirs)
        print(f"dqo-wgpu {ours:.0f} tokens/s, PyTorch {theirs:.0f} tokens/s: {ratios[-1]:.2f} x")
    print(f"median {statistics.median(ratios):.2f} x")


if __name__ == "__main__":
    main()
