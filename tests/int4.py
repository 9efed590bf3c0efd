"""Packs weights to 4 bits as AWQ and GPTQ do, written from the formats' descriptions.

AWQ (gemm): 8 output columns in one int32, in the order 0 2 4 6 1 3 5 7 from the lowest bits.
GPTQ: 8 input rows in one int32, in order; zero points are stored less one.
"""

import torch

_AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def _pack(numbers):
    """The last dimension, of 8 numbers from 0 to 15, as one int32."""
    value = sum(one.long() << (4 * place) for place, one in enumerate(numbers.unbind(-1)))
    return torch.where(value >= 2**31, value - 2**32, value).to(torch.int32).contiguous()


def _quantise(weight, group, lowest_zero):
    """Numbers [inputs, outputs], zeros and scales [groups, outputs], and what they stand for."""
    grouped = weight.t().float().unflatten(0, (-1, group))
    low, high = grouped.amin(1), grouped.amax(1)
    scales = ((high - low) / 15).clamp(min=1e-4).half()
    zeros = (-low / scales.float()).round().clamp(lowest_zero, 15)
    numbers = (grouped / scales.float()[:, None] + zeros[:, None]).round().clamp(0, 15)
    meant = ((numbers - zeros[:, None]) * scales.float()[:, None]).flatten(0, 1).t()
    return numbers.flatten(0, 1), zeros, scales, meant.contiguous()


def pack_awq(weight, group):
    """The tensors of a layer by their last names, and the weight that they stand for."""
    numbers, zeros, scales, meant = _quantise(weight, group, 0)
    packed = {
        name: _pack(one.unflatten(1, (-1, 8))[..., _AWQ_ORDER])
        for name, one in (("qweight", numbers), ("qzeros", zeros))
    }
    return {**packed, "scales": scales}, meant


def pack_gptq(weight, group):
    """The same for GPTQ, without reordered inputs."""
    numbers, zeros, scales, meant = _quantise(weight, group, 1)
    return {
        "qweight": _pack(numbers.t().unflatten(1, (-1, 8))).t().contiguous(),
        "qzeros": _pack((zeros - 1).unflatten(1, (-1, 8))),
        "scales": scales,
        "g_idx": (torch.arange(len(numbers)) // group).to(torch.int32),
    }, meant


def pack_integers(weight, group):
    """The `pack-quantized` format of compressed-tensors: numbers from -8 to 7, stored plus 8."""
    grouped = weight.float().unflatten(1, (-1, group))
    scales = (grouped.abs().amax(2) / 7).clamp(min=1e-4)
    numbers = (grouped / scales.float()[..., None]).round().clamp(-8, 7)
    meant = (numbers * scales.float()[..., None]).flatten(1)
    return {
        "weight_packed": _pack(numbers.flatten(1).unflatten(1, (-1, 8)) + 8),
        "weight_scale": scales,
        "weight_shape": torch.tensor(weight.shape),
    }, meant
