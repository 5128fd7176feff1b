_base_ = '../detection_runtime.py'

# 36 epochs in steps of 32 images: 8 GPUs x 4. The official files do not say how many GPUs their learning rate is for;
# it is twice what ConvNeXt uses for 16 images. For another number of images a step, --auto-scale-lr scales it.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0))
auto_scale_lr = dict(enable=False, base_batch_size=32)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=36, milestones=[27, 33], gamma=0.1)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=36, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
