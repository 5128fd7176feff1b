"""Models inside what distribution and test-time augmentation wrap around them."""

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """Returns the model itself, without what wraps it, such as DistributedDataParallel or a ``BaseTTAModel``."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
