_base_ = 'base.py'
model = dict(backbone=dict(shortcuts=False))
published = {'ImageNet top-1': 68.67}
