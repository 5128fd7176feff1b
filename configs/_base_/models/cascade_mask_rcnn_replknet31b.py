# Cascade Mask R-CNN on RepLKNet-31B, as in the paper's Section 4.3.
_base_ = 'cascade_mask_rcnn.py'
model = dict(
    backbone=dict(
        type='RepLKNet',
        arch='31B',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.6,
        norm_cfg=_base_.norm_cfg,
        with_cp=True),
    neck=dict(in_channels=[128, 256, 512, 1024]))
