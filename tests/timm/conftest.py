import pytest

from tests.beside_torchvision import findable


@pytest.fixture(scope='module')
def timm():
    with findable('timm'):
        import timm

        import mmreplk.timm  # noqa: F401
        yield timm
