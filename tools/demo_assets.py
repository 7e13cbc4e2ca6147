"""Makes assets/demo: the tiny model and the rollouts that `dqo-wgpu demo` trains on.

    python -m venv venv && venv/bin/pip install torch transformers safetensors numpy tokenizers
    cargo build --release && venv/bin/python tools/demo_assets.py

The task is addition with written-out steps. The model begins random, is taught by this project's own `sft` until it gets
about half of the sums right, and its own samples, right and wrong, are the rollouts.
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
    return fast


def solution(a, b):
    """Column by column from the right, with the carry; a step a paragraph."""
    steps, carry = [], 0
    for place in range(len(str(max(a, b)))):
        x, y = a // 10**place % 10, b // 10**place % 10
        total = x + y + carry
        steps.append(f"{x}+{y}+{carry}={total}")
        carry = total // 10
    return "\n\n".join([*steps, f"#### {a + b}"])


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
               "--num-train-epochs", "3", "--save-steps", "0"]
    subprocess.run([str(part) for part in command], check=True)
    return output / "final" / "policy"


def sample(directory, tokenizer, pairs, samples):
    """Responses at temperature 1 from the whole distribution, graded."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    end = tokenizer.convert_tokens_to_ids(END)
    rows = []
    for start in range(0, len(pairs), 50):
        for a, b in pairs[start : start + 50]:
            ids = tokenizer.apply_chat_template(prompt(a, b), return_tensors="pt", add_generation_prompt=True, return_dict=False)
            with torch.no_grad():
                out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=1.0, top_k=0,
                                     max_new_tokens=48, num_return_sequences=samples, eos_token_id=end, pad_token_id=end)
            for response in out[:, ids.shape[1] :].tolist():
                stopped = end in response
                text = tokenizer.decode(response[: response.index(end)] if stopped else response)
                right = stopped and text.endswith(f"#### {a + b}")
                rows.append(dict(prompt=prompt(a, b), completion=text, reward=float(right), answer=str(a + b),
                                 finish_reason="stop" if stopped else "length"))
    return rows


def main():
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        start = work / "start"
        tokenizer = make_tokenizer(start)
        config = LlamaConfig(vocab_size=len(CHARACTERS) + 1, hidden_size=64, intermediate_size=192, num_hidden_layers=3,
                             num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=128,
                             rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=None, eos_token_id=0, pad_token_id=None,
                             initializer_range=0.08)
        AutoModelForCausalLM.from_config(config).save_pretrained(start)
        (start / "generation_config.json").unlink(missing_ok=True)

        seen = set()
        taught = problems(8000, seen)
        rows = work / "sft.jsonl"
        write_rows(rows, [dict(prompt=prompt(a, b), completion=solution(a, b)) for a, b in taught])
        policy = sft(start, rows, work / "sft")

        train = sample(policy, tokenizer, problems(300, seen), 6)
        held_back = sample(policy, tokenizer, problems(80, seen), 4)
        for name, found in [("train", train), ("held back", held_back)]:
            print(f"{name}: {len(found)} rows, {sum(row['reward'] for row in found) / len(found):.0%} right")
        shutil.rmtree(OUT, ignore_errors=True)
        shutil.copytree(policy, OUT / "model")
        write_rows(OUT / "rollouts.jsonl", train)
        write_rows(OUT / "held_back.jsonl", held_back)


if __name__ == "__main__":
    main()
