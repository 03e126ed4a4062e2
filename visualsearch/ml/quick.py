"""A copy of a network for reading many photos: norms folded into convolutions, half precision."""

from __future__ import annotations

import copy
import itertools
import logging
import threading

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from visualsearch.ml.precision import precisions

logger = logging.getLogger(__name__)

MIN_COSINE = 0.9995
"""With the network's own answers, the worst of the photos tried; .999 is promised of all photos."""
TRIED = 16


class Quick(nn.Module):
    """Same answers (cosine above .999) as `network`, up to three times as fast.

    Which precision is precise enough differs from network to network: the first photos decide,
    each way compared with the network itself, from the fastest to the network as it is. Weights are
    copied when made: after training on, make another.
    """

    def __init__(self, network: nn.Module, *, device: torch.device) -> None:
        """network: maps uint8 [B, S, S, 3] to float [B, d]; is put into eval mode on `device`."""
        super().__init__()
        self.network = network.to(device).eval()
        self.device = device
        self.folded = folded(self.network).to(memory_format=torch.channels_last)
        self.grouped = any(
            isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in network.modules()
        )
        self.precision: torch.dtype | None = None
        self.decided = False
        self._deciding = threading.Lock()

    @torch.inference_mode()
    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [B, S, S, 3] on the device -> float32 [B, d]."""
        if not self.decided and len(pixels):
            with self._deciding:
                if not self.decided:  # another thread may have been faster
                    self._decide(pixels[:TRIED])
        vectors = self._run(pixels, self.precision)
        if self.precision is not None and not bool(vectors.isfinite().all()):
            # A photo whose features pass the largest float16.
            return self._run(pixels, None)
        return vectors

    def _decide(self, pixels: Tensor) -> None:
        wanted = self.network(pixels).float()
        for precision in (*precisions(self.device, grouped=self.grouped), None):
            found = self._run(pixels, precision)
            worst = float(nn.functional.cosine_similarity(found, wanted, dim=1).min())
            if worst >= MIN_COSINE:  # NaN is not
                break
        else:
            # A norm and the convolution before it were no pair after all.
            self.folded, precision = self.network, None
        logger.debug("Photos are read in %s, cosine %.5f", precision or "float32", worst)
        self.precision, self.decided = precision, True

    def _run(self, pixels: Tensor, precision: torch.dtype | None) -> Tensor:
        enabled = precision is not None
        with torch.autocast(self.device.type, precision or torch.bfloat16, enabled=enabled):
            vectors: Tensor = self.folded(pixels)
        return vectors.float()


def folded(network: nn.Module) -> nn.Module:
    """A copy of `network`, which is in eval mode, with batch norms folded into convolutions.

    A pair is a convolution and a norm registered right after it, in whatever order `forward` calls
    them: a guess that holds for the usual networks, and has to be checked.
    """
    quick = copy.deepcopy(network).requires_grad_(False)
    for parent in list(quick.modules()):
        for (first, conv), (second, norm) in itertools.pairwise(list(parent.named_children())):
            if (
                isinstance(conv, nn.Conv2d)
                and isinstance(norm, nn.BatchNorm2d)
                and conv.out_channels == norm.num_features
                and norm.track_running_stats
            ):
                setattr(parent, first, fuse_conv_bn_eval(conv, norm))
                setattr(parent, second, nn.Identity())
    return quick
