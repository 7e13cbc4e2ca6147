"""Loads the adapters that a run wrote in peft, and holds their log-probs and values against the `logp` and `values` verbs'.

    python -m venv venv && venv/bin/pip install torch transformers peft
    venv/bin/python tools/check_adapter.py OUT ROLLOUTS.jsonl [ROWS]

OUT is a run of `train --lora-r R`: `final/policy` must load over a causal language model and `final/value`, where there is one,
over a token classifier with one label (Gemma 3's is a sequence classifier), each with every weight where peft expects it. With
MERGED_POLICY=DIR the log-probs of that directory, which `merge` made, are held against them too.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

DQO = os.environ.get("DQO", Path(__file__).resolve().parents[1] / "target" / "release" / "dqo-wgpu")
TOLERANCE = 1e-4


def load(kind, directory, **settings):
    """The base that the adapter names, with the adapter; every tensor of the file must have come to its place."""
    base = PeftConfig.from_pretrained(directory).base_model_name_or_path
    model = PeftModel.from_pretrained(kind.from_pretrained(base, dtype=torch.float32, **settings), directory).eval()
    weights = dict(model.named_parameters())
    stored = load_file(directory / "adapter_model.safetensors")
    for name, tensor in stored.items():
        layer, kind_of_tensor = name.rsplit(".", 1)
        places = [f"{layer}.default.{kind_of_tensor}", f"{layer}.modules_to_save.default.{kind_of_tensor}"]
        place = next(place for place in places if place in weights)
        assert torch.equal(weights[place], tensor), name
    adapters = [name for name in weights if "lora_" in name or "modules_to_save" in name]
    assert len(adapters) == len(stored), (len(adapters), len(stored))
    return base, model


def run(verb, *options):
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "out.jsonl"
        subprocess.run([DQO, verb, "--device", "cpu", "--output", output, *options], check=True, stdout=subprocess.DEVNULL)
        return [json.loads(line) for line in output.read_text().splitlines()]


def ids_of(row, tokenizer):
    prompt = row["prompt"]
    if isinstance(prompt, str):
        prompt = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    else:
        prompt = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    completion = row.get("completion_ids") or tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
    if "completion_ids" not in row and row.get("finish_reason") != "length":
        completion = completion + [tokenizer.eos_token_id]
    return row.get("prompt_ids", prompt), completion


def largest(what, theirs, ours):
    assert [len(row) for row in theirs] == [len(row) for row in ours]
    difference = max((t - torch.tensor(o)).abs().max().item() for t, o in zip(theirs, ours))
    print(f"{what}: {len(ours)} rows differ by at most {difference:.1e}")
    assert difference <= TOLERANCE


@torch.no_grad()
def main():
    final, rollouts, count = Path(sys.argv[1]) / "final", Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 4
    rows = [json.loads(line) for line in rollouts.read_text().splitlines()[:count]]
    base, policy = load(AutoModelForCausalLM, final / "policy")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokens = [ids_of(row, tokenizer) for row in rows]
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))

        theirs = []
        for prompt, completion in tokens:
            logits = policy(torch.tensor([prompt + completion])).logits[0, -len(completion) - 1 : -1]
            theirs.append(torch.log_softmax(logits, -1).gather(1, torch.tensor(completion)[:, None])[:, 0])
        logp = lambda *options: [row["logps"] for row in run("logp", "--data", data, *options)]
        largest("policy's log-probs", theirs, logp("--model", base, "--adapter", final / "policy"))
        if "MERGED_POLICY" in os.environ:
            largest("merged policy's log-probs", theirs, logp("--model", os.environ["MERGED_POLICY"]))

        if (final / "value" / "adapter_config.json").exists():
            kinds = {"TOKEN_CLS": AutoModelForTokenClassification, "SEQ_CLS": AutoModelForSequenceClassification}
            kind = kinds[PeftConfig.from_pretrained(final / "value").task_type]
            network = load(kind, final / "value", num_labels=1)[1].get_base_model()  # the adapters are in its layers
            theirs = []
            for prompt, completion in tokens:
                hidden = network.model(torch.tensor([prompt + completion])).last_hidden_state
                theirs.append(network.score(hidden)[0, -len(completion) - 1 : -1, 0])
            ours = run("values", "--value", base, "--adapter", final / "value", "--data", data)
            largest("values", theirs, [row["values"] for row in ours])


if __name__ == "__main__":
    main()
