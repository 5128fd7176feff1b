_base_ = 'base.py'
model = dict(backbone=dict(kernel_sizes=[3, 3, 3, 3, 3, 7, 7], small_kernel=3))
published = {'ImageNet top-1': 72.00, 'Cityscapes mIoU': 74.30}
