from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
version: dict[str, str] = {}
exec((ROOT / 'mmreplk' / 'version.py').read_text(), version)

setup(
    name='mmreplk',
    version=version['__version__'],
    description='Large-kernel ConvNets (RepLKNet) for MMSegmentation and MMDetection',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmreplk', 'mmreplk.*']),
    package_data={'mmreplk.inference': ['page.css']},
    python_requires='>=3.10',
    # Neither torch nor a distribution of MMCV: a user has one of several of each, and pip would add another.
    install_requires=['numpy'],
    extras_require={'serve': ['gradio>=6.31,<7']},
)
