# The paper's guidelines 2 and 3 in minutes on a CPU: MobileNetV2 at half its width, as there, on pictures whose pale
# objects only the scene around them tells apart. The head looks at single pixels, so that all context comes from the
# backbone.
_base_ = '../kernel_sizes/base_surroundings.py'
model = dict(
    backbone=dict(
        _delete_=True, type='LargeKernelMobileNetV2', widen_factor=0.5, norm_cfg=dict(type='SyncBN')),
    decode_head=dict(in_channels=[16, 16, 48, 160], in_index=[0, 1, 2, 3]))
optim_wrapper = dict(optimizer=dict(lr=2e-3))
