"""What ``torch.compile`` evaluates in Python while it traces."""

from collections.abc import Callable


def constant(function: Callable) -> Callable:
    """As ``torch.compiler.assume_constant_result``, whose import of Dynamo takes as long as that of PyTorch."""
    function._dynamo_marked_constant = True
    return function
