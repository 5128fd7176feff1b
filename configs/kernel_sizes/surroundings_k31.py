_base_ = 'base_surroundings.py'
model = dict(backbone=dict(arch=dict(large_kernel_sizes=[31, 29], small_kernel=5)))
