_base_ = 'base_tiny.py'
model = dict(backbone=dict(arch=dict(large_kernel_sizes=[31, 29, 27, 13], small_kernel=None)))
