_base_ = 'base.py'
model = dict(backbone=dict(kernel_sizes=13))
published = {'ImageNet top-1': 72.53, 'Cityscapes mIoU': 75.67}
