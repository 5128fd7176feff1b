_base_ = '../segmentation_runtime.py'

# 160k iterations at a global batch of 32: 8 GPUs x 4 images.
#
# The official run is 64 GPUs x 2 images x 40k iterations with 400 of warm-up: 40k x 128 = 160k x 32 = 5.12M images, and
# 400 x 128 = 1600 x 32. Its learning rate, 2e-4, belongs to batch 128. By default it is used as it is, on any number of
# GPUs; with --auto-scale-lr it is scaled by (GPUs x images per GPU) / 128, so 8 x 4 gives 5e-5.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0))
auto_scale_lr = dict(enable=False, base_batch_size=128)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1600),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1600, end=160000)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(interval=16000))
