"""Makes kernels-tests/goldens: tiny models, rows, and what PyTorch and transformers compute of them.

    python -m venv venv && venv/bin/pip install torch transformers safetensors numpy tokenizers tensorboard
    venv/bin/python tools/goldens/make.py [SET...]

Every number the tests compare with comes from here: log-probs from transformers' own models, gradients from autograd
over the formulas of the paper written out as sums, training runs from torch.optim.
"""

import json
import math
import os
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
    get_scheduler,
)

OUT = Path(__file__).resolve().parents[2] / "kernels-tests" / "goldens"
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
LINEAR = dict(rope_type="linear", rope_theta=10000.0, factor=8.0)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32, beta_fast=8.0)
BY_LAYER = dict(full_attention=dict(rope_type="linear", rope_theta=1000000.0, factor=8.0),
                sliding_attention=dict(rope_type="default", rope_theta=10000.0))
WINDOW = 5


def models(vocabulary, hidden, intermediate, layers):
    """A model of every kind; the vocabularies are odd, so that the last chunk of the LM head is filled up."""
    sizes = dict(vocab_size=vocabulary, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
                 max_position_embeddings=256, bos_token_id=1, eos_token_id=2,
                 pad_token_id=None)  # an embedding with a padding index has no gradient there
    return {
        # grouped heads, a head wider than hidden / heads, an untied head
        "llama": LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, head_dim=12, tie_word_embeddings=False),
        "llama3": LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=1, head_dim=16, tie_word_embeddings=True,
                              attention_bias=True, mlp_bias=True, rope_parameters=LLAMA3),
        "mistral": MistralConfig(**sizes, num_attention_heads=2, num_key_value_heads=2, head_dim=16, sliding_window=None),
        "qwen2": Qwen2Config(**sizes, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True),
        "qwen3": Qwen3Config(**sizes, num_attention_heads=4, num_key_value_heads=2, head_dim=12, tie_word_embeddings=False),
        "gemma": GemmaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1, head_dim=20),
        "mistral_window": MistralConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, head_dim=8, sliding_window=WINDOW),
        # from the second layer on
        "qwen2_window": Qwen2Config(**sizes, num_attention_heads=4, num_key_value_heads=2, use_sliding_window=True,
                                    sliding_window=WINDOW, max_window_layers=1),
        # the last layer slides the window and has no rotary embedding
        "smollm3": SmolLM3Config(**sizes, num_attention_heads=4, num_key_value_heads=2, use_sliding_window=True,
                                 sliding_window=WINDOW, no_rope_layers=[1] * (layers - 1) + [0]),
        # the last layer sees all
        "gemma3": Gemma3TextConfig(**sizes, num_attention_heads=2, num_key_value_heads=1, head_dim=12, query_pre_attn_scalar=20,
                                   sliding_window=WINDOW, rope_parameters=BY_LAYER,
                                   layer_types=["sliding_attention"] * (layers - 1) + ["full_attention"]),
        "linear": LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1, head_dim=16, rope_parameters=LINEAR),
        "yarn": LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1, head_dim=16, rope_parameters=YARN),
    }


def randomize(model, seed):
    """Weights large enough that every part of the model matters; norms around their neutral value."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("norm.weight"):
            neutral = 0.0 if model.config.model_type.startswith("gemma") else 1.0
            parameter.data = neutral + 0.2 * noise
        elif name.endswith("bias"):
            parameter.data = 0.2 * noise
        elif name == "score.weight":
            parameter.data = 0.3 * noise
        else:
            parameter.data = noise * (1.5 / math.sqrt(parameter.shape[-1]))
    return model


def new_policy(config, seed):
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return randomize(model.float(), seed).eval()


def new_value(config, seed):
    config = config.__class__.from_dict({**config.to_dict(), "num_labels": 1})
    # Gemma 3 has no token classifier; its sequence classifier's head is the same without a bias.
    classifier = AutoModelForSequenceClassification if config.model_type == "gemma3_text" else AutoModelForTokenClassification
    model = classifier.from_config(config, attn_implementation="eager")
    return randomize(model.float(), seed).eval()


def save(model, directory):
    model.save_pretrained(directory)
    for extra in ("generation_config.json",):
        (directory / extra).unlink(missing_ok=True)


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def ids(generator, count, vocabulary):
    return torch.randint(0, vocabulary, (count,), generator=generator).tolist()


def logps_of(model, prompt, completion):
    """Log-probs of the completion's tokens and entropies of their distributions; and the hidden state's log-softmax."""
    tokens = torch.tensor([prompt + completion])
    logits = model(tokens).logits[0, len(prompt) - 1 : -1]
    log_softmax = torch.log_softmax(logits, dim=-1)
    logps = log_softmax[torch.arange(len(completion)), torch.tensor(completion)]
    return logps, -(log_softmax.exp() * log_softmax).sum(-1)


def values_of(model, prompt, completion, bootstrap):
    """V of the state before each action, and behind the last one where it is wanted."""
    tokens = torch.tensor([prompt + completion])
    network = model.get_base_model() if hasattr(model, "get_base_model") else model  # adapters are in its layers
    values = network.score(network.model(tokens).last_hidden_state)[0, :, 0][len(prompt) - 1 :]
    return values[:-1], values[-1] if bootstrap else torch.zeros((), dtype=values.dtype)


# ---- log-probs of transformers' models -------------------------------------------------------------------------------

def make_logps():
    vocabulary = 101
    for seed, (name, config) in enumerate(models(vocabulary, 32, 48, 2).items()):
        directory = OUT / "models" / name
        model = new_policy(config, 100 + seed)
        save(model, directory)
        generator = torch.Generator().manual_seed(seed)
        lengths = [(1, 1), (3, 5), (20, 37), (7, 1), (2, 90), (40, 24), (11, 11)]
        rows, expected = [], []
        for prompt_length, completion_length in lengths:
            prompt, completion = ids(generator, prompt_length, vocabulary), ids(generator, completion_length, vocabulary)
            with torch.no_grad():
                logps, entropies = logps_of(model, prompt, completion)
            rows.append(dict(prompt_ids=prompt, completion_ids=completion))
            expected.append(dict(logps=logps.tolist(), entropies=entropies.tolist()))
        write_rows(directory / "rows.jsonl", rows)
        write_rows(directory / "logps.jsonl", expected)


# ---- one step of DQO -------------------------------------------------------------------------------------------------

DEFAULTS = dict(beta=0.03, **{"lambda": 1.0}, lambda_tail="standard", policy_target="lambda", policy_is=True,
                value_is=True, loss_reduction="sum", process_scale=1.0, truncated="zero")


def small():
    return models(41, 16, 24, 1)["llama"]


def dqo_rows(vocabulary, seed, step_rewards=False, behavior_logps=None):
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for index, (prompt_length, completion_length) in enumerate([(4, 9), (1, 1), (6, 17), (3, 4)]):
        row = dict(prompt_ids=ids(generator, prompt_length, vocabulary), completion_ids=ids(generator, completion_length, vocabulary),
                   reward=float(index % 2), finish_reason="length" if index == 2 else "stop")
        if step_rewards and completion_length > 3:
            row["step_rewards"] = [dict(end=2, reward=0.25), dict(end=completion_length, reward=-0.5), dict(end=2, reward=0.5)]
        rows.append(row)
    if behavior_logps is not None:
        with torch.no_grad():
            for row, shift in zip(rows, [-0.02, 0.4, 0.03, -0.5]):
                logps, _ = logps_of(behavior_logps, row["prompt_ids"], row["completion_ids"])
                row["behavior_logps"] = [logp + shift for logp in logps.tolist()]
    return rows


def dqo_losses(policy, value, reference, rows, settings):
    """Section 3 of the paper, written out: the n-step returns and their weighted sum, not the recurrence."""
    beta, lam = settings["beta"], settings["lambda"]
    rows = [row for row in rows if settings["truncated"] != "drop" or row["finish_reason"] != "length"]
    policy_loss, value_loss = 0.0, 0.0
    for row in rows:
        prompt, completion = row["prompt_ids"], row["completion_ids"]
        n = len(completion)
        logp, _ = logps_of(policy, prompt, completion)
        with torch.no_grad():
            logp_ref, _ = logps_of(reference, prompt, completion)
        goes_on = settings["truncated"] == "bootstrap" and row["finish_reason"] == "length"
        v, v_final = values_of(value, prompt, completion, goes_on)
        rewards = torch.zeros(n, dtype=v.dtype)
        rewards[-1] += row["reward"]
        for step in row.get("step_rewards", []):
            rewards[step["end"] - 1] += settings["process_scale"] * step["reward"]
        behavior = torch.tensor(row["behavior_logps"], dtype=v.dtype) if "behavior_logps" in row else logp_ref
        w = torch.exp(torch.clamp((logp - behavior).sum(), max=1.0)).detach()

        # Constants for the gradient: the returns and, in the policy's loss, the values.
        k = (beta * (logp_ref - logp)).detach()
        states = torch.cat([v, v_final[None]]).detach()  # V of s_1 .. s_{n+1}
        returns = []
        for t in range(n):
            horizon = n - t
            steps = [states[t + m] + (rewards[t : t + m] + k[t : t + m]).sum() for m in range(1, horizon + 1)]
            if lam == 1.0:
                returns.append(steps[-1])
            else:
                weights = [(1 - lam) * lam ** (m - 1) for m in range(1, horizon + 1)]
                if settings["lambda_tail"] == "standard":
                    weights[-1] = lam ** (horizon - 1)
                returns.append(sum(weight * step for weight, step in zip(weights, steps)))
        g_final = states[n] if settings["lambda_tail"] == "standard" or lam == 1.0 else torch.zeros_like(states[n])
        g = torch.stack(returns + [g_final])
        following = states[1:] if settings["policy_target"] == "td" else g[1:]
        e = beta * (logp - logp_ref) - (rewards + following - states[:n])
        f = g[:n] - v
        scale = 1.0 / (len(rows) * (n if settings["loss_reduction"] == "mean" else 1))
        policy_loss = policy_loss + scale * (w if settings["policy_is"] else 1.0) * (e**2).sum()
        value_loss = value_loss + scale * (w if settings["value_is"] else 1.0) * (f**2).sum()
    return policy_loss, value_loss


def gradients(model):
    """By the names that are saved: a tied head has its embedding's name only."""
    return {name: parameter.grad.float() for name, parameter in model.named_parameters()}


def is_well_conditioned(tensors):
    """Whether the value head's bias, whose gradient is one sum over all tokens, is not a small difference of large ones:
    f32 could not tell it to 1e-4."""
    if "value.score.bias" not in tensors:
        return True
    whole = math.sqrt(sum((grad**2).sum().item() for name, grad in tensors.items() if name.startswith("value.")))
    return tensors["value.score.bias"].abs().item() > 3e-3 * whole


def make_dqo_set(name, config, seed, cases):
    """Networks and rows, and the gradients of several settings over them."""
    while not try_dqo_set(OUT / "dqo" / name, config, seed, cases):
        seed += 1000


def try_dqo_set(directory, config, seed, cases):
    policy, value, reference = new_policy(config, seed), new_value(config, seed + 1), new_policy(config, seed)
    # A reference close by: kl terms that matter.
    generator = torch.Generator().manual_seed(seed + 2)
    for parameter in reference.parameters():
        parameter.data += 0.05 * parameter.data.std() * torch.randn(parameter.shape, generator=generator)
    for model, part in [(policy, "policy"), (value, "value"), (reference, "reference")]:
        save(model, directory / part)
    rows = dqo_rows(config.vocab_size, seed + 3, step_rewards=True, behavior_logps=reference)
    write_rows(directory / "rows.jsonl", rows)
    plain = [{name: field for name, field in row.items() if name not in ("behavior_logps", "step_rewards")} for row in rows]
    write_rows(directory / "plain_rows.jsonl", plain)

    policy, value, reference = policy.double(), value.double(), reference.double()
    summaries = []
    for case, changes in cases.items():
        settings = {**DEFAULTS, **changes}
        policy.zero_grad()
        value.zero_grad()
        losses = dqo_losses(policy, value, reference, plain if case == "plain_rows" else rows, settings)
        for loss in losses:
            loss.backward()
        tensors = {f"policy.{name}": grad for name, grad in gradients(policy).items()}
        tensors |= {f"value.{name}": grad for name, grad in gradients(value).items()}
        if not is_well_conditioned(tensors):
            return False
        save_file(tensors, directory / f"{case}.safetensors")
        policy_loss, value_loss = (loss.item() for loss in losses)
        summaries.append(dict(case=case, settings=changes, policy_loss=policy_loss, value_loss=value_loss))
    write_rows(directory / "cases.jsonl", summaries)
    return True


def make_dqo():
    for seed, (name, config) in enumerate(models(41, 16, 24, 2).items()):
        make_dqo_set(name, config, 1000 + 10 * seed, {"defaults": {}})
    make_dqo_set("switches", small(), 2000, {
        "lambda_1": {},
        "lambda_095": {"lambda": 0.95},
        "lambda_095_paper": {"lambda": 0.95, "lambda_tail": "paper"},
        "lambda_1_paper": {"lambda_tail": "paper"},
        "td": {"policy_target": "td"},
        "td_lambda_095": {"policy_target": "td", "lambda": 0.95},
        "td_lambda_095_paper": {"policy_target": "td", "lambda": 0.95, "lambda_tail": "paper"},
        "no_policy_is": {"policy_is": False},
        "no_value_is": {"value_is": False},
        "no_is": {"policy_is": False, "value_is": False},
        "mean": {"loss_reduction": "mean"},
        "bootstrap": {"truncated": "bootstrap"},
        "bootstrap_lambda_095_paper": {"truncated": "bootstrap", "lambda": 0.95, "lambda_tail": "paper"},
        "drop": {"truncated": "drop"},
        "process_scale": {"process_scale": 0.3, "beta": 0.3},
        "plain_rows": {},  # neither behavior_logps (the reference stands in) nor step_rewards
    })


# ---- twenty steps of AdamW -------------------------------------------------------------------------------------------

def make_adamw():
    """Every step takes all four rows, so that the order of the shuffle does not matter."""
    directory = OUT / "adamw"
    settings = {**DEFAULTS, "learning_rate": 2e-3, "value_learning_rate": 5e-3, "weight_decay": 0.1, "max_grad_norm": 0.5,
                "lr_scheduler_type": "cosine", "warmup_ratio": 0.2, "steps": 20}
    policy, value, reference = new_policy(small(), 3000), new_value(small(), 3001), new_policy(small(), 3000)
    save(policy, directory / "policy")
    save(value, directory / "value")
    rows = dqo_rows(policy.config.vocab_size, 3002, step_rewards=True, behavior_logps=policy)
    write_rows(directory / "rows.jsonl", rows)
    policy, value, reference = policy.double(), value.double(), reference.double()
    networks = [(policy, settings["learning_rate"]), (value, settings["value_learning_rate"])]
    optimizers = [torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=settings["weight_decay"]) for model, rate in networks]
    warmup = math.ceil(settings["warmup_ratio"] * settings["steps"])
    schedulers = [get_scheduler(settings["lr_scheduler_type"], optimizer, warmup, settings["steps"]) for optimizer in optimizers]
    steps = []
    for _ in range(settings["steps"]):
        losses = dqo_losses(policy, value, reference, rows, settings)
        norms = []
        rates = [scheduler.get_last_lr()[0] for scheduler in schedulers]
        for loss, (model, _), optimizer, scheduler in zip(losses, networks, optimizers, schedulers):
            optimizer.zero_grad()
            loss.backward()
            norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), settings["max_grad_norm"]).item())
            optimizer.step()
            scheduler.step()
        steps.append(dict(policy_loss=losses[0].item(), value_loss=losses[1].item(), grad_norm=norms[0], value_grad_norm=norms[1],
                          learning_rate=rates[0], value_learning_rate=rates[1]))
    (directory / "steps.json").write_text(json.dumps(steps, indent=1) + "\n")


def make_sft():
    """One step of SFT: the mean negative log-prob over all response tokens."""
    directory = OUT / "sft"
    policy = new_policy(small(), 4000)
    save(policy, directory / "policy")
    rows = dqo_rows(policy.config.vocab_size, 4001)
    write_rows(directory / "rows.jsonl", rows)
    policy = policy.double()
    logps = torch.cat([logps_of(policy, row["prompt_ids"], row["completion_ids"])[0] for row in rows])
    loss = -logps.mean()
    loss.backward()
    save_file({f"policy.{name}": grad for name, grad in gradients(policy).items()}, directory / "gradients.safetensors")
    (directory / "case.json").write_text(json.dumps(dict(loss=loss.item())) + "\n")


# ---- greedy decoding -------------------------------------------------------------------------------------------------

def greedy(model, prompt, max_new_tokens):
    """The tokens of transformers' own greedy decoding, the end token included."""
    ids = torch.tensor([prompt])
    with torch.no_grad():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=max_new_tokens,
                             pad_token_id=0)
    return out[0, len(prompt) :].tolist()


def make_greedy():
    """Over the models of make_logps."""
    for seed, name in enumerate(models(101, 32, 48, 2)):
        directory = OUT / "models" / name
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        generator = torch.Generator().manual_seed(50 + seed)
        prompts = [ids(generator, length, model.config.vocab_size) for length in (1, 3, 20, 7, 40, 2, 33, 12, 5)]
        rows = [dict(prompt_ids=prompt, completion_ids=greedy(model, prompt, 40)) for prompt in prompts]
        write_rows(directory / "greedy.jsonl", rows)


def make_smollm2():
    """Over SmolLM2-135M-Instruct in the directory that DQO_SMOLLM2 names, and the first problems of GSM8K's test set."""
    directory = Path(os.environ["DQO_SMOLLM2"])
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    problems = (Path(__file__).resolve().parents[3] / "shared" / "data" / "gsm8k" / "test.jsonl").read_text().splitlines()[:8]
    rows = []
    for problem in problems:
        guide = "Please reason step by step, and produce a final answer following 4 '#', like '#### 0'."
        message = [dict(role="user", content=json.loads(problem)["question"] + "\n" + guide)]
        prompt = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
        rows.append(dict(prompt_ids=prompt, completion_ids=greedy(model, prompt, 64)))
    (OUT / "smollm2").mkdir(parents=True, exist_ok=True)
    write_rows(OUT / "smollm2" / "greedy.jsonl", rows)


SETS = dict(models=make_logps, dqo=make_dqo, adamw=make_adamw, sft=make_sft, greedy=make_greedy, smollm2=make_smollm2)

if __name__ == "__main__":
    for name in sys.argv[1:] or SETS:
        if name in ("models", "dqo", "adamw", "sft"):
            shutil.rmtree(OUT / name, ignore_errors=True)
        SETS[name]()
