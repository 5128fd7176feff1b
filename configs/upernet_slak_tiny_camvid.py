# A tiny SLaK with the recipe of upernet_replknet_tiny_camvid.py and at its cost, for comparison.
_base_ = 'upernet_replknet_tiny_camvid.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='SLaK',
        arch=dict(layers=[1, 1, 3, 1], channels=[40, 80, 160, 320], large_kernel_sizes=[51, 49, 47, 13]),
        drop_path_rate=0.1,
        layer_scale=1.0,
        norm_cfg=_base_.model.backbone.norm_cfg),
    decode_head=dict(in_channels=[40, 80, 160, 320]))
