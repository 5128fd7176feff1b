_base_ = 'base_surroundings.py'
model = dict(backbone=dict(arch=dict(large_kernel_sizes=[7, 7], small_kernel=None)))
