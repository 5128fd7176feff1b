_base_ = 'base_tiny.py'
model = dict(backbone=dict(arch=dict(large_kernel_sizes=[25, 25, 25, 13], small_kernel=None)))
