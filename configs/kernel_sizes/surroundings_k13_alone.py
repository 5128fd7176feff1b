_base_ = 'base_surroundings.py'
model = dict(backbone=dict(arch=dict(large_kernel_sizes=[13, 13], small_kernel=None)))
