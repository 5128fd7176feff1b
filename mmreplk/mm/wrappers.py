"""Models inside the wrappers of distributed training and test-time augmentation."""

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """Returns the model itself, without what wraps it, such as DistributedDataParallel or a ``BaseTTAModel``."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
