_base_ = 'base_surroundings.py'
model = dict(backbone=dict(arch=dict(large_kernel_sizes=[3, 3], small_kernel=3)))
