# Boxes and masks in minutes on a CPU: a tiny RepLKNet with 31x31 kernels from scratch on the dataset that
# tools/dataset_converters/make_mini_dataset.py draws.
_base_ = [
    '_base_/models/cascade_mask_rcnn_replknet_tiny.py', '_base_/datasets/mini_coco.py',
    '_base_/schedules/adamw_small_detector.py'
]
max_iters = 240
model = dict(  # a picture has at most 8 shapes
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=200), rcnn=dict(max_per_img=100)))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=50, end=max_iters)
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20))
