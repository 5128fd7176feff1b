_base_ = 'base_last.py'
model = dict(backbone=dict(arch=dict(large_kernel_sizes=[3, 3, 3, 13])))
