_base_ = 'base.py'
model = dict(backbone=dict(kernel_sizes=13, small_kernel=3))
published = {'ImageNet top-1': 73.24, 'Cityscapes mIoU': 76.60}
