"""Loads what a run wrote in transformers, and holds its log-probs against the `logp` verb's.

    python -m venv venv && venv/bin/pip install torch transformers
    venv/bin/python tools/check_run.py OUT ROLLOUTS.jsonl [ROWS]

The policy must load as a causal language model, the value network as what its config.json says, a classifier with one label, each
with every weight where transformers expects it; the first rows' log-probs must agree to 1e-3 (sums over 49152 logits in f32, in
another order).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

DQO = Path(__file__).resolve().parents[1] / "target" / "release" / "dqo-wgpu"
TOLERANCE = 1e-3


def load(kind, directory):
    model, info = kind.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    missing = [name for name in info["missing_keys"] if name != "lm_head.weight"]  # tied
    assert not missing and not info["unexpected_keys"] and not info["mismatched_keys"], info
    return model.eval()


def main():
    final, rollouts, count = Path(sys.argv[1]) / "final", Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 4
    rows = [json.loads(line) for line in rollouts.read_text().splitlines()[:count]]
    policy = load(AutoModelForCausalLM, final / "policy")
    tokenizer = AutoTokenizer.from_pretrained(final / "policy")
    if (final / "value").exists():
        architecture = json.loads((final / "value" / "config.json").read_text())["architectures"][0]
        value = load(getattr(transformers, architecture), final / "value")
        assert value.score.out_features == 1
        bias = "none" if value.score.bias is None else f"{value.score.bias.item():.2e}"
        print(f"value network: {type(value).__name__}, score {tuple(value.score.weight.shape)}, bias {bias}")

    with tempfile.TemporaryDirectory() as directory:
        data, output = Path(directory) / "rows.jsonl", Path(directory) / "logps.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        subprocess.run([DQO, "logp", "--device", "cpu", "--model", final / "policy", "--data", data, "--output", output],
                       check=True, stdout=subprocess.DEVNULL)
        ours = [json.loads(line)["logps"] for line in output.read_text().splitlines()]

    largest = 0.0
    for row, logps in zip(rows, ours):
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        completion = row.get("completion_ids") or tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
        if "completion_ids" not in row and row.get("finish_reason") != "length":
            completion = completion + [tokenizer.eos_token_id]
        with torch.no_grad():
            logits = policy(torch.tensor([row.get("prompt_ids", prompt) + completion])).logits[0, -len(completion) - 1 : -1]
        theirs = torch.log_softmax(logits, -1).gather(1, torch.tensor(completion)[:, None])[:, 0]
        assert len(theirs) == len(logps)
        largest = max(largest, (theirs - torch.tensor(logps)).abs().max().item())
    print(f"policy: {type(policy).__name__}; {len(rows)} rows' log-probs differ by at most {largest:.1e}")
    assert largest <= TOLERANCE


if __name__ == "__main__":
    main()
