# A tiny RepLKNet with 31x31 kernels from scratch on real road scenes, within half an hour on 2 CPU cores.
_base_ = [
    '_base_/models/upernet_replknet_tiny.py', '_base_/datasets/camvid.py', '_base_/schedules/adamw_160k.py'
]
max_iters = 1500
model = dict(data_preprocessor=dict(size=(256, 256)), decode_head=dict(num_classes=11))
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=100, end=max_iters)
]
train_cfg = dict(max_iters=max_iters, val_interval=500)
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=500))
