# A tiny UniRepLKNet with the recipe of upernet_replknet_tiny_camvid.py and at about its cost, for comparison.
_base_ = ['upernet_replknet_tiny_camvid.py', '_base_/models/unireplknet_tiny.py']
model = dict(
    backbone=dict(_delete_=True, **_base_.unireplknet_tiny, norm_cfg=_base_.model.backbone.norm_cfg),
    decode_head=dict(in_channels=_base_.unireplknet_tiny.arch.channels))
