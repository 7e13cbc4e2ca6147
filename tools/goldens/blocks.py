"""Makes kernels-tests/goldens/blocks: what bitsandbytes and gguf make of matrices in blocks.

    python -m venv venv && venv/bin/pip install torch safetensors numpy bitsandbytes gguf
    venv/bin/python tools/goldens/blocks.py

q4: NF4 in blocks of 64 values, row after row, by bitsandbytes. q8: Q8_0, blocks of 32, by llama.cpp's Python package. Of that package
too, Q8_0, Q4_0, Q4_K and Q6_K as files have them: blocks of any bytes, but for the scales, and the values that these stand for.
"""

import sys
from pathlib import Path

import bitsandbytes.functional as bnb
import gguf
import numpy as np
import torch
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parents[2] / "kernels-tests" / "goldens"


def nf4(values):
    """Codes, two a byte, the first in the upper half; a scale a block; the values that these stand for."""
    packed, state = bnb.quantize_4bit(values.contiguous(), blocksize=64, quant_type="nf4", compress_statistics=False)
    return packed.flatten(), state.absmax, bnb.dequantize_4bit(packed, state)


def q8_0(values):
    """Blocks of an f16 and 32 bytes, the last filled up with zeros; the values that these stand for."""
    filled = torch.nn.functional.pad(values.flatten(), (0, -values.numel() % 32))
    blocks = gguf.quants.quantize(filled.reshape(-1, 32).numpy(), gguf.GGMLQuantizationType.Q8_0)
    rounded = torch.from_numpy(gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0)).flatten()
    return torch.from_numpy(blocks).flatten(), rounded[: values.numel()].reshape(values.shape)


def of_file(name, count, generator):
    """So many blocks of any bytes, with f16 scales of all sizes, subnormal ones too; their values."""
    kind = gguf.GGMLQuantizationType[name]
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = torch.randint(0, 256, (count, size), generator=generator, dtype=torch.uint8).numpy()
    scales = torch.randn(count, 2, generator=generator) * torch.logspace(-7.5, 4, count)[:, None]
    scales[0] = torch.tensor([0.0, 65504.0])
    scales[1] = torch.tensor([-65504.0, 2.0**-24])
    scales = scales.numpy().astype(np.float16).view(np.uint8)
    places = {"Q4_K": (0, 4), "Q6_K": (208, 210)}.get(name, (0, 2))
    blocks[:, slice(*places)] = scales[:, : places[1] - places[0]]
    return torch.from_numpy(blocks).flatten(), torch.from_numpy(gguf.quants.dequantize(blocks, kind)).flatten()


def rounded(values, base):
    """What `--base` makes of a matrix."""
    values = values.detach().float()
    return nf4(values)[-1] if base == "q4" else q8_0(values)[-1]


def main():
    generator = torch.Generator().manual_seed(7)
    normal = torch.randn(48, 64, generator=generator) * torch.logspace(-3, 3, 48)[:, None]
    # In the middle between two codes, and beside it.
    codes = bnb.get_4bit_type("nf4", device="cpu")
    middles = ((codes[1:] + codes[:-1]) / 2).repeat(4)
    middles = middles + torch.tensor([0.0, 1e-8, -1e-8, 3e-8]).repeat_interleave(15)
    ties = torch.cat([torch.tensor([1.0]), middles, torch.zeros(3)])
    # In the middle between two bytes: 127 is the scale's.
    halves = torch.cat([torch.tensor([127.0]), torch.arange(31) - 15.5])
    bf16 = torch.randn(4, 64, generator=generator).bfloat16().float()
    values = torch.cat([normal.flatten(), ties, 0.37 * ties, halves, -3.0 * halves, bf16.flatten()])
    packed, scales, of_q4 = nf4(values)
    blocks, of_q8 = q8_0(values)
    tensors = {"values": values, "q4.packed": packed, "q4.scales": scales, "q4": of_q4, "q8.blocks": blocks, "q8": of_q8}
    for name, count in [("Q8_0", 16), ("Q4_0", 16), ("Q4_K", 8), ("Q6_K", 8)]:
        tensors[f"{name}.blocks"], tensors[name] = of_file(name, count, generator)
    (OUT / "blocks").mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, OUT / "blocks" / "blocks.safetensors")


if __name__ == "__main__":
    sys.exit(main())
