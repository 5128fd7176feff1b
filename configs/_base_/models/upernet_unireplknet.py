# UperNet on UniRepLKNet-T.
_base_ = 'upernet.py'
model = dict(
    backbone=dict(
        type='UniRepLKNet', arch='T', out_indices=(0, 1, 2, 3), drop_path_rate=0.2, norm_cfg=_base_.norm_cfg),
    decode_head=dict(in_channels=[80, 160, 320, 640]),
    auxiliary_head=dict(in_channels=320))
