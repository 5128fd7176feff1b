# 36 epochs in steps of 16 images, 8 GPUs x 2, with learning rates that fall towards the image, as ConvNeXt's.
_base_ = 'adamw_3x.py'
optim_wrapper = dict(
    optimizer=dict(lr=1e-4),
    constructor='LargeKernelLayerDecayConstructor',
    paramwise_cfg=dict(_delete_=True, decay_rate=0.8))
auto_scale_lr = dict(base_batch_size=16)
