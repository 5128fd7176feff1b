"""Exported networks as a user handles them: written, quantized, evaluated, refused."""

import json

import onnx
import pytest
import torch

from mmreplk import InputError
from mmreplk.mm.export.evaluation import build_onnx_segmentor
from mmreplk.mm.export.onnx_files import OnnxNetwork, need_onnx
from mmreplk.mm.export.quantization import quantize, training_images
from mmreplk.mm.runner import build_runner, close_runner
from tests.tools.processes import tool


@pytest.fixture(scope='module')
def files(cfg, saved, exported, tmp_path_factory):
    """The config, the checkpoint and the exported network in a folder."""
    folder = tmp_path_factory.mktemp('files')
    cfg.dump(folder / 'config.py')
    torch.save(saved, folder / 'trained.pth')
    (folder / 'float.onnx').write_bytes(exported.data)
    return folder


def test_a_file_is_evaluated_as_its_model(cfg, saved, files, tmp_path):
    report = tmp_path / 'report.json'
    result = tool('deployment/quantize.py', files / 'config.py', files / 'float.onnx', tmp_path / 'int8.onnx',
                  '--images', 2)
    assert result.returncode == 0 and f'{tmp_path}/int8.onnx: 0.' in result.stdout, result.stderr
    result = tool('deployment/test_onnx.py', files / 'config.py', files / 'float.onnx', tmp_path / 'int8.onnx',
                  '--work-dir', tmp_path, '--shape', 40, 48, '--rounds', 2, '--json', report)
    assert result.returncode == 0, result.stderr
    in_float, in_int8 = json.loads(report.read_text())['results']
    assert f'| float.onnx | {in_float["mib"]:.1f} | ' in result.stdout and len(in_int8['raw_ms']) == 2
    runner = build_runner(cfg)
    runner.model.load_state_dict(saved['state_dict'])
    expected = runner.test()
    close_runner(runner)
    assert in_float['metrics'] == pytest.approx(expected, abs=0.05)
    assert in_int8['metrics']['mIoU'] == pytest.approx(expected['mIoU'], abs=10)


def test_nothing_wrong_is_written(files, tmp_path):
    out = tmp_path / 'out.torchscript'
    arguments = ['deployment/export.py', files / 'config.py', files / 'trained.pth', '--out', out]
    result = tool(*arguments, '--tolerance', 1e-12)
    assert result.returncode == 2 and 'it is not written' in result.stderr and not list(tmp_path.iterdir())
    result = tool(*arguments)
    assert result.returncode == 0 and f'{out}: logits; 0.' in result.stdout and 'on noise:' in result.stdout
    result = tool(*arguments)
    assert result.returncode == 2 and '--force replaces it' in result.stderr


def test_quantization_leaves_out_what_is_named(cfg, files):
    data = quantize(files / 'float.onnx', training_images(cfg, 1), in_float=['*large_kernel*'])
    graph = onnx.load_from_string(data).graph
    nodes = {node.name: node for node in graph.node}
    makers = {output: node.op_type for node in graph.node for output in node.output}
    convolutions = {name: makers.get(node.input[1]) for name, node in nodes.items() if node.op_type == 'Conv'}
    kept = [name for name, maker in convolutions.items() if maker != 'DequantizeLinear']
    assert len(convolutions) > 10 and len(kept) == 2 and all('large_kernel' in name for name in kept)
    with pytest.raises(InputError, match=r"no node of the network is named '\*largekernel\*'"):
        quantize(files / 'float.onnx', training_images(cfg, 1), in_float=['*largekernel*'])


def test_files_that_are_no_such_network(cfg, files, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"'none.onnx' cannot be read: No such file"):
        OnnxNetwork.load('none.onnx')
    with pytest.raises(InputError, match=r'trained.pth cannot be run by onnxruntime'):
        OnnxNetwork.load(files / 'trained.pth')
    model = onnx.load(files / 'float.onnx')
    last = next(node for node in model.graph.node if 'logits' in node.output)
    model.graph.output[0].name = last.output[0] = 'labels'
    onnx.save(model, tmp_path / 'labels.onnx')
    with pytest.raises(InputError, match='labels.onnx.* gives labels, but an evaluation needs logits'):
        build_onnx_segmentor(cfg.model, str(tmp_path / 'labels.onnx'))
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None if name == 'onnxscript' else name)
    with pytest.raises(InputError, match=r'ONNX needs onnxscript: pip install onnxscript, or mmreplk\[export\]'):
        need_onnx()
