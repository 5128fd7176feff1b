# ResNet-50 with the recipe of cascade_mask_rcnn_replknet_tiny_nuclei.py, for comparison.
_base_ = 'cascade_mask_rcnn_replknet_tiny_nuclei.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        style='pytorch'),
    neck=dict(in_channels=[256, 512, 1024, 2048]))
