"""Makes kernels-tests/goldens/adamw8bit: steps of bitsandbytes' AdamW8bit, with all of its state before and after each.

    python -m venv venv && venv/bin/pip install torch safetensors bitsandbytes==0.50.2
    venv/bin/python tools/goldens/adamw8bit.py

It is bitsandbytes' own optimizer on its CPU backend. That backend's quantiser of f32 values is a coarse one near zero (a value
of 0 gets a code of another value), which its GPU backends' is not; given f64 values the same call takes the nearest code, and so
it is given them here.
"""

import sys
from pathlib import Path

import bitsandbytes as bnb
import bitsandbytes.backends.cpu.ops as cpu
import torch
from bitsandbytes.functional import create_dynamic_map
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parents[2] / "kernels-tests" / "goldens" / "adamw8bit"
# Four blocks of 256 values, and a part of one.
COUNT = 4 * 256 + 4
STEPS = 5


def quantize_to_nearest(values, code, absmax_out, out, blocksize):
    codes, absmax = torch.ops.bitsandbytes.quantize_blockwise(values.double(), code, blocksize)
    out.copy_(codes)
    absmax_out.copy_(absmax)


def main():
    cpu._quant_blockwise_fp32_direct = quantize_to_nearest
    generator = torch.Generator().manual_seed(11)
    weight = torch.nn.Parameter(0.1 * torch.randn(COUNT, generator=generator))
    # Gradients of many sizes, within a block and from block to block; none at all in one block.
    sizes = torch.logspace(-4, 0, COUNT)[torch.randperm(COUNT, generator=generator)] * torch.linspace(0.1, 3, COUNT)
    sizes[256:512] = 0
    optimizer = bnb.optim.AdamW8bit(
        [weight], lr=2e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1, min_8bit_size=COUNT
    )
    tensors = {"maps": torch.stack([create_dynamic_map(signed=True), create_dynamic_map(signed=False)])}
    tensors["weight.0"] = weight.detach().clone()
    for step in range(1, STEPS + 1):
        weight.grad = sizes * torch.randn(COUNT, generator=generator)
        tensors[f"gradient.{step}"] = weight.grad.clone()
        optimizer.step()
        state = optimizer.state[weight]
        tensors[f"weight.{step}"] = weight.detach().clone()
        for moment, number in (("m", 1), ("v", 2)):
            tensors[f"{moment}.{step}"] = state[f"state{number}"].clone()
            tensors[f"{moment}_absmax.{step}"] = state[f"absmax{number}"].clone()
    assert all(tensor.dtype == torch.uint8 or tensor.isfinite().all() for tensor in tensors.values())
    OUT.mkdir(parents=True, exist_ok=True)
    save_file(tensors, OUT / "steps.safetensors")


if __name__ == "__main__":
    sys.exit(main())
