_base_ = 'base.py'
model = dict(backbone=dict(kernel_sizes=[3, 3, 3, 3, 3, 13, 13], small_kernel=3))
published = {'ImageNet top-1': 71.97, 'Cityscapes mIoU': 74.62}
