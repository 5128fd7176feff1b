# The end of a training by cascade_mask_rcnn_replknet_tiny_nuclei.py, whose checkpoint load_from names, on crops of
# 512x512: no map is smaller than its kernels are wide (docs/nuclei.md).
_base_ = 'cascade_mask_rcnn_replknet_tiny_nuclei.py'
train_pipeline = _base_.train_pipeline
train_pipeline[2].crop_size = (256, 256)
train_pipeline[3].scale = (512, 512)
train_pipeline[4].crop_size = (512, 512)
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
model = dict(
    train_cfg=dict(
        rcnn=[dict(stage, sampler=dict(stage.sampler, num=192)) for stage in _base_.model.train_cfg.rcnn]))
max_iters = 250
optim_wrapper = dict(optimizer=dict(lr=3e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=25),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=25, end=max_iters)
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
