_base_ = '../segmentation_runtime.py'

# 160k iterations of 32 images: 8 GPUs x 4.
#
# The official runs see as many images in fewer steps, with more GPUs and the same learning rate. A leaf's
# accumulative_counts says how many iterations here make one such step: the updates are those of the official run, with
# batch statistics over 32 images. For another number of images an iteration, --auto-scale-lr scales the learning rate.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0))
auto_scale_lr = dict(enable=False, base_batch_size=32)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1600),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1600, end=160000)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(interval=16000))
