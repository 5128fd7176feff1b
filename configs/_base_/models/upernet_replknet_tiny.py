# A network with the kernel sizes of RepLKNet-31B, small enough to train on a CPU.
_base_ = 'upernet_replknet31b.py'
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            large_kernel_sizes=[31, 29, 27, 13],
            layers=[1, 1, 3, 1],
            channels=[32, 64, 128, 256],
            small_kernel=5),
        drop_path_rate=0.1,
        with_cp=False),
    decode_head=dict(in_channels=[32, 64, 128, 256], channels=64),
    auxiliary_head=None)
