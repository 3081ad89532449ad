"""Philox 4x32-10 in torch's integer operations: the same bytes on a CPU and on CUDA.

Torch's own generators differ between the two. A 64-bit product wraps, and its upper half is read with a shift and
a mask, so nothing but two's complement is asked of the device.
"""

import torch

from libs.proofs.philox import ENTRIES_PER_BLOCK, MULTIPLIERS, WORD, key_of, round_keys

_LANES_AT_ONCE = 1 << 16
"""Counters made together on a CPU: what fits its cache."""


def rows(seed: bytes, first: int, count: int, order: int, device: torch.device) -> torch.Tensor:
    """Rows `first` … `first + count` of the matrix of `seed`, as int8."""
    numbers = torch.arange(first, first + count, dtype=torch.int64, device=device)
    return rows_at(seed, numbers, order)


def rows_at(seed: bytes, numbers: torch.Tensor, order: int) -> torch.Tensor:
    blocks = order // ENTRIES_PER_BLOCK
    at_once = max(1, _LANES_AT_ONCE // blocks) * (1 if numbers.device.type == "cpu" else 64)
    made = torch.empty((len(numbers), order), dtype=torch.int8, device=numbers.device)
    for begin in range(0, len(numbers), at_once):
        made[begin : begin + at_once] = _rows(seed, numbers[begin : begin + at_once], blocks)
    return made


def _rows(seed: bytes, numbers: torch.Tensor, blocks: int) -> torch.Tensor:
    key = key_of(seed)
    shape = (len(numbers), blocks)
    c0 = torch.arange(blocks, dtype=torch.int64, device=numbers.device).expand(shape)
    c1 = numbers[:, None].expand(shape)
    c2, c3 = (torch.full(shape, word, dtype=torch.int64, device=numbers.device) for word in key.counter)
    for k0, k1 in round_keys(key.key):
        first, second = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((second >> 32) & WORD) ^ c1 ^ k0,
            second & WORD,
            ((first >> 32) & WORD) ^ c3 ^ k1,
            first & WORD,
        )
    words = torch.stack((c0, c1, c2, c3), dim=-1)
    shifts = torch.arange(0, 32, 4, dtype=torch.int64, device=numbers.device)
    return (((words[..., None] >> shifts) & 15) - 8).to(torch.int8).reshape(len(numbers), -1)
