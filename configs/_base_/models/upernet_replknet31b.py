# UperNet on RepLKNet-31B, as in the paper's Section 4.2 and its appendix.
_base_ = 'upernet.py'
model = dict(
    backbone=dict(
        type='RepLKNet',
        arch='31B',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.5,
        norm_cfg=_base_.norm_cfg,
        with_cp=True),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512))
