# The same end of a training by cascade_mask_rcnn_unireplknet_tiny_nuclei.py.
_base_ = 'cascade_mask_rcnn_replknet_tiny_nuclei_512.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='UniRepLKNet',
        arch=dict(layers=[1, 1, 3, 1], channels=[40, 80, 160, 320], kernel_sizes=[[3], [13], [13, 3, 13], [13]]),
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.1,
        norm_cfg=_base_.model.backbone.norm_cfg),
    neck=dict(in_channels=[40, 80, 160, 320]))
