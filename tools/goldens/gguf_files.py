"""Makes kernels-tests/goldens/gguf: GGUF files as llama.cpp's Python package writes them, what transformers computes of their weights,
and what llama.cpp makes of text.

    python -m venv venv && venv/bin/pip install torch transformers safetensors numpy tokenizers gguf llama-cpp-python
    venv/bin/python tools/goldens/gguf_files.py

llama: every block format, heads in llama.cpp's order, Llama 3's rotary scaling, SentencePiece's vocabulary. gemma3: plain formats, norms
that are stored whole, windows. qwen2: biases, byte-level BPE. The first 512 values of each tensor are the package's own.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from llama_cpp import Llama
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

OUT = Path(__file__).resolve().parents[2] / "kernels-tests" / "goldens" / "gguf"
torch.set_num_threads(1)

NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "post_attention_layernorm": "ffn_norm",
}
GEMMA3 = {**NAMES, "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
          "post_feedforward_layernorm": "post_ffw_norm"}
# By layer: q, k, v, o, gate, up, down.
FORMATS = [
    [Q.Q4_K, Q.Q5_K, Q.Q6_K, Q.Q4_0, Q.Q8_0, Q.Q5_K, Q.Q5_1],
    [Q.Q6_K, Q.Q4_K, Q.Q8_0, Q.Q4_1, Q.Q4_K, Q.Q4_K, Q.Q5_0],
    [Q.F16, Q.BF16, Q.F32, Q.Q8_0, Q.Q4_0, Q.Q4_0, Q.Q4_0],
]
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEXTS = ["the cat sat on the mat", "  two  spaces", "12 + 34 = 46", "Don't\n\nstop", "caf\u00e9 \u65e5\u672c", " lead", "<s> the </s>", "",
         "thethe cat's\ttab", "A<turn>b"]


def gguf_name(name, names):
    """llama.cpp's name."""
    place, suffix = name.rsplit(".", 1)
    if place.startswith("model.layers."):
        _, _, layer, part = place.split(".", 3)
        return f"blk.{layer}.{names[part]}.{suffix}"
    return f"{names[place]}.{suffix}"


def permuted(weight, heads):
    """Rows of heads in llama.cpp's order."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def random_blocks(kind, shape, generator):
    """Blocks of any codes, whose scales make weights of a usual size. The package quantises no K formats."""
    values, size = gguf.GGML_QUANT_SIZES[kind]
    count = shape[0] * shape[1] // values
    blocks = torch.randint(0, 256, (count, size), generator=generator, dtype=torch.uint8).numpy()
    spread = 1 + 0.5 * torch.rand(count, 1, generator=generator).numpy()
    if kind == Q.Q6_K:
        blocks[:, 208:210] = (2e-5 * spread).astype(np.float16).view(np.uint8)
    else:
        codes = 7.5 if kind == Q.Q4_K else 15.5
        scale = 0.05 / (32 * codes)
        blocks[:, 0:4] = np.concatenate([scale * spread, scale * codes * spread], 1).astype(np.float16).view(np.uint8)
    return blocks.reshape(shape[0], -1)


def stored(weight, kind, generator):
    """A weight as the file has it, and the values that it stands for."""
    if kind in (Q.Q4_K, Q.Q5_K, Q.Q6_K):
        data = random_blocks(kind, weight.shape, generator)
    else:
        data = gguf.quants.quantize(weight.numpy(), kind)
    return data, torch.from_numpy(gguf.quants.dequantize(data, kind).reshape(weight.shape).copy())


def describe(writer, config, arch):
    """What every architecture says."""
    writer.add_type("model")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    if arch == "llama":
        writer.add_rope_dimension_count(head_dim)
        writer.add_vocab_size(config.vocab_size)


def write(arch, model, names, kind_of, vocabulary, extra=lambda writer: None):
    """Writes the file; the model has its weights then. Returns the first values of each."""
    generator = torch.Generator().manual_seed(11)
    config = model.config
    writer = gguf.GGUFWriter(OUT / f"{arch}.gguf", arch)
    describe(writer, config, arch)
    vocabulary(writer)
    extra(writer)
    first = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            weight = parameter.detach().clone()
            heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
            if arch == "llama" and heads:
                weight = permuted(weight, heads)
            one_more = arch == "gemma3" and name.endswith("norm.weight")
            data, values = stored(weight + 1 if one_more else weight, kind_of(name, weight), generator)
            writer.add_tensor(gguf_name(name, names), data, raw_dtype=kind_of(name, weight))
            if one_more:
                values = values - 1
            if arch == "llama" and heads:
                order = permuted(torch.arange(weight.shape[0]).unsqueeze(1), heads).flatten()
                back = torch.empty_like(values)
                back[order] = values
                values = back
            parameter.copy_(values)
            first[name] = values.flatten()[:512].clone()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return first


def rows(model, count, length, generator):
    """Ids and the log-probs of the last ones."""
    made = []
    for _ in range(count):
        ids = torch.randint(3, model.config.vocab_size, (length,), generator=generator)
        with torch.no_grad():
            logits = model(ids.unsqueeze(0)).logits[0].double()
        logps = torch.log_softmax(logits, -1)[torch.arange(length - 1), ids[1:]]
        prompt = length // 3
        made.append({"prompt_ids": ids[:prompt].tolist(), "completion_ids": ids[prompt:].tolist(),
                     "logps": logps[prompt - 1:].tolist()})
    return made


def sentence_piece(writer):
    """Bytes, characters, and words that are built of pairs."""
    words = ["th", "the", "\u2581the", "at", "cat", "\u2581cat", "\u2581s", "sat", "\u2581\u2581", "on", "12", "st", "op", "stop"]
    characters = [*"\u2581abcdefghijklmnopqrstuvwxyzACD0123456789+='.\n"]
    tokens = [("<unk>", 2, 0.0), ("<s>", 3, 0.0), ("</s>", 3, 0.0), ("<turn>", 4, 0.0)]
    tokens += [(f"<0x{byte:02X}>", 6, 0.0) for byte in range(256)]
    tokens += [(word, 1, -float(i)) for i, word in enumerate(words)]
    tokens += [(character, 1, -float(len(words) + i)) for i, character in enumerate(characters)]
    tokens += [(f"[PAD{i}]", 5, -1000.0) for i in range(len(tokens), -(-len(tokens) // 4) * 4)]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_types([kind for _, kind, _ in tokens])
    writer.add_token_scores([score for _, _, score in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}<turn>{% endfor %}")
    return len(tokens)


def byte_level():
    """A small BPE of the texts above, split as Qwen's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(pattern=Regex(QWEN2), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    trainer = trainers.BpeTrainer(vocab_size=317, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [text for text, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    tokens += ["<|im_start|>", "<|im_end|>", "<turn>"]
    size = -(-len(tokens) // 4) * 4
    kinds = [1] * (len(tokens) - 3) + [3, 3, 4] + [5] * (size - len(tokens))
    tokens += [f"[PAD{i}]" for i in range(len(tokens), size)]

    def vocabulary(writer):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_list(tokens)
        writer.add_token_types(kinds)
        writer.add_token_merges(merges)
        writer.add_eos_token_id(tokens.index("<|im_end|>"))
        writer.add_pad_token_id(tokens.index("<|im_start|>"))
        writer.add_add_bos_token(False)

    return vocabulary, size


def texts(arch):
    """What llama.cpp makes of text."""
    vocabulary = Llama(str(OUT / f"{arch}.gguf"), vocab_only=True, verbose=False)
    return [{"text": text, "ids": vocabulary.tokenize(text.encode(), add_bos=True, special=True)} for text in TEXTS]


def llama3_factors(config):
    """What llama.cpp divides frequencies by."""
    rope = config.rope_parameters
    frequencies = 1.0 / rope["rope_theta"] ** (torch.arange(0, config.head_dim, 2).float() / config.head_dim)
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * torch.pi)
    smooth = ((turns - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])).clamp(0, 1)
    return (1 / ((1 - smooth) / rope["factor"] + smooth)).numpy().astype(np.float32)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(5)
    torch.manual_seed(3)
    first = {}

    class Counted:
        def __getattr__(self, _):
            return lambda *_: None

    vocabulary = sentence_piece(Counted())
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=256, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=True,
        rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                             original_max_position_embeddings=8192))
    llama = LlamaForCausalLM(config).eval()

    def formats(name, weight):
        if weight.dim() == 1:
            return Q.F32
        if not name.startswith("model.layers."):
            return Q.Q8_0
        _, _, layer, _, part, _ = name.split(".")
        return FORMATS[int(layer)][LAYERS.index(part)]

    def llama_extra(writer):
        writer.add_rope_freq_base(500000.0)
        writer.add_tensor("rope_freqs.weight", llama3_factors(config), raw_dtype=Q.F32)

    first["llama"] = write("llama", llama, NAMES, formats, sentence_piece, llama_extra)
    goldens = {"llama": {"rows": rows(llama, 3, 24, generator), "texts": texts("llama")}}

    config = Gemma3TextConfig(
        vocab_size=44, hidden_size=16, intermediate_size=24, num_hidden_layers=7, num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, max_position_embeddings=256, sliding_window=5, query_pre_attn_scalar=8, bos_token_id=None, eos_token_id=1,
        rope_parameters=dict(full_attention=dict(rope_type="linear", rope_theta=1000000.0, factor=8.0),
                             sliding_attention=dict(rope_type="default", rope_theta=10000.0)))
    gemma3 = Gemma3ForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in gemma3.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.1 if name.endswith("norm.weight") else 0.3))
    plain = [Q.F32, Q.F16, Q.BF16]

    def plain_formats(name, weight):
        return Q.F32 if weight.dim() == 1 else plain[len(name) % 3]

    def gemma3_extra(writer):
        writer.add_rope_freq_base(1000000.0)
        writer.add_sliding_window(5)
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(8.0)
        writer.add_eos_token_id(1)

    first["gemma3"] = write("gemma3", gemma3, GEMMA3, plain_formats, lambda w: w.add_tokenizer_model("no_vocab"), gemma3_extra)
    goldens["gemma3"] = {"rows": rows(gemma3, 3, 24, generator), "texts": []}

    vocabulary, size = byte_level()
    config = Qwen2Config(vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=False)
    qwen2 = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in qwen2.named_parameters():
            if parameter.dim() == 1:
                parameter.copy_(parameter + 0.2 * torch.randn(parameter.shape, generator=generator))
    first["qwen2"] = write("qwen2", qwen2, NAMES, lambda _, weight: Q.F32 if weight.dim() == 1 else Q.Q8_0, vocabulary,
                           lambda writer: writer.add_rope_freq_base(config.rope_parameters["rope_theta"]))
    goldens["qwen2"] = {"rows": rows(qwen2, 3, 24, generator), "texts": texts("qwen2")}

    for arch, golden in goldens.items():
        (OUT / f"{arch}.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
    save_file({f"{arch}.{name}": values.contiguous() for arch, of in first.items() for name, values in of.items()},
              OUT / "first.safetensors")


if __name__ == "__main__":
    sys.exit(main())
