# ConvNeXt-T (from MMPretrain) with the recipe of cascade_mask_rcnn_replknet_tiny_nuclei.py, for comparison.
_base_ = 'cascade_mask_rcnn_replknet_tiny_nuclei.py'
custom_imports = dict(imports=['mmreplk', 'mmpretrain.models'])
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ConvNeXt',
        arch='tiny',
        out_indices=[0, 1, 2, 3],
        drop_path_rate=0.1,
        layer_scale_init_value=1.0,
        gap_before_final_norm=False),
    neck=dict(in_channels=[96, 192, 384, 768]))
