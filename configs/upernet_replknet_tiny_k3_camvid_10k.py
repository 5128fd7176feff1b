# 3x3 kernels with the recipe of upernet_replknet_tiny_camvid_10k.py, for comparison.
_base_ = 'upernet_replknet_tiny_camvid_10k.py'
model = dict(backbone=dict(arch=dict(large_kernel_sizes=[3, 3, 3, 3], small_kernel=3)))
