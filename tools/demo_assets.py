"""Makes assets/demo: the tiny base model and the problems of `dqo-wgpu demo`.

    python -m venv venv && venv/bin/pip install torch transformers tokenizers
    cargo build --release && venv/bin/python tools/demo_assets.py

The task is addition with written-out steps, a column a paragraph, each with the carry of the one before. The model begins
random and is taught by this project's own `sft` from demonstrations of which some forget a carry: it knows how to add, and
does it right about half the time.
"""

import json
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "assets" / "demo"
DQO = ROOT / "target" / "release" / "dqo-wgpu"
CHARACTERS = "0123456789+=# \nQA:"
END = "<end>"
FORGETFUL = 0.45  # of the carries
torch.manual_seed(0)
rng = random.Random(0)


def make_tokenizer(directory):
    """A token a character."""
    vocabulary = {character: index for index, character in enumerate([END, *CHARACTERS])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)
    fast.chat_template = "{% for message in messages %}Q: {{ message['content'] }}\nA: {% endfor %}"
    fast.save_pretrained(directory)


def demonstration(a, b):
    """Column by column from the right; a step a paragraph. A carry may be forgotten, and the sum goes on without it."""
    steps, digits, carry = [], [], 0
    for place in range(max(len(str(a)), len(str(b)))):
        x, y = a // 10**place % 10, b // 10**place % 10
        total = x + y + carry
        steps.append(f"{x}+{y}+{carry}={total}")
        digits.append(total % 10)
        carry = total // 10
        if carry and rng.random() < FORGETFUL:
            carry = 0
    digits.append(carry)
    answer = int("".join(str(digit) for digit in reversed(digits)))
    return "\n\n".join([*steps, f"#### {answer}"])


def problems(count, seen):
    found = []
    while len(found) < count:
        a, b = rng.randrange(1000), rng.randrange(1000)
        if (a, b) not in seen:
            seen.add((a, b))
            found.append((a, b))
    return found


def prompt(a, b):
    return [{"role": "user", "content": f"{a}+{b}"}]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sft(model, rows, output):
    command = [DQO, "train", "--method", "sft", "--model", model, "--data", rows, "--output-dir", output, "--device", "cpu",
               "--batch-size", "64", "--learning-rate", "2e-3", "--lr-scheduler-type", "cosine", "--warmup-ratio", "0.05",
               "--num-train-epochs", "6", "--save-steps", "0"]
    subprocess.run([str(part) for part in command], check=True)
    return output / "final" / "policy"


def main():
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        start = work / "start"
        make_tokenizer(start)
        config = LlamaConfig(vocab_size=len(CHARACTERS) + 1, hidden_size=64, intermediate_size=192, num_hidden_layers=3,
                             num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=128,
                             rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=None, eos_token_id=0, pad_token_id=None,
                             initializer_range=0.08)
        AutoModelForCausalLM.from_config(config).save_pretrained(start)
        (start / "generation_config.json").unlink(missing_ok=True)

        seen = set()
        rows = work / "sft.jsonl"
        write_rows(rows, [dict(prompt=prompt(a, b), completion=demonstration(a, b)) for a, b in problems(20000, seen)])
        policy = sft(start, rows, work / "sft")

        shutil.rmtree(OUT, ignore_errors=True)
        shutil.copytree(policy, OUT / "model")
        for name, count in [("train", 300), ("test", 400)]:
            rows = [dict(prompt=prompt(a, b), answer=str(a + b)) for a, b in problems(count, seen)]
            write_rows(OUT / f"{name}.jsonl", rows)


if __name__ == "__main__":
    main()
