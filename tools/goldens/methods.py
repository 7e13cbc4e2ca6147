"""Makes kernels-tests/goldens/methods: one step of rs, dpo, kto, dro, a2po and grpo, the gradient of every weight.

    venv/bin/pip install trl        # beside what make.py needs
    venv/bin/python tools/goldens/methods.py

Gradients come from autograd over the formulas of DESIGN.md's section 2. The losses of DPO, KTO and GRPO are held against those of
TRL's trainers here, and TRL's are what is written: the trainers' own loss functions run on our log-probs (`trl_loss`). TRL's KTO pairs each
prompt with the completion of a neighbour in its batch, whatever that one's prompt; its loss is given our mismatched pairs,
so what is compared is the loss and the way z is averaged and clamped, not the choice of the pairs.
"""

import contextlib
import shutil
from collections import defaultdict
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from trl import DPOTrainer, GRPOTrainer, KTOTrainer

from make import OUT, gradients, ids, is_well_conditioned, logps_of, new_policy, new_value, save, small, values_of, write_rows

DIRECTORY = OUT / "methods"
SETTINGS = dict(beta=0.4, desirable_weight=1.0, undesirable_weight=1.0, truncated="zero")


def make_rows(vocabulary, seed):
    """Rollouts of three prompts that stand mixed; the third has no right response."""
    generator = torch.Generator().manual_seed(seed)
    prompts = [ids(generator, length, vocabulary) for length in (4, 1, 6)]
    shapes = [(0, 9, 1.0), (0, 5, 0.0), (1, 7, 0.75), (2, 17, 0.0), (1, 1, 0.5), (0, 12, 1.0), (2, 3, 0.25)]
    rows = [dict(prompt_ids=prompts[prompt], completion_ids=ids(generator, length, vocabulary), reward=reward, finish_reason="stop")
            for prompt, length, reward in shapes]
    rows[3]["finish_reason"] = "length"
    # dro adds them up; to the others they are nothing
    rows[0]["step_rewards"] = [dict(end=2, reward=0.25), dict(end=9, reward=-0.75)]
    rows[4]["step_rewards"] = [dict(end=1, reward=0.5)]
    return rows


def pairs_of(rows):
    """Every right response with every wrong one to the same prompt."""
    return [dict(prompt_ids=right["prompt_ids"], chosen_ids=right["completion_ids"], rejected_ids=wrong["completion_ids"])
            for right in rows for wrong in rows
            if right["prompt_ids"] == wrong["prompt_ids"] and right["reward"] > 0.5 >= wrong["reward"]]


def token_logps(networks, prompt, completion):
    """Under the policy and under the reference."""
    with torch.no_grad():
        logp_ref, _ = logps_of(networks.reference, prompt, completion)
    return logps_of(networks.policy, prompt, completion)[0], logp_ref


def log_ratio(networks, prompt, completion):
    logp, logp_ref = token_logps(networks, prompt, completion)
    return (logp - logp_ref).sum()


# ---- TRL's own losses ------------------------------------------------------------------------------------------------

def padded(rows):
    """Each row's log-probs as a model's output over [prompt of one token + completion] has them, and the mask."""
    width = max(len(row) for row in rows)
    log_probs = torch.stack([F.pad(row, (0, width - len(row))) for row in rows])
    mask = torch.tensor([[0] + [1] * len(row) + [0] * (width - len(row)) for row in rows])
    return log_probs, mask


def trainer(kind, **attributes):
    """A trainer that has what its loss reads, and no model."""
    accelerator = SimpleNamespace(device="cpu", gather_for_metrics=lambda x: x, gather=lambda x: x,
                                  unwrap_model=lambda model: model)
    stub = SimpleNamespace(accelerator=accelerator, model=SimpleNamespace(training=True), aux_loss_enabled=False,
                           precompute_ref_logps=True, _metrics={"train": defaultdict(list)}, _total_train_tokens=0, _tp_size=1,
                           args=SimpleNamespace(gradient_checkpointing_kwargs=None), **attributes)
    return lambda model, inputs: kind._compute_loss(stub, model, inputs, False), stub._metrics["train"]


def outputs(log_probs):
    nothing = torch.zeros_like(log_probs)
    return SimpleNamespace(log_probs=log_probs, entropy=nothing, mean_logits=nothing, logits=torch.zeros(*log_probs.shape, 1),
                           is_top1=nothing.bool())


def trl_dpo(networks, pairs, beta):
    both = [token_logps(networks, pair["prompt_ids"], pair[side]) for side in ("chosen_ids", "rejected_ids") for pair in pairs]
    log_probs, mask = padded([logp for logp, _ in both])
    ref = torch.stack([logp_ref.sum() for _, logp_ref in both])
    loss, metrics = trainer(DPOTrainer, beta=beta, ld_alpha=None, f_divergence_type="reverse_kl", loss_types=["sigmoid"],
                            loss_weights=[1.0], label_smoothing=0.0, use_weighting=False)
    inputs = dict(input_ids=torch.zeros_like(mask), attention_mask=torch.ones_like(mask), completion_mask=mask,
                  ref_chosen_logps=ref[: len(pairs)], ref_rejected_logps=ref[len(pairs) :])
    value = loss(lambda **_: outputs(log_probs), inputs)
    names = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
    return value, {name: metrics[name][0] for name in names}


def trl_kto(networks, rows, mismatched, settings):
    both = [token_logps(networks, row["prompt_ids"], row["completion_ids"]) for row in rows]
    both_kl = [token_logps(networks, prompt, completion) for prompt, completion in mismatched]
    log_probs, mask = padded([logp for logp, _ in both])
    log_probs_kl, mask_kl = padded([logp for logp, _ in both_kl])
    sums = lambda both: torch.stack([logp_ref.sum() for _, logp_ref in both])
    loss, metrics = trainer(KTOTrainer, beta=settings["beta"], calculate_KL=True, loss_type="kto",
                            desirable_weight=settings["desirable_weight"], undesirable_weight=settings["undesirable_weight"],
                            _compute_kl_logps=lambda model, batch: log_probs_kl.detach().sum(-1))
    inputs = dict(input_ids=torch.zeros_like(mask), attention_mask=torch.ones_like(mask), completion_mask=mask,
                  label=torch.tensor([row["reward"] > 0.5 for row in rows]), ref_logps=sums(both), ref_KL_logps=sums(both_kl))
    value = loss(lambda **_: outputs(log_probs), inputs)
    names = ("kl", "rewards/chosen", "rewards/rejected", "rewards/margins")
    return value, {name: metrics[name][0] for name in names}


def trl_grpo(networks, rows, advantages, settings):
    both = [token_logps(networks, row["prompt_ids"], row["completion_ids"]) for row in rows]
    log_probs, mask = padded([logp for logp, _ in both])
    ref, _ = padded([logp_ref for _, logp_ref in both])
    old, _ = padded([torch.tensor(row["behavior_logps"], dtype=torch.float64) for row in rows])
    accelerator = SimpleNamespace(gather=lambda x: x, reduce=lambda x, reduction: x)
    stub = SimpleNamespace(
        accelerator=accelerator, model=SimpleNamespace(training=True), loss_type="grpo", importance_sampling_level="token",
        beta=settings["beta"], epsilon_low=settings["clip_range"], epsilon_high=settings["clip_range"], aux_loss_enabled=False,
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False, _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1, _metrics={"train": defaultdict(list)},
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None),
        _get_per_token_logps_and_entropies=lambda *_, **__: (log_probs, torch.zeros_like(log_probs), None))
    # The log-probs are those of the completions: the prompt's column is not among them.
    mask = mask[:, 1:]
    inputs = dict(prompt_ids=mask[:, :0], prompt_mask=mask[:, :0], completion_ids=mask, completion_mask=mask, advantages=advantages,
                  old_per_token_logps=old, ref_per_token_logps=ref)
    return GRPOTrainer._compute_loss(stub, None, inputs)


# ---- the methods, by section 2 ---------------------------------------------------------------------------------------

def rs(networks, rows, settings):
    right = [row for row in rows if row["reward"] > 0.5]
    loss = -torch.cat([logps_of(networks.policy, row["prompt_ids"], row["completion_ids"])[0] for row in right]).mean()
    return [loss], dict(loss=loss.item())


def dpo(networks, pairs, settings):
    beta = settings["beta"]
    losses = []
    for pair in pairs:
        chosen, rejected = (log_ratio(networks, pair["prompt_ids"], pair[side]) for side in ("chosen_ids", "rejected_ids"))
        losses.append(-torch.log(torch.sigmoid(beta * (chosen - rejected))))
    loss = torch.stack(losses).mean()
    with torch.no_grad():
        trl_loss, metrics = trl_dpo(networks, pairs, beta)
    return [loss], dict(loss=loss.item(), trl_loss=trl_loss.item(), **metrics)


def kto(networks, rows, settings):
    beta, weights = settings["beta"], (settings["desirable_weight"], settings["undesirable_weight"])
    mismatched = []
    for place, row in enumerate(rows):
        others = rows[place + 1 :] + rows[:place]
        other = next(other for other in others if other["prompt_ids"] != row["prompt_ids"])
        mismatched.append((row["prompt_ids"], other["completion_ids"]))
    with torch.no_grad():
        mean = torch.stack([log_ratio(networks, prompt, completion) for prompt, completion in mismatched]).mean()
        z = torch.clamp(mean, min=0)
    losses = []
    for row in rows:
        d = log_ratio(networks, row["prompt_ids"], row["completion_ids"])
        right = row["reward"] > 0.5
        losses.append(weights[0] * (1 - torch.sigmoid(beta * (d - z))) if right else weights[1] * (1 - torch.sigmoid(beta * (z - d))))
    loss = torch.stack(losses).mean()
    with torch.no_grad():
        trl_loss, metrics = trl_kto(networks, rows, mismatched, settings)
    return [loss], dict(loss=loss.item(), trl_loss=trl_loss.item(), mean=mean.item(), **metrics)


def dro(networks, rows, settings):
    beta = settings["beta"]
    policy_losses, value_losses, log_ratios, kls, rewards, values, targets, residuals = [], [], [], [], [], [], [], []
    for row in rows:
        d = log_ratio(networks, row["prompt_ids"], row["completion_ids"])
        goes_on = settings["truncated"] == "bootstrap" and row["finish_reason"] == "length"
        v, v_final = values_of(networks.value, row["prompt_ids"], row["completion_ids"], goes_on)
        reward = row["reward"] + sum(step["reward"] for step in row.get("step_rewards", []))
        total = reward + v_final.detach()
        policy_losses.append((total - v[0].detach() - beta * d) ** 2)
        value_losses.append((total - v[0] - beta * d.detach()) ** 2)
        log_ratios.append(d.item())
        logp, logp_ref = token_logps(networks, row["prompt_ids"], row["completion_ids"])
        kls.append((torch.expm1(logp - logp_ref) - (logp - logp_ref)).sum().item())
        rewards.append(reward)
        values.append(v[0].item())
        targets.append((total - beta * d).item())
        residuals.append(targets[-1] - values[-1])
    policy_loss, value_loss = torch.stack(policy_losses).mean(), torch.stack(value_losses).mean()
    mean = lambda numbers: sum(numbers) / len(numbers)
    variance = lambda numbers: mean([(number - mean(numbers)) ** 2 for number in numbers])
    return [policy_loss, value_loss], {
        "loss": (policy_loss + value_loss).item(), "policy_loss": policy_loss.item(), "value_loss": value_loss.item(),
        "log_ratio": mean(log_ratios), "kl": mean(kls), "rewards/mean": mean(rewards), "values/mean": mean(values),
        "values/explained_variance": 1 - variance(residuals) / variance(targets),
    }


def by_prompt(rows):
    """The rows' numbers, prompt by prompt."""
    prompts = {}
    for number, row in enumerate(rows):
        prompts.setdefault(tuple(row["prompt_ids"]), []).append(number)
    return prompts.values()


def a2po(networks, rows, settings):
    beta1, beta2 = settings["beta1"], settings["beta2"]
    advantages = torch.zeros(len(rows), dtype=torch.float64)
    for numbers in by_prompt(rows):
        rewards = torch.tensor([rows[number]["reward"] for number in numbers], dtype=torch.float64)
        optimal = beta1 * torch.log(torch.exp(rewards / beta1).mean())
        advantages[numbers] = rewards - optimal
    ratios = torch.stack([log_ratio(networks, row["prompt_ids"], row["completion_ids"]) for row in rows])
    loss = ((beta2 * ratios - advantages) ** 2).mean()
    return [loss], dict(loss=loss.item(), log_ratio=ratios.mean().item(), **{
        "rewards/mean": sum(row["reward"] for row in rows) / len(rows), "advantages/mean": advantages.mean().item()})


def grpo(networks, rows, settings):
    beta, clip = settings["beta"], settings["clip_range"]
    advantages = torch.zeros(len(rows), dtype=torch.float64)
    for numbers in by_prompt(rows):
        rewards = torch.tensor([rows[number]["reward"] for number in numbers], dtype=torch.float64)
        if len(numbers) > 1:
            advantages[numbers] = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    losses, clipped = [], []
    for row, advantage in zip(rows, advantages):
        logp, logp_ref = token_logps(networks, row["prompt_ids"], row["completion_ids"])
        ratio = torch.exp(logp - torch.tensor(row["behavior_logps"], dtype=torch.float64))
        unclipped, held = -advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip)
        kl = torch.exp(logp_ref - logp) - 1 - (logp_ref - logp)
        losses.append((torch.maximum(unclipped, held) + beta * kl).mean())
        clipped.append((held > unclipped).double().mean().item())
    loss = torch.stack(losses).mean()
    with torch.no_grad():
        trl_loss = trl_grpo(networks, rows, advantages, settings)
    return [loss], dict(loss=loss.item(), trl_loss=trl_loss.item(), clip_frac=sum(clipped) / len(clipped), **{
        "rewards/mean": sum(row["reward"] for row in rows) / len(rows), "advantages/mean": advantages.mean().item()})


def sampled(policy, rows, seed):
    """The rows, as a policy has sampled them that was not far from this one: some ratios are clipped, either way."""
    generator = torch.Generator().manual_seed(seed)
    shifted = []
    for row in rows:
        with torch.no_grad():
            logps, _ = logps_of(policy, row["prompt_ids"], row["completion_ids"])
        logps = logps + 0.3 * torch.randn(len(logps), generator=generator)
        shifted.append({**row, "behavior_logps": logps.clamp(max=0).tolist()})
    return shifted


# ---- the set ---------------------------------------------------------------------------------------------------------

def make_set(seed):
    """Writes everything; whether the rows show z both above 0 and clamped to it, and no gradient is too small to compare."""
    policy, value, reference = new_policy(small(), seed), new_value(small(), seed + 1), new_policy(small(), seed)
    generator = torch.Generator().manual_seed(seed + 2)
    for parameter in reference.parameters():
        parameter.data += 0.1 * parameter.data.std() * torch.randn(parameter.shape, generator=generator)
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    for model, part in [(policy, "policy"), (value, "value"), (reference, "reference")]:
        save(model, DIRECTORY / part)
    rows = make_rows(policy.config.vocab_size, seed + 3)
    pairs = pairs_of(rows)
    files = {"rows.jsonl": rows, "reversed.jsonl": rows[::-1], "pairs.jsonl": pairs, "sampled.jsonl": sampled(policy, rows, seed + 4)}
    for name, contents in files.items():
        write_rows(DIRECTORY / name, contents)

    networks = SimpleNamespace(policy=policy.double(), value=value.double(), reference=reference.double())
    cases = [
        ("rs", rs, "rows.jsonl", {}),
        ("dpo", dpo, "rows.jsonl", {}),  # the pairs are made of the rollouts
        ("dpo_pairs", dpo, "pairs.jsonl", {"beta": 0.1}),
        ("kto", kto, "rows.jsonl", {}),
        ("kto_weights", kto, "reversed.jsonl", {"beta": 0.1, "desirable_weight": 1.3, "undesirable_weight": 0.6}),
        ("dro", dro, "rows.jsonl", {}),
        ("a2po", a2po, "rows.jsonl", {"beta1": 0.5, "beta2": 0.2}),
        ("grpo", grpo, "sampled.jsonl", {"beta": 0.3, "clip_range": 0.1}),
        ("dro_bootstrap", dro, "rows.jsonl", {"truncated": "bootstrap", "beta": 0.03}),
    ]
    summaries = []
    for case, method, data, changes in cases:
        policy.zero_grad()
        value.zero_grad()
        settings = {**SETTINGS, **changes}
        given = pairs if method is dpo else files[data]
        losses, metrics = method(networks, given, settings)
        for loss in losses:
            loss.backward()
        tensors = {f"policy.{name}": grad for name, grad in gradients(policy).items()}
        if method is dro:
            tensors |= {f"value.{name}": grad for name, grad in gradients(value).items()}
            if not is_well_conditioned(tensors):
                return False
        if method is kto and (metrics.pop("mean") > 0.05) != (case == "kto"):
            return False
        if "trl_loss" in metrics:
            assert abs(metrics["trl_loss"] - metrics["loss"]) < 1e-9, (case, metrics)
        save_file(tensors, DIRECTORY / f"{case}.safetensors")
        summaries.append(dict(case=case, method=method.__name__, data=data,
                              settings=changes if method in (rs, a2po) else {"beta": settings["beta"], **changes}, metrics=metrics))
    write_rows(DIRECTORY / "cases.jsonl", summaries)
    return True


if __name__ == "__main__":
    seed = 5000
    while not make_set(seed):
        seed += 100
