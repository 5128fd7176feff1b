_base_ = 'base_surroundings.py'
model = dict(backbone=dict(arch=dict(large_kernel_sizes=[25, 25], small_kernel=5)))
