# Cell nuclei from scratch, boxes and masks, within 45 minutes on 2 CPU cores: a tiny RepLKNet with 31x31 kernels.
_base_ = [
    '_base_/models/cascade_mask_rcnn_replknet_tiny.py', '_base_/datasets/nuclei.py',
    '_base_/schedules/adamw_small_detector.py'
]
max_iters = 1250
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=100, end=max_iters)
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
tta_model = dict(tta_cfg=dict(max_per_img=500))
