"""A training step in PyTorch on a GPU: what gpu-report holds `dqo-wgpu bench --step` against.

    python tools/torch_step.py --probe
    dqo-wgpu bench --step --shape 0.5b --json | python tools/torch_step.py [--device DEVICE]
    echo '[[1024, 3584, 3584]]' | python tools/torch_step.py --products [--device DEVICE]

The second trains a decoder of the shape, the tokens and the adapters that it reads, in f32 (TF32 off) and with autocast to
bf16, and prints a line of JSON for each. No more than torch is needed: attention is scaled_dot_product_attention, the
optimizer AdamW as torch has it, and nothing is compiled. The third multiplies matrices of f16 of so many rows, columns and k
by the vendor's library, and prints a line of JSON for each.
"""

import argparse
import contextlib
import json
import math
import statistics
import sys
import time

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ImportError:
    sys.exit("error: this python3 has no torch")

STEPS, LEARNING_RATE, ALPHA = 8, 5e-7, 16.0


def gpu():
    """Where PyTorch finds a GPU: CUDA (ROCm goes by that name) or MPS."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


def synchronizes(device):
    """What waits for the device."""
    return {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(device, lambda: None)


def median_seconds(logits_of, parameters, vocabulary, sequences, tokens, device="cpu", autocast=False):
    """Seconds of the median step of SFT with AdamW on random ids; the first, which warms up, does not count."""
    synchronize = synchronizes(device)
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0)
    ids = torch.randint(0, vocabulary, (sequences, tokens + 1), device=device)
    seconds = []
    for _ in range(STEPS):
        synchronize()
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16) if autocast else contextlib.nullcontext():
            logits = logits_of(ids[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


class Linear(nn.Module):
    """`y = x W^T + b`, and beside it an adapter of some rank."""

    def __init__(self, inputs, outputs, bias=False, rank=0):
        super().__init__()
        self.base = nn.Linear(inputs, outputs, bias)
        self.scale = ALPHA / rank if rank else 0.0
        if rank:
            self.base.requires_grad_(False)
            self.a = nn.Parameter(torch.empty(rank, inputs).uniform_(-1, 1) / math.sqrt(inputs))
            self.b = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x):
        y = self.base(x)
        if self.scale:
            y = y + self.scale * functional.linear(functional.linear(x, self.a), self.b)
        return y


class Layer(nn.Module):
    def __init__(self, config, rank):
        super().__init__()
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.size = hidden // self.heads
        bias = config["model_type"] == "qwen2"
        self.q = Linear(hidden, hidden, bias, rank)
        self.k = Linear(hidden, self.kv_heads * self.size, bias, rank)
        self.v = Linear(hidden, self.kv_heads * self.size, bias, rank)
        self.o = Linear(hidden, hidden, rank=rank)
        self.gate, self.up = Linear(hidden, inner, rank=rank), Linear(hidden, inner, rank=rank)
        self.down = Linear(inner, hidden, rank=rank)
        self.norms = nn.ModuleList(nn.RMSNorm(hidden, config["rms_norm_eps"]) for _ in range(2))

    def forward(self, x, cos, sin):
        y = self.norms[0](x)
        q, k = (rotate(self.split(linear(y)), cos, sin) for linear in (self.q, self.k))
        k, v = (self.spread(tensor) for tensor in (k, self.split(self.v(y))))
        y = functional.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), is_causal=True)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        y = self.norms[1](x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))

    def split(self, x):
        """`[batch, heads, tokens, head_dim]`"""
        return x.unflatten(-1, (-1, self.size)).transpose(1, 2)

    def spread(self, x):
        """A key or value head for each query head: not every kernel of attention takes groups."""
        return x.repeat_interleave(self.heads // self.kv_heads, 1)


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), -1)
    return x * cos.to(x.dtype) + turned * sin.to(x.dtype)


class Decoder(nn.Module):
    """A Llama or a Qwen2 of random weights with a tied head; with a rank, adapters on all of its linear layers train alone."""

    def __init__(self, config, rank, tokens):
        super().__init__()
        hidden = config["hidden_size"]
        self.embedding = nn.Embedding(config["vocab_size"], hidden)
        nn.init.normal_(self.embedding.weight, std=0.03)
        self.layers = nn.ModuleList(Layer(config, rank) for _ in range(config["num_hidden_layers"]))
        self.norm = nn.RMSNorm(hidden, config["rms_norm_eps"])
        if rank:
            for module in self.modules():
                if isinstance(module, (nn.Embedding, nn.RMSNorm)):
                    module.requires_grad_(False)
        size = hidden // config["num_attention_heads"]
        frequencies = config["rope_theta"] ** -(torch.arange(0, size, 2).float() / size)
        angles = torch.outer(torch.arange(tokens).float(), frequencies).repeat(1, 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, ids):
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return functional.linear(self.norm(x), self.embedding.weight)


def measure(asked, device, autocast):
    config, sequences, tokens = asked["config"], asked["sequences"], asked["tokens"]
    with torch.device(device):
        model = Decoder(config, asked["model"]["lora_r"], tokens).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return median_seconds(model, parameters, config["vocab_size"], sequences, tokens, device, autocast)


def seconds_of_product(rows, cols, inner, device):
    """Of x W^T in f16; the median of several spans, of which the first does not count."""
    calls = 1 if device == "cpu" else 20
    synchronize = synchronizes(device)
    x, weights = (torch.randn(lines, inner, device=device).half() for lines in (rows, cols))
    seconds = []
    for _ in range(STEPS):
        synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            functional.linear(x, weights)
        synchronize()
        seconds.append((time.perf_counter() - start) / calls)
    return statistics.median(seconds[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--probe", action="store_true", help="say which GPU PyTorch has, and do nothing")
    parser.add_argument("--products", action="store_true", help="products in f16 in place of a step")
    parser.add_argument("--device", default=gpu(), help="where: cuda, mps or cpu [default: the GPU]")
    args = parser.parse_args()
    if args.device is None:
        sys.exit("error: PyTorch has no CUDA, ROCm or MPS here")
    if args.probe:
        name = torch.cuda.get_device_name() if args.device == "cuda" else args.device
        print(json.dumps({"torch": torch.__version__, "device": args.device, "name": name}))
        return
    torch.backends.cuda.matmul.allow_tf32 = False
    asked = json.load(sys.stdin)
    if args.products:
        for size in asked:
            print(json.dumps({"size": size, "seconds": seconds_of_product(*size, args.device)}), flush=True)
        return
    for mode in ["f32", "bf16"]:
        try:
            seconds = measure(asked, args.device, autocast=mode == "bf16")
            speed = asked["sequences"] * asked["tokens"] / seconds
            print(json.dumps({"mode": mode, "seconds": seconds, "tokens_per_second": speed}), flush=True)
        except RuntimeError as error:  # out of memory; the other mode may fit
            print(json.dumps({"mode": mode, "error": str(error).splitlines()[0]}), flush=True)


if __name__ == "__main__":
    main()
