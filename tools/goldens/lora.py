"""Makes kernels-tests/goldens/lora: adapters by PEFT over tiny models, and what PEFT and autograd compute of them.

    python -m venv venv && venv/bin/pip install torch transformers peft safetensors bitsandbytes gguf
    venv/bin/python tools/goldens/lora.py [SET...]

A set is a base, a policy's and a value network's adapters over it, rows, their log-probs and values by PEFT's models, and the
gradients of one step of DQO in every adapter weight and the value head. Where a set has a base in blocks, the networks compute
with what bitsandbytes and gguf make of its matrices.
"""

import json
import math
import shutil
import sys

import torch
from blocks import rounded
from make import DEFAULTS, OUT, dqo_losses, dqo_rows, logps_of, models, new_policy, new_value, save, values_of, write_rows
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

SETS = {
    # a rank that is no multiple of 4, an untied head
    "llama": dict(r=3, lora_alpha=6, target_modules=LINEAR),
    # a tied head, biases everywhere, a single row of A
    "llama3": dict(r=1, lora_alpha=2, target_modules=["q_proj", "v_proj", "down_proj"]),
    "qwen2": dict(r=4, lora_alpha=6, target_modules=LINEAR, use_rslora=True),
    "gemma": dict(r=5, lora_alpha=16, target_modules=["q_proj", "k_proj", "o_proj", "gate_proj", "up_proj"]),
    # norms on what blocks add, a value head without a bias
    "gemma3": dict(r=3, lora_alpha=6, target_modules=LINEAR),
    "llama_q4": dict(r=3, lora_alpha=6, target_modules=LINEAR),
    "qwen2_q8": dict(r=4, lora_alpha=6, target_modules=LINEAR),
    # embedding and head in blocks too: tied and scaled; apart
    "gemma_q4_q8": dict(r=3, lora_alpha=6, target_modules=LINEAR),
    "llama_q8_q8": dict(r=3, lora_alpha=6, target_modules=LINEAR),
}


def with_adapters(model, task_type, settings, generator):
    """Adapters of which neither A nor B is zero."""
    model = get_peft_model(model, LoraConfig(task_type=task_type, **settings)).eval()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_" in name:
            scale = 0.3 if "lora_B" in name else 1 / math.sqrt(parameter.shape[-1])
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return model


def round_base(model, base, head):
    """What `--base` and `--base-head` make of a model's weights."""
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Embedding) or name == "lm_head":
                module.weight.copy_(rounded(module.weight, head) if head else module.weight.bfloat16().float())
            elif isinstance(module, torch.nn.Linear) and name != "score":
                module.weight.copy_(rounded(module.weight, base))
    return model


def saved_name(name):
    """The name in adapter_model.safetensors."""
    return name.replace(".modules_to_save.default", "").replace(".default", "")


def gradients(model):
    return {saved_name(name): p.grad.float() for name, p in model.named_parameters() if p.requires_grad}


def save_adapter(model, directory):
    model.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)


def make_set(name, config, settings, base, seed):
    while not try_set(OUT / "lora" / name, config, settings, base, seed):
        seed += 1000


def try_set(directory, config, settings, in_blocks, seed):
    shutil.rmtree(directory, ignore_errors=True)
    generator = torch.Generator().manual_seed(seed)
    base, value_base = new_policy(config, seed), new_value(config, seed + 1)
    value_base.model.load_state_dict(base.model.state_dict())
    save(base, directory / "model")
    reference = new_policy(config, seed)
    if in_blocks:
        for model in base, value_base, reference:
            round_base(model, *in_blocks)
    policy = with_adapters(base, "CAUSAL_LM", settings, generator)
    has_bias = value_base.score.bias is not None
    value = with_adapters(value_base, "TOKEN_CLS" if has_bias else "SEQ_CLS", settings, generator)
    save_adapter(policy, directory / "policy")
    save_adapter(value, directory / "value")
    rows = dqo_rows(config.vocab_size, seed + 2, step_rewards=True, behavior_logps=reference)
    write_rows(directory / "rows.jsonl", rows)

    policy, value, reference = policy.double(), value.double(), reference.double()
    expected = []
    with torch.no_grad():
        for row in rows:
            logps, entropies = logps_of(policy, row["prompt_ids"], row["completion_ids"])
            values, _ = values_of(value, row["prompt_ids"], row["completion_ids"], False)
            expected.append(dict(logps=logps.tolist(), entropies=entropies.tolist(), values=values.tolist()))
    write_rows(directory / "expected.jsonl", expected)

    # The reference is the base, or (as by default) the policy as it starts.
    cases = []
    for case, compared in (("base", reference), ("start", policy)):
        policy.zero_grad()
        value.zero_grad()
        losses = dqo_losses(policy, value, compared, rows, DEFAULTS)
        for loss in losses:
            loss.backward()
        tensors = {f"policy.{name}": grad for name, grad in gradients(policy).items()}
        tensors |= {f"value.{name}": grad for name, grad in gradients(value).items()}
        whole = math.sqrt(sum((grad**2).sum().item() for name, grad in tensors.items() if name.startswith("value.")))
        # As in make.py: one sum over all tokens that is not a small difference of large ones.
        if has_bias and tensors["value.base_model.model.score.bias"].abs().item() <= 3e-3 * whole:
            return False
        save_file(tensors, directory / f"{case}.safetensors")
        cases.append(dict(case=case, policy_loss=losses[0].item(), value_loss=losses[1].item()))
    write_rows(directory / "cases.jsonl", cases)
    return True


if __name__ == "__main__":
    configs = models(41, 16, 24, 2)
    for seed, (name, settings) in enumerate(SETS.items()):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        config, base, head = (name + "__").split("_")[:3]
        make_set(name, configs[config], settings, (base, head) if base else None, 5000 + 10 * seed)
