"""The page of a measurement, of files as its parts write them on a GPU."""

import json

from mmreplk.benchmarks import benchmark_tables
from mmreplk.benchmarks.gpu_page import gpu_page

CASE = dict(n=16, c=128, h=128, k=31, precision='bfloat16')
LOG = """tests/ops/test_gpu.py::test_any_layout[sliced] PASSED [  3%]
tests/ops/test_gpu.py::test_shapes[(1, 7, 57, 75, 31, 31)-tf32] FAILED [  7%]
tests/ops/test_gpu.py::test_autocast PASSED  [ 10%]
tests/models/test_large_kernel.py::test_layer[31, 5] ERROR [ 12%]
E   AssertionError: PASSED is not what it says
"""


def row(rival, median, **more):
    return dict(CASE, rival=rival, what='forward', median_ms=median, error=1e-3, useful_tflops=200.,
                canary=[1, 1.02, 1.3], **more)


def form(name, median):
    return dict(part='backbone', form=name, batch=16, dtype='bfloat16', median_ms=median, images_per_s=9.,
                size=[512, 512], channels_last=False, compiled=False)


ROOFS = dict(bfloat16=dict(gemm_tflops=700.4, copy_gb_per_s=3000.2))
ENVIRONMENT = dict(device='A card', torch='2.13.0', triton=None)
FILES = dict(
    environment=dict(environment=ENVIRONMENT, roofs=ROOFS),
    compile=dict(compiled=[
        dict(CASE, kernel='a_kernel', tile=dict(DEPTH=4), seconds=.6, problem='PTXASError: too much'),
        dict(CASE, kernel='another_kernel', tile=dict(DEPTH=8), seconds=39.6, problem=None)
    ], descriptors=dict(forward=True, grad_weight=False)),
    operator_fast=dict(environment=ENVIRONMENT, results=[
        row('mmreplk', .35, predicted_ms=.306), row('torch', 9.5), row('torch native', 9.4), row('torch.fft', 4.2),
        dict(CASE, rival='wrong', error=.3), dict(CASE, rival='other', raised='RuntimeError: not here')
    ]),
    parts=dict(operator_fast=dict(status='out of time', seconds=90)),
    models=dict(environment=ENVIRONMENT, config='a_config.py', results=[form('folded', 25.), form('folded 3x3', 20.)]),
    pointwise=dict(pointwise=[dict(CASE, what='1x1', way='NCHW convolution', median_ms=1.)]),
)
LINES = """device A card, torch 2.13.0
| bfloat16 | 700 | 3e+03 |
2 kernels compiled in 40 s of a core; 1 failed.
- a_kernel {'DEPTH': 4}, bfloat16: PTXASError: too much
- forward works with tensor descriptors.
- grad_weight does not work with tensor descriptors.
Tests: 1 error, 1 failed, 2 passed.
- tests/ops/test_gpu.py::test_shapes[(1, 7, 57, 75, 31, 31)-tf32]
| operator_fast | out of time | 90 |
- wrong on 16,128,128,31: wrong by 3.0e-01
| 16,128,128,31 | bfloat16 | forward | 0.35 | 0.306 | torch.fft | 4.2 | 12.00 | 200 |  |
| backbone | folded | 16 | bfloat16 | 25.00 | 9 | 1.250 |
| 1x1 | NCHW convolution | 16,128,128 | bfloat16 | 1 |"""


def test_figures_stand_beside_predictions_rivals_and_roofs(tmp_path):
    for name, content in FILES.items():
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
    (tmp_path / 'tests.log').write_text(LOG)
    page = gpu_page(tmp_path)
    for line in LINES.splitlines():
        assert line in page.splitlines(), (line, page)
    assert 'not here' not in page, 'a rival that cannot do a case is no news'


def test_the_tables_of_the_docs_are_made_of_the_same_files(tmp_path):
    for name, content in FILES.items():
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
    tables = benchmark_tables(tmp_path)
    assert '## operator_fast' in tables and '## models' in tables and '27.1' in tables  # 9.5 / 0.35


def test_an_empty_folder_has_a_page(tmp_path):
    assert gpu_page(tmp_path)
