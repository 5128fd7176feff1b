# The main job in minutes on a CPU: a tiny RepLKNet with 31x31 kernels from scratch on the dataset that
# tools/dataset_converters/make_mini_dataset.py draws.
_base_ = [
    '_base_/models/upernet_replknet_tiny.py', '_base_/datasets/mini_ade20k.py', '_base_/schedules/adamw_160k.py'
]
max_iters = 500
model = dict(data_preprocessor=dict(size=(128, 128)))
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=50, end=max_iters)
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
