# ResNet-50 with the recipe of upernet_replknet_tiny_camvid_10k.py, for comparison.
_base_ = 'upernet_replknet_tiny_camvid_10k.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNetV1c',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 1, 1),
        strides=(1, 2, 2, 2),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
        contract_dilation=True),
    decode_head=dict(in_channels=[256, 512, 1024, 2048]))
