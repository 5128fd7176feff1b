# Crops of 640x640, at the same scale as the smaller ones.
_base_ = 'ade20k.py'
crop_size = (640, 640)
train_pipeline = _base_.train_pipeline
train_pipeline[3].crop_size = crop_size
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
