_base_ = 'base.py'
published = {'ImageNet top-1': 71.76, 'Cityscapes mIoU': 72.31}
