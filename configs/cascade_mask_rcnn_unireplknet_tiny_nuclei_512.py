# The same end of a training by cascade_mask_rcnn_unireplknet_tiny_nuclei.py.
_base_ = ['cascade_mask_rcnn_replknet_tiny_nuclei_512.py', '_base_/models/unireplknet_tiny.py']
model = dict(
    backbone=dict(_delete_=True, **_base_.unireplknet_tiny, norm_cfg=_base_.model.backbone.norm_cfg),
    neck=dict(in_channels=_base_.unireplknet_tiny.arch.channels))
