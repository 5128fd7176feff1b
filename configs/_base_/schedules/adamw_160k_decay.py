# 160k iterations of 16 images, 8 GPUs x 2, with learning rates that fall towards the image, as ConvNeXt's.
_base_ = 'adamw_160k.py'
optim_wrapper = dict(
    optimizer=dict(lr=1e-4),
    constructor='LargeKernelLayerDecayConstructor',
    paramwise_cfg=dict(_delete_=True, decay_rate=0.9))
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160000)
]
