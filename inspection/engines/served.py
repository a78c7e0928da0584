"""The network as PyTorch serves it: batch normalisation folded, channels last, one answer tensor.

    grey levels -> window, normalise              float32
        -> backbone maps -> one grid              float32, f16 or bf16
        -> whitening, heads, context, pooling     float32 -> one row an image

Only the backbone computes in half precision. Grey levels of 16 bits do not fit into it, and what
follows the backbone takes differences of large numbers: its whitening is a sum over hundreds of
features, its context a difference of squares.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from inspection.engines.detail import STRIDE
from inspection.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from inspection.engines.network import InspectionNetwork
    from inspection.package import Precision

KINDS: Final[Mapping[Precision, torch.dtype]] = MappingProxyType(
    {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
)

FOLDING_TOLERANCE: Final = 1e-3  # of the largest feature; float32 alone gives about 1e-6


class ServedNetwork(nn.Module):
    """A loaded network made ready to serve; it takes the network over and changes it.

    Args:
        network: on the CPU, in evaluation mode.
        precision: of the backbone.

    Raises:
        EngineError: a weight is not a finite number, or not one in this precision; or the
            backbone cannot be folded.
    """

    def __init__(self, network: InspectionNetwork, precision: Precision) -> None:
        super().__init__()
        architecture = network.architecture
        self.shape = (architecture.channels, *architecture.input_size_px)
        self.classes = architecture.classes
        self.kind = KINDS[precision]
        require_finite(network)
        generator = torch.Generator().manual_seed(0)
        image = torch.empty(1, *self.shape).uniform_(*architecture.window, generator=generator)
        self.grid = fold(network, image)
        if architecture.detail:
            height, width = architecture.input_size_px
            self.grid = height // STRIDE, width // STRIDE
        network.trunk.to(self.kind)
        require_finite(network)
        self.network = network.to(memory_format=torch.channels_last)
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, K + K h w + 1) float32: scores, evidence and novelty of (N, C, H, W) float32."""
        trunk = self.network.trunk
        normalised = trunk.normalised(images).to(self.kind, memory_format=torch.channels_last)
        answers = self.network.readout(images, trunk.cells(normalised).float())
        scores, evidence, novelty = answers
        return torch.cat([scores, evidence.flatten(1), novelty[:, None]], dim=1)


def unpack(
    rows: NDArray[np.float32], classes: int, grid: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Scores (N, K), evidence (N, K, h, w) and novelty (N,) out of what `ServedNetwork` gave."""
    evidence = rows[:, classes:-1].reshape(len(rows), classes, *grid)
    return rows[:, :classes], evidence, rows[:, -1]


def require_finite(network: nn.Module) -> None:
    """Refuse weights that are no numbers: a ReLU6 would make ordinary answers of them.

    Raises:
        EngineError: there is one; names the tensor.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise EngineError(
                f"the network's {name} holds a weight that is not a finite number "
                f"in {str(tensor.dtype).removeprefix('torch.')}",
                remedy="Serve the model in float32; if it says so there too, train it again.",
            )


@torch.no_grad()
def fold(network: InspectionNetwork, image: Tensor) -> tuple[int, int]:
    """Fold every batch normalisation into the convolution before it; gives the cells' grid.

    Which belong together is seen from what flows where, as `image` goes through the trunk; and the
    folded trunk has to give the same features.

    Raises:
        EngineError: it does not.
    """
    made: dict[int, tuple[Tensor, nn.Conv2d]] = {}  # holds the tensors, so that ids stay theirs
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def ran(module: nn.Conv2d, _given: Any, answer: Tensor) -> None:
        made[id(answer)] = (answer, module)

    def about_to_run(module: nn.BatchNorm2d, given: tuple[Tensor, ...]) -> None:
        if id(given[0]) in made:
            pairs.append((made[id(given[0])][1], module))

    hooks = []
    for module in network.trunk.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(ran))
        elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            hooks.append(module.register_forward_pre_hook(about_to_run))
    try:
        before = network.trunk(image)
    finally:
        for hook in hooks:
            hook.remove()
    made.clear()
    once = [
        (convolution, norm)
        for convolution, norm in pairs
        if sum(norm is other or convolution is one for one, other in pairs) == 1
    ]
    for convolution, norm in once:
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None and variance is not None  # noqa: PT018, S101  hooked only then
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            *(convolution.weight, convolution.bias, mean, variance, norm.eps),
            *(norm.weight, norm.bias),
        )
    left = {id(norm): what_is_left(norm) for _, norm in once}
    for parent in list(network.trunk.modules()):
        for name, child in list(parent.named_children()):
            if id(child) in left:
                setattr(parent, name, left[id(child)])
    apart = float((network.trunk(image) - before).abs().max() / before.abs().max())
    if not apart <= FOLDING_TOLERANCE:
        raise EngineError(
            f"batch normalisation cannot be folded into {network.architecture.backbone}: "
            f"features change by {apart:.1g} of the largest",
            remedy='Set the engine to "openvino".',
        )
    return before.shape[-2], before.shape[-1]


def what_is_left(norm: nn.BatchNorm2d) -> nn.Module:
    """What a normalisation does beside normalising: timm's carry their activation."""
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    return nn.Sequential(*(getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)))
