_base_ = 'base.py'
model = dict(backbone=dict(kernel_sizes=13))
