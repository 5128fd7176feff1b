import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# dev/ is for maintainers, and the demo writes into the repository that it is in.
NOT_INSTALLED = shutil.ignore_patterns('__pycache__', 'dev', 'demo.py')
version: dict[str, str] = {}
exec((ROOT / 'mmreplk' / 'version.py').read_text(), version)


class BuildWithConfigs(build_py):
    """Adds what MIM looks for in an installed package, in ``.mim``: configs, tools for users, the index of models."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            mim = Path(self.build_lib, 'mmreplk', '.mim')
            for folder in ('configs', 'tools'):
                shutil.rmtree(mim / folder, ignore_errors=True)  # of an earlier build
                shutil.copytree(ROOT / folder, mim / folder, ignore=NOT_INSTALLED)
            shutil.copy(ROOT / 'model-index.yml', mim)


setup(
    name='mmreplk',
    version=version['__version__'],
    description='Large-kernel ConvNets and their depthwise convolution, for MMSegmentation, MMDetection and PyTorch',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    cmdclass=dict(build_py=BuildWithConfigs),
    packages=find_packages(include=['mmreplk', 'mmreplk.*']),
    package_data={
        'mmreplk.mm.inference': ['page.css'],
        'mmreplk.mm.reports': ['page.html'],
        'mmreplk.ops.cpu': ['depthwise/*'],
        'mmreplk.weights': ['own/*'],
    },
    python_requires='>=3.10',
    # Neither torch nor a distribution of MMCV: a user has one of several of each, and pip would add another.
    install_requires=['numpy'],
    extras_require={
        # As in mmreplk/required.py.
        'torch': ['torch>=2.7'],
        'triton': ['triton>=3.6'],
        'serve': ['gradio>=6.31,<7'],
        'export': ['onnx>=1.17', 'onnxruntime>=1.20', 'onnxscript>=0.5'],
        'runtimes': ['onnx>=1.17', 'onnxruntime>=1.20', 'openvino>=2026.4'],
    },
)
