"""Weights published by the networks' authors or OpenMMLab: what each is, its address, size and checksum.

Addresses, sizes and checksums are those that the publishers give: the README of each network's repository, the model's
page on the Hugging Face hub, and mmpretrain's ``configs/replknet/metafile.yml``. What they do not give is None.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlparse

_HUB = 'https://huggingface.co/DingXiaoH/UniRepLKNet/resolve/main/'
_OPENMMLAB = 'https://download.openmmlab.com/mmclassification/v0/replknet/'
DRIVE = 'https://drive.google.com/uc?export=download&id='
_SURFDRIVE = 'https://surfdrive.surf.nl/files/index.php/s/'
# Where the publishers list them, and under which licence.
_SOURCES = dict(
    RepLKNet=('https://github.com/DingXiaoH/RepLKNet-pytorch', 'MIT'),
    UniRepLKNet=('https://huggingface.co/DingXiaoH/UniRepLKNet', 'Apache-2.0'),
    SLaK=('https://github.com/VITA-Group/SLaK', 'MIT'))
_22K = 21841  # classes


@dataclass(frozen=True)
class Published:
    """A published checkpoint.

    Attributes:
        name: What configs and tools call it.
        network: Name of its network, one of ``mmreplk.networks.NETWORKS``.
        arch: Name of its architecture.
        kind: ``'classifier'``, ``'segmentor'`` or ``'detector'``.
        data: What it was trained on, in order.
        resolution: Side of the square training images or crops, in pixels; None for a detector's images of all sizes.
        result: The published result.
        url: Its address.
        size: Bytes; None if unknown.
        sha256: Checksum, or as many of its first digits as are known; None if unknown.
        classes: The number of classes of a classifier; None for other models, or if unknown.
    """

    name: str
    network: str
    arch: str
    kind: str
    data: str
    resolution: int | None
    result: str
    url: str
    size: int | None = None
    sha256: str | None = None
    classes: int | None = None

    @property
    def source(self) -> str:
        """The page of the publishers."""
        return _SOURCES[self.network][0]

    @property
    def licence(self) -> str:
        """Its licence, as an SPDX identifier."""
        return _SOURCES[self.network][1]

    @property
    def page(self) -> str:
        """The address at which a person downloads the file with a browser."""
        is_drive = self.url.startswith(DRIVE)
        return f'https://drive.google.com/file/d/{self.url.removeprefix(DRIVE)}/view' if is_drive else self.url

    @property
    def filename(self) -> str:
        """Name of the file in PyTorch's cache: the published one where the address has it."""
        last = urlparse(self.url).path.rpartition('/')[2]
        return last if last.endswith('.pth') else f'{self.name}.pth'


def _table() -> Iterator[Published]:
    yield from _unireplknet()
    yield from _replknet()
    yield from _slak()


def _unireplknet() -> Iterator[Published]:
    in1k, in22k, both = 'ImageNet-1K', 'ImageNet-22K', 'ImageNet-22K, ImageNet-1K'
    for arch, data, resolution, result, file, size, sha256 in (
        ('A', in1k, 224, '77.0 % top-1', 'a_in1k_224_acc77.03', 18917725,
         'a0ef11d8514590413a11493850e4882bb2c15c4c0203f97481158c7c58d76128'),
        ('F', in1k, 224, '78.6 % top-1', 'f_in1k_224_acc78.58', 26302493,
         'b070ba01e853df306ac9d945f3c3592506595908adc1333d09983209fef7d5c8'),
        ('P', in1k, 224, '80.2 % top-1', 'p_in1k_224_acc80.23', None,
         '36363a5df396c0550b67208c50cd1936d7154839ad8f791937e952b6093a83d4'),
        ('N', in1k, 224, '81.6 % top-1', 'n_in1k_224_acc81.64', None, None),
        ('T', in1k, 224, '83.2 % top-1', 't_in1k_224_acc83.21', None, None),
        ('S', in1k, 224, '83.9 % top-1', 's_in1k_224_acc83.91', None, None),
        ('S', both, 384, '86.4 % top-1', 's_in22k_to_in1k_384_acc86.44', None,
         '120fd52aeb737512807600c53d89d86b0f2e81172b8049768e7ce52c389accfa'),
        ('B', both, 384, '87.4 % top-1', 'b_in22k_to_in1k_384_acc87.40', 397494720,
         'cb37d591f7eec89bc08b49b727798722aa9f4c465c7358936f6573d568dcab2a'),
        ('L', both, 384, '87.9 % top-1', 'l_in22k_to_in1k_384_acc87.88', None, None),
        ('XL', both, 384, '88.0 % top-1', 'xl_in22k_to_in1k_384_acc87.96', 1556594240,
         'a5fb3d98f978dc4925cd50d3f3f8fd0c7dc5e47a8b4f22a68decb0c56fadf268'),
        ('S', in22k, 224, 'pre-training', 's_in22k_pretrain', 290895488,
         '0ce556076536e876e407592fce67f5cbdb6245c6dfbc35e8cdc25b51a3ccfe43'),
        ('B', in22k, 224, 'pre-training', 'b_in22k_pretrain', 482940032,
         'aa3d4d70eb992e5e9f4dee0a4542fbad71c3cea7e2f08c03720c7308c1d62c51'),
        ('L', in22k, 192, 'pre-training', 'l_in22k_pretrain', 1009876864,
         'b46656fb33fab335b1a2844822c76b325ba4c404186303649d84762e08ef5fb2'),
        ('XL', in22k, 192, 'pre-training', 'xl_in22k_pretrain', None, None),
    ):
        suffix = {in1k: 'in1k', in22k: 'in22k', both: f'in22k-in1k-{resolution}'}[data]
        yield Published(f'unireplknet-{arch.lower()}_{suffix}', 'UniRepLKNet', arch, 'classifier', data, resolution,
                        result, f'{_HUB}unireplknet_{file}.pth', size, sha256, _22K if data == in22k else 1000)
    for arch, data, crop, result, file, size, sha256 in (
        ('T', 'in1k', 512, '48.6 % mIoU', 't_512_160k_ade20k_miou48.56', None, None),
        ('S', 'in1k', 512, '50.5 % mIoU', 's_512_160k_ade20k_miou50.46', 1059007590,
         'f1be06daf2ebfa8ae68bc41687f65a970b313ba13bedcf14d4f70c35b7a03be2'),
        ('S', 'in22k', 512, '51.9 % mIoU', 's_in22k_512_160k_ade20k_miou51.86', 1059007654,
         '67efb2494f12e2bccaa19282b8d2eb0d466fe5755584e5fb9903cd188ebc0e64'),
        ('S', 'in22k', 640, '52.3 % mIoU', 's_in22k_640_160k_ade20k_miou52.28', 1059010214,
         '93486ecaf92e54187883545b5e1d9f72ede20b68f242ebff4da27cad7d6b94c6'),
        ('B', 'in22k', 640, '53.5 % mIoU', 'b_in22k_640_160k_ade20k_miou53.52', 1593070822,
         'fbcc46446ca96420675f9f26af5a10d673ce96aac50afda8b1d4de714644bb34'),
        ('L', 'in22k', 640, '54.5 % mIoU', 'l_in22k_640_160k_ade20k_miou54.70', 3089851942,
         'bc945a469c67812b2ffcc71cfa600afc484b47a8d53ac713cc8779aa6d489e94'),
        ('XL', 'in22k', 640, '55.2 % mIoU', 'xl_in22k_640_160k_ade20k_miou55.18', 5158177518,
         'c69d8f9791a44b7d8aa1c95faf6439e3dcedbd7f347c2534a933d2771e83c41f'),
    ):
        yield Published(f'unireplknet-{arch.lower()}_{data}_upernet-ade20k-{crop}', 'UniRepLKNet', arch, 'segmentor',
                        'ADE20K', crop, result, f'{_HUB}upernet_unireplknet_{file}.pth', size, sha256)
    for arch, data, result, file, size, sha256 in (
        ('T', 'in1k', '51.7 box AP, 44.9 mask AP', 't_in1k_3x_coco_ap51.75', None,
         '6dabd70955f213c19ea4b8837b811d3e68ff90b05b04a9ddf45e76b56a1be77e'),
        ('S', 'in1k', '53.0 box AP, 45.9 mask AP', 's_in1k_3x_coco_ap52.95', 1367279898,
         '364fe729a453aedb11787a7390c2299a05710af9c1ff37f89ba1cf0c5a50e6b3'),
        ('S', 'in22k', '54.3 box AP, 47.1 mask AP', 's_in22k_3x_coco_ap54.27', 1367279898,
         'ea589d98479e38e1e25f3b1ca68c089f687b2dc8ea686e9ce72422c2bc7f1a91'),
        ('B', 'in22k', '54.8 box AP, 47.4 mask AP', 'b_in22k_3x_coco_ap54.78', 1877455322,
         '38568b8dfaa92601c468fd8c8e9c3d2565bdf38b7838bf68bf83fb518dfd9f7c'),
        ('L', 'in22k', '55.8 box AP, 48.4 mask AP', 'l_in22k_3x_coco_ap55.82', 4436070529,
         '970789545b8f826587a1844c33fff4b8b4da1bdaf2762096dc07a95fabb70aee'),
        ('XL', 'in22k', '56.4 box AP, 49.0 mask AP', 'xl_in22k_3x_coco_ap56.39', None,
         'dca404c471d54db118598b2f17751dc6c57500be656c736aba00d92fe6f01d43'),
    ):
        yield Published(f'unireplknet-{arch.lower()}_{data}_cascade-mask-rcnn-coco', 'UniRepLKNet', arch, 'detector',
                        'COCO', None, result, f'{_HUB}casc_mask_rcnn_unireplknet_{file}.pth', size, sha256)


def _replknet() -> Iterator[Published]:
    in1k, in22k, meg = 'ImageNet-1K', 'ImageNet-22K', 'MegData-73M'
    # mmpretrain's conversions, whose names end with the first digits of the checksum.
    for name, arch, data, resolution, result, file in (
        ('31b_in1k', '31B', in1k, 224, '83.5 % top-1', '31B_3rdparty_in1k_20221118-fd08e268'),
        ('31b_in1k-384', '31B', in1k, 384, '84.8 % top-1', '31B_3rdparty_in1k-384px_20221118-03a170ce'),
        ('31b_in22k-in1k', '31B', f'{in22k}, {in1k}', 224, '85.2 % top-1',
         '31B_in21k-pre_3rdparty_in1k_20221118-54ed5c46'),
        ('31b_in22k-in1k-384', '31B', f'{in22k}, {in1k}', 384, '86.0 % top-1',
         '31B_in21k-pre_3rdparty_in1k-384px_20221118-76c92b24'),
        ('31l_in22k-in1k-384', '31L', f'{in22k}, {in1k}', 384, '86.6 % top-1',
         '31L_in21k-pre_3rdparty_in1k-384px_20221118-dc3fc07c'),
        ('xl_meg73m-in1k-320', 'XL', f'{meg}, {in1k}', 320, '87.8 % top-1',
         'XL_meg73m-pre_3rdparty_in1k-320px_20221118-88259b1d'),
    ):
        yield Published(f'replknet-{name}', 'RepLKNet', arch, 'classifier', data, resolution, result,
                        f'{_OPENMMLAB}replknet-{file}.pth', None, file.rpartition('-')[2], 1000)
    for name, arch, kind, data, resolution, result, number in (
        ('31b_in22k', '31B', 'classifier', in22k, 224, 'pre-training', '1PYJiMszZYNrkZOeYwjccvxX8UHMALB7z'),
        ('31l_in22k', '31L', 'classifier', in22k, None, 'pre-training', '16jcPsPwo5rko7ojWS9k_W-svHX-iFknY'),
        ('xl_meg73m', 'XL', 'classifier', meg, None, 'pre-training', '1CBHAEUlCzoHfiAQmMIjZhDMAIyHUmAAj'),
        ('31b_in1k_upernet-cityscapes-769', '31B', 'segmentor', 'Cityscapes', 769, '83.1 % mIoU',
         '1j3YwToRqTHHi7ocln0iBz1tE6hItD_JO'),
        ('31b_in1k_upernet-ade20k-512', '31B', 'segmentor', 'ADE20K', 512, '49.9 % mIoU',
         '1ZV1CP1KzeSdH6_wKw4ytVe9BlCGHf89s'),
        ('31b_in22k_upernet-ade20k-640', '31B', 'segmentor', 'ADE20K', 640, '51.5 % mIoU',
         '1W2W4nD2HzTsG_yP9ppLYAqMo3T3JHBNW'),
        ('31l_in22k_upernet-ade20k-640', '31L', 'segmentor', 'ADE20K', 640, '52.4 % mIoU',
         '1nrZ723LC3QYjcVHJm8jpOOcecfWMsjxL'),
        ('xl_meg73m_upernet-ade20k-640', 'XL', 'segmentor', 'ADE20K', 640, '55.2 % mIoU',
         '14GbBI8tdeEl_ECytDCdrfAfNm1McqMv4'),
        ('31b_in1k_fcos-coco', '31B', 'detector', 'COCO', None, '47.0 box AP', '1g0jSpONBF2wJDXYhB7P3mbqAVE587Myi'),
        ('31b_in1k_cascade-mask-rcnn-coco', '31B', 'detector', 'COCO', None, '52.2 box AP, 45.2 mask AP',
         '1XqWSkQZSLMIhyaQvaIhGbuFhdDoRJQ4Z'),
        ('31b_in22k_cascade-mask-rcnn-coco', '31B', 'detector', 'COCO', None, '53.0 box AP, 46.0 mask AP',
         '1faI-MiNuPidum6dC6dGADfYWe6J-bTAz'),
        ('31l_in22k_cascade-mask-rcnn-coco', '31L', 'detector', 'COCO', None, '53.9 box AP, 46.5 mask AP',
         '1qLQONhIjCEuykhdy-wHx1Ah9lT3v2OXh'),
        ('xl_meg73m_cascade-mask-rcnn-coco', 'XL', 'detector', 'COCO', None, '55.5 box AP, 48.0 mask AP',
         '1i0TqfwQJQUVHWdB5oyDgxlUUqzPZmIVr'),
    ):
        yield Published(f'replknet-{name}', 'RepLKNet', arch, kind, data, resolution, result, DRIVE + number)


def _slak() -> Iterator[Published]:
    for arch, result, number in (
        ('T', '82.5 % top-1', '1Iut2f5FMS_77jGPYoUJDQzDIXOsax1u4'),
        ('S', '83.8 % top-1', '1etM6KQbnlsgDAZ37adsQJ3UI8Bbv2AVe'),
        ('B', '84.0 % top-1', '1duUxUD3RSblQ6eDHd0n-u0aulwGypf1j'),
    ):
        yield Published(f'slak-{arch.lower()}_in1k', 'SLaK', arch, 'classifier', 'ImageNet-1K', 224, result,
                        DRIVE + number, classes=1000)
    for arch, result, share in (
        ('T', '47.6 % mIoU', 'cc6Pqb7IZaecWMv'),
        ('S', '49.4 % mIoU', 'HMLBXtKUDY6wyFF'),
        ('B', '50.0 % mIoU', 'JDZ6dMBMZDxUHQG'),
    ):
        yield Published(f'slak-{arch.lower()}_in1k_upernet-ade20k-512', 'SLaK', arch, 'segmentor', 'ADE20K', 512,
                        result, f'{_SURFDRIVE}{share}/download')
    # The detector that was pre-trained for 300 epochs and trained for 36 has no published address.
    yield Published('slak-t_in1k-120e_cascade-mask-rcnn-coco-1x', 'SLaK', 'T', 'detector', 'COCO', None, '48.4 box AP',
                    f'{_SURFDRIVE}2IvPyGgSTT2RvPu/download')


# By name.
PUBLISHED: dict[str, Published] = {published.name: published for published in _table()}
