# The paper's study of kernel sizes (Section 3.2 and Table 5) at the width of RepLKNet-31B, UperNet on ADE20K. No
# pre-trained weights of the other sizes exist: all start from scratch unless a backbone.init_cfg names some.
_base_ = '../upernet_replknet31b_ade20k.py'
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            large_kernel_sizes=[31, 29, 27, 13],
            layers=[2, 2, 18, 2],
            channels=[128, 256, 512, 1024],
            small_kernel=5),
        init_cfg=None))
