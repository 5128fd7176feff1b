# UperNet on SLaK-T.
_base_ = 'upernet.py'
model = dict(
    backbone=dict(
        type='SLaK',
        arch='T',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.4,
        layer_scale=1.0,
        norm_cfg=_base_.norm_cfg,
        with_cp=True),
    decode_head=dict(in_channels=[124, 249, 499, 998]),
    auxiliary_head=dict(in_channels=499))
