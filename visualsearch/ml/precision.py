"""Which half precisions a processor has instructions for: the others are emulated, and slow."""

from __future__ import annotations

from collections.abc import Iterator

import torch


def has_bfloat16(place: torch.device) -> bool:
    """Whether bf16 pays: on processors without instructions for it, it is emulated and far slower."""
    if place.type != "cpu":
        return True
    # Absent from old releases of torch, which then train in float32.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def precisions(device: torch.device, *, grouped: bool) -> Iterator[torch.dtype]:
    """The half precisions that pay on `device`, the fastest first; float16 is the more precise.

    grouped: whether the network has grouped or depthwise convolutions. On CPUs whose matrix units
    take bfloat16 only, float16 halves the time of those and adds half to that of dense ones
    (seconds a photo in float32, bfloat16, float16: EfficientNet-B0 at 128 px .018, .006, .008;
    VGG16 at 224 px .20, .065, .31).
    """
    if device.type != "cpu":
        yield torch.float16
    if has_bfloat16(device):
        yield torch.bfloat16
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    if device.type == "cpu" and capabilities.get("avx512_fp16") and grouped:
        yield torch.float16
