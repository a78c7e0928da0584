"""The network: one forward pass gives score, evidence and novelty.

    image (grey levels) -> window, normalise -> backbone maps -> one grid -> whitening 1x1
        -> evidence head 1x1, 1x1 (+ context of the whole image, alike in every cell)
           or, of every pixel: filters that are learnt (`inspection.engines.detail`)
        -> evidence map -> pool_evidence -> score
        -> mean and deviation over the grid -> distance from the training images -> novelty

The heatmap is the evidence itself: there is no path from image to score around the map. Everything
is one plain feed-forward graph, so that every engine gets all three outputs without a gradient.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from inspection.engines.architecture import Architecture
from inspection.engines.backbones import FIRST_STAGE, Taps, file_sha256, find_weights
from inspection.engines.context import Context
from inspection.engines.detail import STRIDE, Detail
from inspection.engines.export import export_onnx
from inspection.engines.header import METADATA_KEY
from inspection.engines.memory import MemoryHead
from inspection.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "Architecture",
    "EvidenceHead",
    "InspectionNetwork",
    "Novelty",
    "create_network",
    "describe",
    "export_onnx",
    "load_network",
    "pool_evidence",
    "pool_evidence_numpy",
    "save_network",
]

# Far below half a float32 step of any score, yet it carries NaN and infinity through: runtimes may
# clip a NaN away in ReLU6 or a maximum, and a picture that is not a number must not get one.
TRACER = 1e-30


def pool_evidence(evidence: Tensor, sharpness: float) -> Tensor:
    """Smooth maximum of each map: log(mean(exp(r e))) / r.

    Between mean (r -> 0) and maximum (r -> infinity); Boyd and Vandenberghe, Convex Optimization,
    section 3.1.5, less log(n) / r so that a constant map pools to that constant.

    Args:
        evidence: (N, K, h, w) float32.
        sharpness: r, above 0.

    Returns:
        (N, K) float32 scores.
    """
    peak = evidence.amax(dim=(2, 3), keepdim=True)
    mean = torch.exp((evidence - peak) * sharpness).mean(dim=(2, 3))
    return peak[:, :, 0, 0] + torch.log(mean) / sharpness


def pool_evidence_numpy(evidence: NDArray[np.float32], sharpness: float) -> NDArray[np.float32]:
    """`pool_evidence` for arrays of shape (..., h, w); returns shape (...)."""
    peak = evidence.max(axis=(-2, -1), keepdims=True)
    mean = np.exp((evidence - peak) * np.float32(sharpness)).mean(axis=(-2, -1))
    pooled: NDArray[np.float32] = peak[..., 0, 0] + np.log(mean) / np.float32(sharpness)
    return pooled


class Trunk(nn.Module):
    """Window, normalisation, backbone, and its maps side by side on the coarsest one's grid.

    Finer maps are described by mean and maximum within each cell: a crack that is one pixel wide
    is in the maximum. With `tuned_from`, the maps of the tuned stages come after all others; with
    `shrink`, the image is first averaged over squares of so many pixels.
    """

    def __init__(
        self, taps: Taps, window: tuple[float, float], tuned_from: int = 0, shrink: int = 1
    ) -> None:
        super().__init__()
        self.taps = taps
        self.low, self.high = window
        self.shrink = shrink
        self.tuned_from = tuned_from
        self.tuned = copy.deepcopy(taps.stages[tuned_from:]) if tuned_from else None

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, h, w) float32 cell features of (N, 1 or 3, H, W) float32 grey levels."""
        return self.cells(self.normalised(image))

    def cells(self, normalised: Tensor) -> Tensor:
        """(N, C, h, w) cell features of (N, 3, H, W) in -1..1, of the kind that the weights are."""
        maps = self.taps(normalised)
        if self.tuned is not None:
            hidden = maps[self.tuned_from - 1 - FIRST_STAGE]
            for stage in self.tuned:
                hidden = stage(hidden)
                maps.append(hidden)
        height, width = maps[-1].shape[-2:]
        return torch.cat([on_grid(one, height, width) for one in maps], dim=1)

    @torch.no_grad()
    def widths(self, channels: int, size_px: tuple[int, int]) -> list[int]:
        """How many features each of the backbone's maps gives a cell."""
        maps = self.taps(self.normalised(torch.zeros(1, channels, *size_px)))
        return [on_grid(one, *maps[-1].shape[-2:]).shape[1] for one in maps]

    def normalised(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) in -1..1, as the backbone was trained on."""
        if self.shrink > 1:
            image = F.avg_pool2d(image, self.shrink)
        unit = ((image - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
        scaled = (unit - 0.5) / 0.5
        return torch.cat([scaled] * 3, dim=1) if image.shape[1] == 1 else scaled


def on_grid(maps: Tensor, height: int, width: int) -> Tensor:
    """(N, C, h, w) maps on a grid of (height, width) cells: (N, C or 2 C, height, width)."""
    rows, columns = maps.shape[-2:]
    if (rows, columns) == (height, width):
        return maps
    step_y, step_x = -(-rows // height), -(-columns // width)
    padding = (0, width * step_x - columns, 0, height * step_y - rows)
    if any(padding):
        maps = F.pad(maps, padding, mode="replicate")
    size = (step_y, step_x)
    return torch.cat([F.avg_pool2d(maps, size), F.max_pool2d(maps, size)], dim=1)


class EvidenceHead(nn.Module):
    """Two 1x1 convolutions and a straight one beside them: evidence of each cell by itself."""

    def __init__(self, components: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(components, hidden, 1)
        self.outer = nn.Conv2d(hidden, classes, 1)
        self.straight = nn.Conv2d(components, classes, 1, bias=False)

    def forward(self, cells: Tensor) -> Tensor:
        """(N, K, h, w) evidence of (N, components, h, w) whitened cell features."""
        evidence: Tensor = self.outer(F.silu(self.inner(cells))) + self.straight(cells)
        return evidence

    def of_rows(self, rows: Tensor) -> Tensor:
        """The same for (..., components) rows: (..., K). Quicker than convolutions on a CPU."""
        inner = F.linear(rows, self.inner.weight[:, :, 0, 0], self.inner.bias)
        evidence = F.linear(F.silu(inner), self.outer.weight[:, :, 0, 0], self.outer.bias)
        return evidence + F.linear(rows, self.straight.weight[:, :, 0, 0])

    @torch.no_grad()
    def scale(self, factor: float) -> None:
        """Multiply the evidence by this."""
        for one in (self.outer.weight, self.outer.bias, self.straight.weight):
            one.mul_(factor)  # type: ignore[union-attr]


class TunedEvidence(nn.Module):
    """A second whitening and head, for the tuned stages beside the frozen ones.

    Args:
        shared: features of the stages that both have.
        frozen: features of all frozen stages, the shared ones first.
        tuned: features of the tuned stages.
        architecture: its components, hidden and classes.
    """

    def __init__(self, shared: int, frozen: int, tuned: int, architecture: Architecture) -> None:
        super().__init__()
        self.shared, self.frozen = shared, frozen
        components = architecture.components
        self.whitening = nn.Conv2d(shared + tuned, components, 1)
        self.head = EvidenceHead(components, architecture.hidden, architecture.classes)

    def forward(self, features: Tensor) -> Tensor:
        """(N, K, h, w) evidence of all the trunk's features."""
        own = torch.cat([features[:, : self.shared], features[:, self.frozen :]], dim=1)
        evidence: Tensor = self.head(self.whitening(own))
        return evidence


class Novelty(nn.Module):
    """Distance of an image from the training images, about 1 for one of their kind.

    Mahalanobis distance of the cells' mean and deviation under probabilistic PCA (Tipping and
    Bishop 1999, eq. 7 and 8: leading eigenvalues as they are, the rest shared), divided by the
    root of the number of dimensions.
    """

    def __init__(self, components: int) -> None:
        super().__init__()
        self.whiten = nn.Linear(2 * components, 2 * components)

    def forward(self, cells: Tensor) -> Tensor:
        """(N,) distances of (N, components, h, w) whitened cell features."""
        whitened: Tensor = self.whiten(describe(cells))
        return whitened.square().mean(dim=1).sqrt()


def describe(cells: Tensor) -> Tensor:
    """(N, 2 C): mean and standard deviation over the grid of (N, C, h, w) cell features."""
    mean = cells.mean(dim=(2, 3))
    deviation = (cells - mean[:, :, None, None]).square().mean(dim=(2, 3)).sqrt()
    return torch.cat([mean, deviation], dim=1)


class InspectionNetwork(nn.Module):
    """Backbone, evidence head and novelty in one graph; see the module's docstring.

    Build it with `create_network` or `load_network`.
    """

    def __init__(self, architecture: Architecture, taps: Taps) -> None:
        super().__init__()
        self.architecture = architecture
        self.trunk = Trunk(
            taps, architecture.window, architecture.tuned_from, architecture.shrink
        ).eval()
        widths = self.trunk.widths(architecture.channels, architecture.input_size_px)
        first = architecture.tuned_from
        tuned = sum(widths[first - FIRST_STAGE :]) if first else 0
        self.frozen = sum(widths)
        self.whitening = nn.Conv2d(self.frozen, architecture.components, 1)
        components, classes = architecture.components, architecture.classes
        self.head: EvidenceHead | MemoryHead | Detail
        if architecture.memory:
            self.head = MemoryHead(components, architecture.memory)
        elif architecture.detail:
            height, width = architecture.input_size_px
            grid = (height // STRIDE, width // STRIDE) if architecture.zoned else None
            self.head = Detail(architecture.window, architecture.detail, classes, grid)
        else:
            self.head = EvidenceHead(components, architecture.hidden, classes)
        self.novelty = Novelty(architecture.components)
        self.context = (
            Context(self.frozen, architecture.context_components, architecture.context, classes)
            if architecture.context
            else None
        )
        self.tuned = (
            TunedEvidence(self.frozen - tuned, self.frozen, tuned, architecture) if tuned else None
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score (N, K), evidence (N, K, h, w) and novelty (N,), all float32.

        Args:
            image: (N, C, H, W) float32 in the frame's own grey levels.
        """
        return self.readout(image, self.trunk(image))

    def readout(self, image: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same from cell features that the trunk gave: (N, C, h, w) float32."""
        tracer = image.mean(dim=(1, 2, 3)) * TRACER
        frozen = features[:, : self.frozen]
        cells = self.whitening(frozen)
        evidence = self.head(image if self.architecture.detail else cells)
        evidence = evidence + tracer[:, None, None, None]
        if self.context is not None:
            evidence = evidence + self.context(frozen)
        if self.tuned is not None:
            evidence = evidence + self.tuned(features)
        score = pool_evidence(evidence, self.architecture.sharpness) + tracer[:, None]
        return score, evidence, self.novelty(cells) + tracer.abs()


def create_network(
    architecture: Architecture, *, pretrained: bool = True, weights: Path | None = None
) -> InspectionNetwork:
    """A network whose head is not fitted yet, in evaluation mode, on the CPU.

    Args:
        architecture: `backbone_sha256` is set here, whatever it says.
        pretrained: False leaves the backbone's random start, for tests.
        weights: the backbone's weights file; without it, the known backbone's own package.

    Raises:
        ConfigurationError: weights that are missing, damaged or of another architecture.
    """
    path = None
    if pretrained:
        path = weights if weights is not None else find_weights(architecture.backbone)
    given = asdict(architecture)
    given["backbone_sha256"] = file_sha256(path) if path is not None else ""
    taps = Taps(architecture.backbone, weights=path)
    return InspectionNetwork(Architecture(**given), taps).eval()


def extended(network: InspectionNetwork, **changes: float) -> InspectionNetwork:
    """The network with other parts beside those that it has, which are shared, not copied.

    Args:
        network: without context and tuned stages.
        changes: of its architecture: context, tuned_from, sharpness. A tuned copy starts as what
            it is a copy of.
    """
    given = {**asdict(network.architecture), **changes}
    grown = InspectionNetwork(Architecture(**given), network.trunk.taps)
    for name in ("whitening", "head", "novelty"):
        setattr(grown, name, getattr(network, name))
    if grown.tuned is not None:
        grown.tuned.whitening.load_state_dict(network.whitening.state_dict())
        grown.tuned.head.load_state_dict(network.head.state_dict())
    return grown.eval()


def save_network(network: InspectionNetwork, path: Path) -> None:
    """Write `model.safetensors`: every tensor, and the architecture in the header.

    The same network always gives the same bytes.
    """
    import safetensors.torch

    tensors = {name: one.detach().cpu().contiguous() for name, one in network.state_dict().items()}
    document = json.dumps(asdict(network.architecture), sort_keys=True)
    safetensors.torch.save_file(tensors, path, metadata={METADATA_KEY: document})


def load_network(path: Path) -> InspectionNetwork:
    """The network that `save_network` wrote, in evaluation mode, on the CPU.

    Raises:
        EngineError: the file is damaged or is not one of ours.
    """
    import safetensors.torch

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            document = json.loads((file.metadata() or {})[METADATA_KEY])
        if document.pop("fine", 0):  # of networks before fixed filters became a first guess only
            raise ValueError("its fine branch is no longer served; train it again")
        document["input_size_px"] = tuple(document["input_size_px"])
        document["window"] = tuple(document["window"])
        architecture = Architecture(**document)
        network = InspectionNetwork(architecture, Taps(architecture.backbone, weights=None))
        network.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise EngineError(f"{path.name} is not a network of this product: {error}") from error
    except safetensors.SafetensorError as error:
        raise EngineError(f"{path.name} is damaged: {error}") from error
    return network.eval()
