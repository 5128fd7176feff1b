_base_ = 'base.py'
model = dict(backbone=dict(shortcuts=False))
