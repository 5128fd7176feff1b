_base_ = 'base_tiny.py'
model = dict(backbone=dict(arch=dict(large_kernel_sizes=[13, 13, 13, 13], small_kernel=5)))
