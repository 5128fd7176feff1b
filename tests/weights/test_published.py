import re
from pathlib import Path

import torch

from mmreplk.networks import NETWORKS
from mmreplk.networks.classifier import Classifier
from mmreplk.weights import PUBLISHED


def test_every_entry_is_of_a_network_that_is_here():
    assert len(PUBLISHED) > 50
    for name, published in PUBLISHED.items():
        arch = published.arch
        assert arch in NETWORKS[published.network].Arch.NAMED
        assert re.fullmatch(rf'{published.network.lower()}-{arch.lower()}_[a-z0-9-]+(_[a-z0-9-]+)?', name)


def test_addresses_and_files_are_told_apart():
    for attribute in ('url', 'filename'):
        values = [getattr(published, attribute) for published in PUBLISHED.values()]
        assert len(set(values)) == len(values)


def test_facts_are_of_the_right_kind():
    for published in PUBLISHED.values():
        assert published.url.startswith('https://') and published.page.startswith('https://')
        assert published.size is None or published.size > 10e6
        assert published.sha256 is None or re.fullmatch('[0-9a-f]{64}|[0-9a-f]{8}', published.sha256)
        assert published.kind in ('classifier', 'segmentor', 'detector')
        assert published.licence in ('MIT', 'Apache-2.0')
        assert published.filename.endswith('.pth')
        assert (published.resolution is None) >= (published.kind == 'detector')


def test_sizes_are_those_of_the_networks():
    """A classifier's file holds its tensors in float32, and a little more: this finds a row with another's size."""
    for published in PUBLISHED.values():
        if published.kind != 'classifier' or published.size is None:
            continue
        with torch.device('meta'):
            model = Classifier(NETWORKS[published.network](published.arch, out_indices=[3]), published.classes)
        size = sum(tensor.nbytes for tensor in model.state_dict().values())
        assert size < published.size < 1.02 * size, published.name


def test_configs_take_what_is_in_the_table():
    named = {name for path in (Path(__file__).parents[2] / 'configs').rglob('*.py')
             for name in re.findall(r"(?:checkpoint|load_from)='(.+?)'", path.read_text())}
    assert 'replknet-31b_in1k' in named and named <= set(PUBLISHED)
