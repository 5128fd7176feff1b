# A small dataset in COCO's format, trained on by iterations: train/ and val/ beside annotations/instances_*.json.
_base_ = 'coco_instance.py'
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True),
    batch_sampler=None,
    dataset=dict(ann_file='annotations/instances_train.json', data_prefix=dict(img='train/')))
val_dataloader = dict(
    num_workers=2, dataset=dict(ann_file='annotations/instances_val.json', data_prefix=dict(img='val/')))
test_dataloader = val_dataloader
