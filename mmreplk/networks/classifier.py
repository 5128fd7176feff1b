"""Classifiers, as the networks were published: pooling, a norm and a linear layer after the last stage."""

from collections.abc import Mapping

from torch import Tensor, nn

from ..layers.branches import Norm, build_bn
from .base import LargeKernelBackbone
from .sources import find_backbone

_BACKBONE = 'backbone.'


class Classifier(nn.Module):
    """A network with a classification head. Its state dict has the names of the official classifier.

    Published classification weights load whole, and so do mmpretrain's conversions of them.

    Args:
        backbone: The network, whose only output is its last stage. The norm of that output, which classifiers do not
            have, is taken away.
        num_classes: Number of classes; with 0, pooled features are returned.
        drop_rate: Probability that dropout, in training, zeros a pooled feature.
        norm: Makes the BatchNorm before pooling, where the network has one there.
    """

    def __init__(self,
                 backbone: LargeKernelBackbone,
                 num_classes: int = 1000,
                 drop_rate: float = 0.,
                 norm: Norm = nn.BatchNorm2d):
        super().__init__()
        unused = backbone.output_norm(backbone.num_stages - 1)
        path = next(name for name, module in backbone.named_modules() if module is unused)
        backbone.set_submodule(path, nn.Identity())
        self.backbone = backbone
        self.num_features = backbone.channels[-1]
        self.norm = build_bn(norm, self.num_features) if backbone.is_normed_before_pooling else \
            nn.LayerNorm(self.num_features, eps=1e-6)
        self.dropout = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes)
        self.register_state_dict_post_hook(_write_published_names)
        self.register_load_state_dict_pre_hook(_read_published_names)

    def reset_classifier(self, num_classes: int) -> None:
        """Replaces the last linear layer by a new one for ``num_classes`` classes; 0 removes it."""
        self.num_classes, reference = num_classes, self.norm.weight
        self.head: nn.Module = nn.Identity()
        if num_classes:
            self.head = nn.Linear(self.num_features, num_classes, device=reference.device, dtype=reference.dtype)
            nn.init.trunc_normal_(self.head.weight, std=.02)
            nn.init.zeros_(self.head.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Computes the features of the last stage, ``(N, num_features, H / 32, W / 32)``."""
        return self.backbone(x)[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classifies the features of the last stage.

        Args:
            x: What :meth:`forward_features` returns.
            pre_logits: Return the input of the linear layer instead.

        Returns:
            ``(N, num_classes)``, or ``(N, num_features)``.
        """
        if self.backbone.is_normed_before_pooling:
            x = self.norm(x).mean((2, 3))
        else:
            x = self.norm(x.mean((2, 3)))
        x = self.dropout(x)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images ``(N, in_channels, H, W)`` to logits ``(N, num_classes)``."""
        return self.forward_head(self.forward_features(x))

    def switch_to_deploy(self) -> None:
        """Merges and folds the network for good."""
        self.backbone.switch_to_deploy()


def _write_published_names(module: nn.Module, state_dict: dict, prefix: str, _: object) -> None:
    """Removes ``backbone.`` from the beginning of every name."""
    for name in [name for name in state_dict if name.startswith(prefix)]:
        own = name.removeprefix(prefix)
        state_dict[prefix + own.removeprefix(_BACKBONE)] = state_dict.pop(name)


def _read_published_names(classifier: Classifier, state_dict: dict, prefix: str, *_) -> None:
    """Gives every tensor its name in the module, whichever code saved it."""
    own = {name: state_dict.pop(name) for name in list(state_dict) if name.startswith(prefix)}
    saved = {name.removeprefix(prefix): tensor for name, tensor in own.items()}
    for name, tensor in inner_names(saved, type(classifier.backbone)).items():
        state_dict[prefix + name] = tensor


def inner_names(saved: Mapping, network: type[LargeKernelBackbone]) -> dict[str, Tensor]:
    """Returns the tensors of a classification checkpoint by the names that they have in a :class:`Classifier`.

    Args:
        saved: A checkpoint or state dict, official, mmpretrain's, or of a Classifier.
        network: The class of the network.
    """
    source = find_backbone(saved, network)
    found = {_BACKBONE + name: tensor for name, tensor in source.backbone.items()}
    norms = {source.prefix + name for name in network.classifier_norm(
        [name.removeprefix(source.prefix) for name in source.weights])}
    for name, tensor in source.weights.items():
        last = name.rpartition('.')[2]
        if name in norms or name.startswith('norm.'):
            found[f'norm.{last}'] = tensor
        elif name.startswith('head.'):
            found[f'head.{last}'] = tensor
    return found
