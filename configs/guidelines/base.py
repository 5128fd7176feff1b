# The paper's guidelines 2, 3 and 5 in minutes on a CPU: MobileNetV2 at half its width, CamVid at 192x144 pixels. The
# head looks at single pixels, so that all context comes from the backbone. Training crops have the size of the test
# images, so that each tap of a kernel that meets pixels in the test has met some in training. `published` is what the
# paper reports, at full width.
_base_ = [
    '../_base_/models/segmentor.py', '../_base_/datasets/camvid.py', '../_base_/schedules/adamw_160k.py'
]
crop_size = (144, 192)
max_iters = 300
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(type='LargeKernelMobileNetV2', widen_factor=0.5, norm_cfg=dict(type='SyncBN')),
    decode_head=dict(
        type='SegformerHead',
        in_channels=[16, 16, 48, 160],
        in_index=[0, 1, 2, 3],
        channels=64,
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=dict(type='SyncBN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss')))
train_pipeline = _base_.train_pipeline
train_pipeline[2].update(scale=(192, 144), ratio_range=(1.0, 2.0))
train_pipeline[3].crop_size = crop_size
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(192, 144), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')
]
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=30, end=max_iters)
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=200))
