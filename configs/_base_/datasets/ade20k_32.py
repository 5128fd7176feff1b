# Whole images are tested, resized so that their sides are multiples of 32, the stride of the last features.
_base_ = 'ade20k.py'
to_multiple = dict(type='ResizeToMultiple', size_divisor=32)
test_pipeline = [*_base_.test_pipeline[:2], to_multiple, *_base_.test_pipeline[2:]]
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms.insert(1, [to_multiple])
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
